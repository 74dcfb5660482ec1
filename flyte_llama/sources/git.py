"""A git repository as a source: a bare depth-1 fetch of one commit, no checkout, blobs through `cat-file --batch`.

So symlinks, hooks, filters and odd file names of the repository never touch the file system. git checks the commit and
its trees during the fetch (`transfer.fsckObjects`), so a malformed one fails there, before it can do harm.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from flyte_llama.errors import SourceError
from flyte_llama.progress import say
from flyte_llama.sources.entry import SUBMODULE_MODE, Blob, Entry, PinnedSource
from flyte_llama.sources.git_process import GitProcess, read_records, run_git
from flyte_llama.sources.git_remote import FETCH_TIMEOUT_S, fetch, new_repository
from flyte_llama.workspace import temporary_folder

MAX_ENTRIES = 1_000_000
"""Limit on files and folders. A tree of a few kilobytes can name 10**10 of them; real repositories have far fewer."""

MAX_LISTING_BYTES = 1 << 28
"""Limit on all paths together. Nested folders of a few megabytes can have terabytes of paths."""

MAX_BLOB_BYTES = 100 << 20
"""Limit on a file, which is read into memory whole. GitHub does not accept larger ones."""

ATTRIBUTES_TIMEOUT_S = 60

_FOLDER_MODE = "040000"


@contextmanager
def open_git_tree(pinned: PinnedSource, *, timeout_s: float = FETCH_TIMEOUT_S) -> Iterator[GitTree]:
    """Fetch a pinned commit into a temporary repository, and yield its tree."""
    with temporary_folder("git") as folder:
        new_repository(folder)
        say(f"fetching {pinned.name} at {pinned.revision[:12]}")
        fetch(folder, pinned, timeout_s=timeout_s)
        tree = GitTree(folder, pinned)
        try:
            yield tree
        finally:
            tree.close()


class GitTree:
    """The tree of a fetched commit."""

    committed: int

    def __init__(self, folder: Path, pinned: PinnedSource) -> None:
        self._folder, self._pinned = folder, pinned
        output, result = run_git("rev-list", "--max-count=1", "--timestamp", pinned.revision, folder=folder)
        if result.status:
            raise self._error(f"cannot be read: {result.stderr}")
        self.committed = int(output.split()[0])
        self._blobs = GitProcess("cat-file", "--batch", folder=folder, stdin=True)

    def entries(self) -> Iterator[Entry]:
        # -t lists folders too: a tree of nothing but empty folders must also run into the limit.
        command = ("ls-tree", "-r", "-t", "-z", "-l", "--full-tree", self._pinned.revision)
        with GitProcess(*command, folder=self._folder) as listing:
            try:
                for count, record in enumerate(read_records(listing.stdout, max_bytes=MAX_LISTING_BYTES)):
                    if count == MAX_ENTRIES:
                        raise OverflowError(f"more than {MAX_ENTRIES:,} files and folders")
                    meta, _, path = record.decode("utf-8", "surrogateescape").partition("\t")
                    mode, _, blob_id, size = meta.split()
                    if mode == _FOLDER_MODE:
                        continue
                    if size == "-" and mode != SUBMODULE_MODE:
                        raise self._error(f"lacks object {blob_id}")
                    yield Entry(path, mode, 0 if size == "-" else int(size), blob_id)
            except OverflowError as error:
                raise self._error(f"lists {error}, so it is not a source repository") from None
            result = listing.finish()
            if result.status:
                raise self._error(f"cannot be listed: {result.stderr or f'git ended with {result.status}'}")

    def blob_id(self, entry: Entry) -> str:
        return entry.key

    def read(self, entry: Entry) -> Blob:
        if entry.num_bytes > MAX_BLOB_BYTES:
            raise self._error(f"has {entry.num_bytes:,} bytes in {entry.path!r}, too many to read")
        header: list[bytes] = []
        with contextlib.suppress(BrokenPipeError):
            self._blobs.stdin.write(entry.key.encode() + b"\n")
            self._blobs.stdin.flush()
            header = self._blobs.stdout.readline().split()
        expected = [entry.key.encode(), b"blob", b"%d" % entry.num_bytes]
        if header != expected:
            raise self._error(f"lacks object {entry.key} of {entry.path!r}")
        data = self._blobs.stdout.read(entry.num_bytes + 1)
        if len(data) != entry.num_bytes + 1 or data[-1:] != b"\n":
            raise self._error(f"ended within object {entry.key} of {entry.path!r}")
        return Blob(entry.key, data[:-1])

    def attributes(self, paths: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
        # Through an index, because git before 2.40 cannot read attributes from a tree.
        index = {"GIT_INDEX_FILE": str(self._folder / "attributes-index")}
        any_name = ("core.protectNTFS=false", "core.protectHFS=false")
        _, result = run_git("read-tree", self._pinned.revision, folder=self._folder, config=any_name, environment=index)
        if result.status:
            raise self._error(f"cannot be indexed: {result.stderr}")
        command = ("check-attr", "--cached", "--stdin", "-z", *names)
        query = b"".join(path.encode("utf-8", "surrogateescape") + b"\0" for path in paths)
        attributes: dict[str, dict[str, str]] = {}
        with GitProcess(
            *command, folder=self._folder, timeout_s=ATTRIBUTES_TIMEOUT_S, environment=index, stdin=True
        ) as process:
            # git answers while it still reads paths. Without the thread, both sides could wait on a full pipe.
            writer = threading.Thread(target=_write, args=(process.stdin, query), daemon=True)
            writer.start()
            answers = read_records(process.stdout, max_bytes=MAX_LISTING_BYTES)
            for path, name, value in zip(answers, answers, answers, strict=False):
                if value != b"unspecified":
                    path_attributes = attributes.setdefault(path.decode("utf-8", "surrogateescape"), {})
                    path_attributes[name.decode()] = value.decode("utf-8", "replace")
            writer.join()
            result = process.finish()
        if result.status:
            raise self._error(
                "has .gitattributes that git cannot evaluate in time" if result.timed_out else result.stderr
            )
        return attributes

    def close(self) -> None:
        self._blobs.close()

    def _error(self, problem: str) -> SourceError:
        return SourceError(f"{self._pinned.url} at {self._pinned.revision} {problem}.")


def _write(stream: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ValueError), stream:
        stream.write(data)
