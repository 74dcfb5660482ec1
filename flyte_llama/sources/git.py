"""A git repository as a source: a bare depth-1 fetch of one commit, no checkout, blobs through `cat-file --batch`.

So symlinks, hooks, filters and odd file names of the repository never touch the file system. The user's own git
configuration (proxy, CA, `insteadOf`, credential helper) is honoured; git never prompts.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import git

from flyte_llama.config import SourceConfig
from flyte_llama.config.location import is_path
from flyte_llama.errors import SourceError
from flyte_llama.progress import say
from flyte_llama.sources.entry import SUBMODULE_MODE, Blob, Entry, PinnedSource

LIST_TIMEOUT_S = 120
FETCH_TIMEOUT_S = 3600
MAX_ENTRIES = 1_000_000
"""A tree of a few kilobytes can name 10**10 files; no real repository comes near this many."""

_PINNED_REF = "refs/flyte-llama/pinned"
# Of git and of curl below it; anything else, a missing repository say, fails again at a second try.
_TRANSIENT = re.compile(
    r"timeout|timed out|could not resolve|failed to connect|connection (refused|reset)|returned error: (429|5\d\d)|"
    r"early eof|unexpected disconnect|hung up|rpc failed",
    re.IGNORECASE,
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",
}
_OPTIONS = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.bigFileThreshold=1m",
    "gc.auto=0",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "transfer.fsckObjects=true",
]


def pin_git(source: SourceConfig) -> PinnedSource:
    """Ask the remote for its refs and resolve `source.ref`; a 40-hex commit is taken as it is."""
    url = _absolute(source.url)
    if source.ref and _COMMIT.fullmatch(source.ref):
        return PinnedSource(name=source.name, url=url, ref="", revision=source.ref)
    refs = _list_refs(url)
    ref = _full_ref(source, refs)
    # An annotated tag is listed twice: the tag object, and under `^{}` the commit it names.
    return PinnedSource(name=source.name, url=url, ref=ref, revision=refs.get(ref + "^{}", refs[ref]))


@contextmanager
def open_git_tree(pinned: PinnedSource) -> Iterator[GitTree]:
    with tempfile.TemporaryDirectory(prefix="flyte-llama-git-") as folder:
        # GitPython calls --template unsafe since a template may bring hooks; the empty one brings nothing.
        repo = git.Repo.init(folder, mkdir=False, bare=True, template="", allow_unsafe_options=True)
        repo.git.update_environment(**_ENVIRONMENT)
        try:
            _fetch(repo, pinned)
            tree = GitTree(repo, pinned)
            try:
                yield tree
            finally:
                tree.close()
        finally:
            repo.close()


class GitTree:
    """The tree of a fetched commit."""

    def __init__(self, repo: git.Repo, pinned: PinnedSource) -> None:
        self._repo, self._pinned = repo, pinned
        self._blobs = cast(subprocess.Popen, repo.git.cat_file("--batch", as_process=True, istream=subprocess.PIPE))

    def entries(self) -> Iterator[Entry]:
        listing: Any = self._repo.git.ls_tree("-r", "-z", "-l", "--full-tree", self._pinned.revision, as_process=True)
        for count, record in enumerate(_records(listing.stdout)):
            if count == MAX_ENTRIES:
                raise self._error(f"has more than {MAX_ENTRIES:,} files, so it is no source repository")
            meta, path = record.split(b"\t", 1)
            mode, _, blob_id, size = meta.decode().split()
            if size == "-" and mode != SUBMODULE_MODE:
                raise self._error(f"lacks object {blob_id}")
            num_bytes = 0 if size == "-" else int(size)
            yield Entry(path.decode("utf-8", "surrogateescape"), mode, num_bytes, blob_id)
        stderr = listing.stderr.read().decode(errors="replace").strip()
        if listing.proc.wait():
            raise self._error(f"cannot be listed: {stderr}")

    def read(self, entry: Entry) -> Blob:
        stdin, stdout = cast(IO[bytes], self._blobs.stdin), cast(IO[bytes], self._blobs.stdout)
        try:
            stdin.write(entry.key.encode() + b"\n")
            stdin.flush()
            header = stdout.readline().split()
        except BrokenPipeError:
            header = []
        if len(header) != 3 or header[1] != b"blob":
            raise self._error(f"lacks object {entry.key} of {entry.path!r}")
        size = int(header[2])
        data = stdout.read(size + 1)
        if len(data) != size + 1:
            raise self._error(f"ended within object {entry.key} of {entry.path!r}")
        return Blob(entry.key, data[:size])

    def close(self) -> None:
        cast(IO[bytes], self._blobs.stdin).close()
        cast(IO[bytes], self._blobs.stdout).close()
        self._blobs.wait()

    def _error(self, what: str) -> SourceError:
        return SourceError(f"{self._pinned.url} at {self._pinned.revision} {what}.")


def _list_refs(url: str) -> dict[str, str]:
    """Ref → object id, as the remote lists them, and `HEAD -> BRANCH` for the branch that its HEAD names."""
    runner = git.cmd.Git()
    runner.update_environment(**_ENVIRONMENT)
    try:
        # The timeout kills git; GitPython then reports it like any other failure.
        listed = str(runner(c=_OPTIONS).ls_remote("--symref", "--", url, kill_after_timeout=LIST_TIMEOUT_S))
    except git.GitCommandError as error:
        raise _failure(url, error) from None
    refs = {}
    for line in listed.splitlines():
        value, _, ref = line.partition("\t")
        if not value.startswith("ref: "):
            refs[ref] = value
        elif ref == "HEAD":
            refs["HEAD -> " + value.removeprefix("ref: ")] = value
    return refs


def _full_ref(source: SourceConfig, refs: dict[str, str]) -> str:
    if not any(_COMMIT.fullmatch(value) for value in refs.values()):
        raise SourceError(f"{source.url}: has no commit yet. Push one, or leave the source out.")
    if source.ref is None:
        head = next((ref.removeprefix("HEAD -> ") for ref in refs if ref.startswith("HEAD -> ")), "HEAD")
        if head not in refs:
            raise SourceError(f"{source.url}: its HEAD names no branch that exists. Give a ref: {_available(refs)}.")
        return head
    found = [ref for ref in (source.ref, f"refs/tags/{source.ref}", f"refs/heads/{source.ref}") if ref in refs]
    if not found:
        raise SourceError(f"{source.url}: has no ref {source.ref!r}. Available: {_available(refs)}.")
    if len(found) > 1:
        raise SourceError(f"{source.url}: {source.ref!r} is ambiguous. Write one of {', '.join(found)}.")
    return found[0]


def _available(refs: dict[str, str]) -> str:
    names = [ref.removeprefix("refs/heads/").removeprefix("refs/tags/") for ref in refs]
    names = [name for name in names if "refs/" not in name and not name.endswith("^{}") and "HEAD" not in name]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _fetch(repo: git.Repo, pinned: PinnedSource) -> None:
    say(f"fetching {pinned.name} at {pinned.revision[:12]}")
    failure = None
    # A server may refuse a commit that no ref names: then the ref is fetched and must still be that commit.
    for wanted in filter(None, (pinned.revision, pinned.ref)):
        try:
            repo.git(c=_OPTIONS).fetch(
                "--depth=1",
                "--no-tags",
                "--no-recurse-submodules",
                "--no-write-fetch-head",
                "--",
                pinned.url,
                f"+{wanted}:{_PINNED_REF}",
                kill_after_timeout=FETCH_TIMEOUT_S,
            )
        except git.GitCommandError as error:
            failure = failure or error
            continue
        got = repo.git.rev_parse(_PINNED_REF + "^{}")
        if got != pinned.revision:
            raise SourceError(f"{pinned.url}: {wanted} is now {got}, no longer {pinned.revision}. Run again.")
        if repo.git.cat_file("-t", got) != "commit":
            raise SourceError(f"{pinned.url}: {got} is no commit. Give the commit's 40 digits or a ref.")
        return
    raise _failure(pinned.url, cast(git.GitCommandError, failure)) from None


def _failure(url: str, error: git.GitCommandError) -> SourceError:
    """What git said, without credentials that the user's configuration may have put into a URL."""
    said = str(error.stderr).strip().removeprefix("stderr: ").strip("'\n ")
    said = re.sub(r"://[^/@\s]*@", "://", said)
    hint = "Check the URL, the ref and the network; git's own configuration decides on proxy and credentials."
    if "Timeout" in said or error.status == -9:
        hint = "The server did not answer in time."
    elif "dubious ownership" in said:
        hint = f"Its files belong to another user: git config --global --add safe.directory {url}"
    elif "could not read Username" in said or "Authentication failed" in said:
        hint = "It asks for credentials: set up git's credential helper."
    transient = error.status == -9 or _TRANSIENT.search(said) is not None
    return SourceError(f"{url}: git cannot read it: {said}. {hint}", transient=transient)


def _absolute(url: str) -> str:
    return os.path.abspath(os.path.expanduser(url)) if is_path(url) else url


def _records(stream: IO[bytes]) -> Iterator[bytes]:
    """NUL-terminated records of a stream, read a block at a time."""
    rest = b""
    while block := stream.read(1 << 16):
        *records, rest = (rest + block).split(b"\0")
        yield from records
