"""Pin a source to a revision; list and read its files without a checkout.

    pin(source config) → PinnedSource        asks the remote
    open_tree(pinned)  → Tree                entries first, bytes on demand

A git source is pinned to a commit and an installed distribution to its version. Nothing here decides which
files are worth reading.
"""

from flyte_llama.sources.tree import Blob, Entry, PinnedSource, Tree, open_tree, pin

__all__ = ["Blob", "Entry", "PinnedSource", "Tree", "open_tree", "pin"]
