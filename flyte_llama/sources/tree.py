"""One way in, whatever the kind of source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flyte_llama.config import SourceConfig
from flyte_llama.config.location import is_package
from flyte_llama.sources.entry import Blob, Entry, PinnedSource, Tree
from flyte_llama.sources.git import open_git_tree
from flyte_llama.sources.git_remote import FETCH_TIMEOUT_S, LIST_TIMEOUT_S, pin_git
from flyte_llama.sources.package import PackageTree, pin_package

__all__ = ["Blob", "Entry", "PinnedSource", "Tree", "open_tree", "pin"]


def pin(source: SourceConfig, *, timeout_s: float = LIST_TIMEOUT_S) -> PinnedSource:
    """The source at the revision it has now; a remote has `timeout_s` seconds to say so.

    Raises:
        SourceError: if it cannot be reached, or the ref or distribution does not exist.
    """
    pinned = pin_package(source) if is_package(source.url) else pin_git(source, timeout_s=timeout_s)
    return pinned.model_copy(update={"accept_unknown_licence": source.accept_unknown_licence})


@contextmanager
def open_tree(pinned: PinnedSource, *, timeout_s: float = FETCH_TIMEOUT_S) -> Iterator[Tree]:
    """The files of a pinned source, readable until the context ends; a remote has `timeout_s` seconds to send them.

    Raises:
        SourceError: if the revision cannot be had, now or while reading.
    """
    if is_package(pinned.url):
        yield PackageTree(pinned)
    else:
        with open_git_tree(pinned, timeout_s=timeout_s) as tree:
            yield tree
