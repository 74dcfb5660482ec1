"""The history of a pinned source: when each file first appeared, and the root commits, which tell copies of it.

The history is fetched into a separate repository, so that the repository that contents are read from is always
complete. Dates need it without file contents (`--filter=blob:none`), and a server without filters sends the contents
too. Root commits need the commits alone (`--filter=tree:0`); of a server without filters they stay unknown, unless the
source is dated. A package has no history. Nothing here decides which files are new enough, or what a copy is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from flyte_llama.config import Frozen
from flyte_llama.config.source_url import is_package, is_path
from flyte_llama.errors import SourceError
from flyte_llama.progress import say
from flyte_llama.sources.entry import PinnedSource, git_blob_id
from flyte_llama.sources.git import MAX_ENTRIES, MAX_LISTING_BYTES
from flyte_llama.sources.git_process import GitProcess, read_records, run_git
from flyte_llama.sources.git_remote import FETCH_TIMEOUT_S, fetch_pinned, git_error, new_repository
from flyte_llama.sources.user_config import resolve_url
from flyte_llama.workspace import temporary_folder

MAX_CHANGES = 10 * MAX_ENTRIES
"""Limit on changed files, summed over the commits."""

MAX_ROOTS = 10_000
"""Limit on root commits. The largest monorepos were merged from hundreds of repositories."""

_COMMITS_TIMEOUT_S = 600
# git's warning, before it receives anything, that the server will send files and folders too.
_NO_FILTER = "filtering not recognized"
_MAX_LOG_BYTES = 20 * MAX_LISTING_BYTES

# Every commit once, including merged branches, parents before children. A merge lists only files that differ from all
# its parents (-c): the rest came with a commit of one parent. A rename appears as a deletion and an addition.
_LOG = ("log", "--topo-order", "--reverse", "--full-history", "--format=commit %at %ct")
_DIFF = ("-c", "--raw", "-z", "--no-abbrev", "--no-renames")
_SHOW_ALL = ("log.showRoot=true", "log.showSignature=false")
# A colon, an old mode, an old id and a letter for each parent; one new mode and id.
_CHANGE = re.compile(rb"\n?:+(?:\d{6} )+((?:[0-9a-f]{40} )+)[A-Z]+")
_NO_FILE = b"0" * 40
# The id of an empty file. Sharing it does not show that one file came from another.
_EMPTY = git_blob_id(b"").encode()


class _Change(NamedTuple):
    path: bytes
    old: list[bytes]
    """Object id at this path in each parent; `_NO_FILE` if there is no file."""

    new: bytes


class RootCommits(Frozen):
    """The commits without parents in the history of a source: every copy and fork of a repository shares them."""

    own: str = ""
    """The root of the main line: the repository's first commit. Empty for a package, or if it is not known."""

    merged: tuple[str, ...] = ()
    """The roots of histories that were merged into the main line, such as of other repositories; sorted."""

    problem: str = ""
    """Why the roots are not known; empty if they are."""


class History(NamedTuple):
    first_commits: dict[str, int]
    """As `first_commits` returns it; empty if the source is not dated."""

    roots: RootCommits


def read_history(pinned: PinnedSource, *, timeout_s: float = FETCH_TIMEOUT_S) -> History:
    """Return the root commits of a source and, if it is dated, the first commit of each file.

    Raises:
        SourceError: if the source is dated and the complete history cannot be fetched, or if the network fails.
    """
    if is_package(pinned.url):
        return History({}, RootCommits())
    if not pinned.dated:
        return History({}, _fetch_roots(pinned, min(timeout_s, _COMMITS_TIMEOUT_S)))
    with _fetched_history(pinned, timeout_s) as folder:
        return History(_first_commits(folder, pinned, timeout_s), _root_commits(folder, pinned, timeout_s))


