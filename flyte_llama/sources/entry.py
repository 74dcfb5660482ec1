"""The records of a source: its pinned revision, the entries of its tree, and the bytes of one entry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from flyte_llama.config import Frozen, Selection

REGULAR_MODES = ("100644", "100755")
SYMLINK_MODE = "120000"
SUBMODULE_MODE = "160000"


class PinnedSource(Frozen):
    """A source at one revision: everything that decides which bytes are read."""

    name: str
    url: str

    ref: str
    """The full name of the pinned ref, as in `refs/heads/master`; empty for a bare commit or a package."""

    revision: str
    """A commit of 40 hex digits, or the version of a distribution."""

    accept_unknown_licence: bool = False
    """As configured: whether the source may be read even if it states no recognised licence."""

    dated: bool = False
    """Whether to find out when each file was first committed."""

    selection: Selection = Selection()
    """Which of its files are read."""

    @property
    def cache_name(self) -> str:
        """Names what is kept of the source for later runs.

        The two parts of a repository that is on both sides have different names, as they are read at the same time.
        """
        chosen = self.selection
        return self.url if chosen.is_whole or chosen.is_split else f"{self.url} part"


class Entry(NamedTuple):
    """One entry of a tree: a file, a symlink or a submodule, but not a folder."""

    path: str
    """Relative, with `/`; bytes that are not UTF-8 appear as `\\udcXX` surrogates."""

    mode: str
    """As git writes it: 100644 and 100755 are files, 120000 is a symlink, 160000 a submodule."""

    num_bytes: int
    key: str
    """Identifies the bytes for `Tree.read`."""


class Blob(NamedTuple):
    blob_id: str
    """git's object id of the bytes, the same wherever they come from."""

    data: bytes


class Tree(Protocol):
    """The files of a source at one revision."""

    committed: int
    """Committer time of the pinned commit, in seconds since 1970; 0 for a package."""

    def entries(self) -> Iterator[Entry]: ...

    def blob_id(self, entry: Entry) -> str:
        """Return git's object id of the entry's bytes, without reading them where possible."""
        ...

    def read(self, entry: Entry) -> Blob: ...

    def attributes(self, paths: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return path → attribute → `set`, `unset` or its text, for attributes that `.gitattributes` specifies."""
        ...


def git_blob_id(data: bytes) -> str:
    """Return the SHA-1 of `blob <length>\\0<data>`, as git computes it (git-hash-object)."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
