"""The nouns of a source: what it is pinned to, its entries, and the bytes of one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

REGULAR_MODES = ("100644", "100755")
SYMLINK_MODE = "120000"
SUBMODULE_MODE = "160000"


class PinnedSource(BaseModel):
    """A source at one revision: everything that decides which bytes are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    url: str

    ref: str
    """The full ref that was asked for, as in `refs/heads/master`; empty for a bare commit or a package."""

    revision: str
    """A 40-hex commit, or the version of a distribution."""

    accept_unknown_licence: bool = False
    """As configured: whether it may be read though it states no licence that is recognised."""

    dated: bool = False
    """Whether to find out when each of its files was first committed."""


class Entry(NamedTuple):
    """One entry of a tree that is no folder."""

    path: str
    """Relative, with `/`; bytes that are not UTF-8 stand as `\\udcXX` surrogates."""

    mode: str
    """As git writes it: 100644 and 100755 are files, 120000 a symlink, 160000 a submodule."""

    num_bytes: int
    key: str
    """What `Tree.read` needs to find the bytes."""


class Blob(NamedTuple):
    blob_id: str
    """git's object id of the bytes, the same wherever they come from."""

    data: bytes


class Tree(Protocol):
    committed: int
    """Committer time of the pinned commit in Unix seconds; 0 for a package."""

    def entries(self) -> Iterator[Entry]: ...

    def blob_id(self, entry: Entry) -> str:
        """git's object id of the entry's bytes, without reading them where that is possible."""
        ...

    def read(self, entry: Entry) -> Blob: ...

    def attributes(self, paths: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Path → attribute → `set`, `unset` or its text, as far as the tree's `.gitattributes` say something."""
        ...


def git_blob_id(data: bytes) -> str:
    """SHA-1 of `blob <length>\\0<data>`, as git computes it (git-hash-object)."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
