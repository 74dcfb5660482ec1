"""Pin a source to a revision; list and read its files without a checkout.

    pin(source config) → PinnedSource        asks the remote
    open_tree(pinned)  → Tree                lists entries, reads bytes on demand
    first_commits(pinned) → {path: time}     dates the first commit of each file
    read_history(pinned) → History           the same if the source is dated, and its root commits

A git source is pinned to a commit and an installed distribution to its version. Nothing here decides which
files are worth reading.
"""

from flyte_llama.sources.credential import GIT_HOST, GIT_TOKEN
from flyte_llama.sources.entry import Entry, PinnedSource, Tree
from flyte_llama.sources.history import History, RootCommits, first_commits, read_history
from flyte_llama.sources.ssh import SSH_KEY, SSH_KNOWN_HOSTS, is_ssh, ssh_problems
from flyte_llama.sources.tree import open_tree, pin
from flyte_llama.sources.user_config import resolve_url

__all__ = [
    "GIT_HOST",
    "GIT_TOKEN",
    "SSH_KEY",
    "SSH_KNOWN_HOSTS",
    "Entry",
    "History",
    "PinnedSource",
    "RootCommits",
    "Tree",
    "first_commits",
    "is_ssh",
    "open_tree",
    "pin",
    "read_history",
    "resolve_url",
    "ssh_problems",
]