def first_commits(pinned: PinnedSource, *, timeout_s: float = FETCH_TIMEOUT_S) -> dict[str, int]:
    """Return path → time of the first commit with a file at this path, or with the same bytes at any path.

    Times are in seconds since 1970. A commit's time is the earlier of its author's and its committer's. An exact rename
    or copy does not make a file younger: it is as old as its original. A rename with an edit in the same commit does.
    The result has every entry of the pinned tree, paths written as in `Entry`; it is empty for a package.

    Raises:
        SourceError: if the complete history cannot be fetched.
    """
    if is_package(pinned.url):
        return {}
    with _fetched_history(pinned, timeout_s) as folder:
        return _first_commits(folder, pinned, timeout_s)


def _first_commits(folder: Path, pinned: PinnedSource, timeout_s: float) -> dict[str, int]:
    try:
        paths, contents = _first_times(_commits(folder, pinned, timeout_s))
        entries = dict(_entries(folder, pinned))
    except OverflowError as error:
        raise SourceError(f"{pinned.url}: its history has {error}, so it is not a source repository.") from None
    unknown = next(
        (path for path, object_id in entries.items() if path not in paths or object_id not in contents), None
    )
    if unknown is not None:
        raise SourceError(f"{pinned.url} at {pinned.revision}: its history does not show where {unknown!r} came from.")
    return {
        path.decode("utf-8", "surrogateescape"): min(paths[path], contents[object_id])
        for path, object_id in entries.items()
    }


def _fetch_roots(pinned: PinnedSource, timeout_s: float) -> RootCommits:
    """Fetch the commits alone, and return the roots; a history that cannot be had is no error here.

    Raises:
        SourceError: if the network fails, so that a retry may succeed.
    """
    try:
        with _fetched_history(pinned, timeout_s, commits_only=True) as folder:
            return _root_commits(folder, pinned, timeout_s)
    except SourceError as error:
        if _NO_FILTER in error.message:
            return RootCommits(problem="its server does not send commits without files")
        if "did not answer in time" in error.message:
            return RootCommits(problem=f"its commits took more than {timeout_s:g} s to fetch")
        if error.transient:
            raise
        return RootCommits(problem=error.message)


def _root_commits(folder: Path, pinned: PinnedSource, timeout_s: float) -> RootCommits:
    command = ("rev-list", "--max-parents=0", f"--max-count={MAX_ROOTS + 1}")
    roots = []
    for options in (("--first-parent",), ()):
        output, result = run_git(*command, *options, pinned.revision, "--", folder=folder, timeout_s=timeout_s)
        if result.status:
            raise git_error(pinned.url, result)
        roots.append(output.decode().split())
    (own,), every = roots
    if len(every) > MAX_ROOTS:
        return RootCommits(problem=f"its history has more than {MAX_ROOTS:,} roots")
    return RootCommits(own=own, merged=tuple(sorted(set(every) - {own})))


def _first_times(commits: Iterator[tuple[int, list[_Change]]]) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """Return path → time and object id → time, the earliest of each."""
    paths: dict[bytes, int] = {}
    contents: dict[bytes, int] = {}
    for time, changes in commits:
        # a deleted file passes its age on to the same bytes at another path in this commit
        moved: dict[bytes, int] = {}
        for path, old, new in changes:
            if new == _NO_FILE:
                for object_id in old:
                    moved[object_id] = min(moved.get(object_id, time), paths.get(path, time))
        # a file that no parent has may be a rename or a copy: it is then as old as its original
        for path, old, new in changes:
            if new == _NO_FILE:
                continue
            first = time
            if new != _EMPTY and all(object_id == _NO_FILE for object_id in old):
                first = min(time, moved.get(new, time), contents.get(new, time))
            paths[path] = min(paths.get(path, first), first)
            contents[new] = min(contents.get(new, time), time)
    return paths, contents


