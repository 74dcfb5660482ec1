"""How much disk space a run uses, in its scratch folder and in files that it has deleted but still holds."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from flyte_llama.flyte_eval.sandbox.limits import Limits

_BLOCK_BYTES = 512
_SECONDS_TO_STOP = 2
_STOPPED_OR_ENDED = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
# Address, permissions, offset, device and inode of a mapped file that was deleted.
_DELETED_MAP = rb"^\S+ \S+ \S+ \S+ (?P<inode>\d+) +%s/.* \(deleted\)$"


def exceeded_disk_limit(process: int, scratch: str, limits: Limits) -> str:
    """The limit on files or disk that a run exceeds now, in words; empty if it exceeds none."""
    try:
        try:
            size = _kept_bytes(scratch, limits)
        except FileNotFoundError:
            # it renames or removes folders meanwhile: count while it cannot
            with _stopped(process):
                size = _kept_bytes(scratch, limits)
    except _TooManyFilesError:
        return f"more than {limits.files:,} files"
    except OSError as error:
        return f"folders that cannot be listed ({error.strerror})"
    try:
        size += deleted_bytes(process, scratch, limits)
    except (FileNotFoundError, ProcessLookupError):
        return ""
    except OSError as error:
        return f"open files that cannot be listed ({error.strerror})"
    return f"more than {limits.disk_bytes:,} bytes of files" if size > limits.disk_bytes else ""


class _TooManyFilesError(Exception):
    """There are more files and folders than the limit."""


def _kept_bytes(scratch: str, limits: Limits) -> int:
    """The disk space of the files in a folder.

    Raises:
        FileNotFoundError: if a folder is removed or renamed meanwhile.
        OSError: if a folder cannot be listed.
        _TooManyFilesError: if there are more than the limit.
    """
    files = size = 0
    # Not os.walk, which is recursive in Python 3.11: a run may make folders deeper than the recursion limit.
    folders = [scratch]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                files += 1
                if files > limits.files:
                    raise _TooManyFilesError
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    size += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
    return size


@contextlib.contextmanager
def _stopped(process: int) -> Iterator[None]:
    """Stop a child process, all its threads, until the context ends; wait for it at most `_SECONDS_TO_STOP`."""
    os.kill(process, signal.SIGSTOP)
    try:
        end = time.monotonic() + _SECONDS_TO_STOP
        while os.waitid(os.P_PID, process, _STOPPED_OR_ENDED) is None and time.monotonic() < end:
            time.sleep(0.001)
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def deleted_bytes(process: int, scratch: str, limits: Limits) -> int:
    """The disk space of deleted files that a process still holds, open or mapped.

    A file that is mapped but not open counts with the most that it may have, since its size cannot be read.

    Raises:
        FileNotFoundError, ProcessLookupError: if the process has ended.
        OSError: if its files cannot be seen.
    """
    # All threads share open files and memory, but one that has ended shows none, and that may be the first.
    sizes: dict[int, int] = {}
    known, mapped = set[str](), b""
    for thread in os.listdir(f"/proc/{process}/task"):
        folder = f"/proc/{process}/task/{thread}"
        try:
            for descriptor in set(os.listdir(f"{folder}/fd")) - known:
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(f"{folder}/fd/{descriptor}")
                    known.add(descriptor)
                    if status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
                        sizes[status.st_ino] = status.st_blocks * _BLOCK_BYTES
            mapped = mapped or Path(f"{folder}/maps").read_bytes()
        except OSError:
            if not _has_ended(folder):
                raise
    pattern = re.compile(_DELETED_MAP % re.escape(os.fsencode(scratch)), re.MULTILINE)
    for match in pattern.finditer(mapped):
        sizes.setdefault(int(match["inode"]), limits.file_bytes)
    return sum(sizes.values())


def _has_ended(thread: str) -> bool:
    """True if a thread, by its folder in /proc, runs no more."""
    try:
        # the state comes after the name, which is in parentheses
        return Path(f"{thread}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return True