@contextmanager
def _fetched_history(pinned: PinnedSource, timeout_s: float, *, commits_only: bool = False) -> Iterator[Path]:
    """Fetch the history into a temporary repository, and yield its folder.

    Args:
        commits_only: Fetch neither files nor folders; fails if the server would send them.
    """
    with temporary_folder("git") as folder:
        new_repository(folder)
        say(f"fetching the {'commits' if commits_only else 'history'} of {pinned.name} up to {pinned.revision[:12]}")
        _fetch_history(folder, pinned, timeout_s, commits_only=commits_only)
        yield folder


def _fetch_history(folder: Path, pinned: PinnedSource, timeout_s: float, *, commits_only: bool) -> None:
    # Switch off git's checks: old commits are often malformed, and no file is ever written from them.
    config = ("fetch.fsckObjects=false", "transfer.fsckObjects=false")
    # Accept a shallow clone here to report it below: git log would take its oldest commit as adding every file.
    options = ["--filter=tree:0" if commits_only else "--filter=blob:none", "--update-shallow"]
    address = resolve_url(pinned.url)
    if is_path(address) or address.startswith("file://"):
        # A server decides whether it filters; for a repository on this machine, this option decides.
        options.append("--upload-pack=git -c uploadpack.allowFilter=true upload-pack")
    # If the ref was fetched, it may have moved since: the commit should still be part of its history.
    stop_at = _NO_FILTER if commits_only else ""
    fetch_pinned(folder, pinned, *options, timeout_s=timeout_s, config=config, stop_at=stop_at)
    shallow, _ = run_git("rev-parse", "--is-shallow-repository", folder=folder)
    if shallow.strip() != b"false":
        raise SourceError(f"{pinned.url}: its history is cut off. Make it a full clone: git fetch --unshallow.")
    _, result = run_git("cat-file", "-e", pinned.revision + "^{commit}", folder=folder)
    if result.status:
        raise SourceError(f"{pinned.url}: {pinned.revision} is no longer part of {pinned.ref}. Run again.")


def _entries(folder: Path, pinned: PinnedSource) -> Iterator[tuple[bytes, bytes]]:
    """Yield path and object id of every file, symlink and submodule of the pinned tree."""
    with GitProcess("ls-tree", "-r", "-t", "-z", "--full-tree", pinned.revision, folder=folder) as listing:
        for count, record in enumerate(read_records(listing.stdout, max_bytes=MAX_LISTING_BYTES)):
            if count == MAX_ENTRIES:
                raise OverflowError(f"more than {MAX_ENTRIES:,} files and folders")
            meta, path = record.split(b"\t", 1)
            _, kind, object_id = meta.split(b" ")
            if kind != b"tree":
                yield path, object_id
        result = listing.finish()
        if result.status:
            raise git_error(pinned.url, result)


def _commits(folder: Path, pinned: PinnedSource, timeout_s: float) -> Iterator[tuple[int, list[_Change]]]:
    """Yield time and changed files of every commit, parents first."""
    command = (*_LOG, *_DIFF, pinned.revision, "--")
    with GitProcess(*command, folder=folder, timeout_s=timeout_s, config=_SHOW_ALL) as log:
        time, changes, count = 0, list[_Change](), 0
        # NUL-terminated: `commit AUTHOR_TIME COMMITTER_TIME`, then a line and a path for each changed file.
        parts = read_records(log.stdout, max_bytes=_MAX_LOG_BYTES)
        for part in filter(None, parts):
            if part.startswith(b"commit "):
                yield time, changes
                time, changes = min(map(int, part.split()[1:])), []
                continue
            line, path = _CHANGE.fullmatch(part), next(parts, b"")
            if line is None:
                raise SourceError(f"{pinned.url}: git log wrote {part[:200]!r}, which cannot be parsed.")
            count += 1
            if count > MAX_CHANGES:
                raise OverflowError(f"more than {MAX_CHANGES:,} changes")
            *old, new = line[1].split()
            changes.append(_Change(path, old, new))
        result = log.finish()
        if result.status:
            raise git_error(pinned.url, result)
        yield time, changes
