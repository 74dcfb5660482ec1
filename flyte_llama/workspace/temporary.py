"""Locks on folders, and temporary folders that outlive no process.

A lock says whether the owner of a folder is still alive: the system releases it when the process ends, however it ends.
So what a killed process left behind is recognised and removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flyte_llama.errors import DataError
from flyte_llama.storage import remove_tree

LOCK_FILE = ".lock"
HOST = re.sub(r"\W", "", socket.gethostname())[:40]
"""This machine, in the names of its temporary folders: a process number means nothing on another one."""

_TEMPORARY = re.compile(rf"flyte-llama-[a-z]+-{HOST}-(\d+)-\w+")
_SECONDS_TO_LOCK = 60.0
"""Longest time between making a folder and locking it."""

# Folder → the descriptor that holds its lock. Never closed: the system does that when the process ends.
_locks: dict[Path, int] = {}
# The temporary folders of this process, and the lock for the moment between making one and noting it.
_temporary: set[Path] = set()
_naming = threading.Lock()


def lock_folder(folder: Path, *, what: str) -> None:
    """Lock a folder for this process until it ends; a second call in the same process has no effect.

    Args:
        what: What to do if another process has it, as a sentence for the message.

    Raises:
        DataError: if another process has locked the folder.
    """
    folder = folder.resolve()
    if folder in _locks:
        return
    # Network file systems lock only a file that is open for writing.
    descriptor = _try_lock(os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666))
    if descriptor is None:
        raise DataError(f"{folder}: another process is using it. {what}")
    _locks[folder] = descriptor


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Yield a new folder that only this user can read, and remove it at the end.

    First removes the temporary folders that killed processes left, which may hold private code.

    Args:
        purpose: A word in lower case, for the folder's name.
    """
    with _naming:
        remove_stale_folders()
        folder = Path(tempfile.mkdtemp(prefix=f"flyte-llama-{purpose}-{HOST}-{os.getpid()}-"))
        _temporary.add(folder)
    descriptor = _try_lock(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
    try:
        yield folder
    finally:
        remove_tree(folder)
        _temporary.discard(folder)
        if descriptor is not None:
            os.close(descriptor)


def remove_stale_folders() -> None:
    """Remove what killed processes left in the temporary folder; every command begins with it."""
    for folder in stale_folders():
        remove_tree(folder)


def stale_folders() -> list[Path]:
    """The temporary folders of this user whose process on this machine has ended without removing them."""
    stale = []
    for path in Path(tempfile.gettempdir()).glob("flyte-llama-*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and not _is_in_use(path, int(match[1])) and _is_own_folder(path) and _is_unlocked(path):
            stale.append(path)
    return stale


def _try_lock(descriptor: int) -> int | None:
    """Lock an open file or folder and return its descriptor; if another process has the lock, close it, return None."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        # A file system without locks: work as if it were free.
        pass
    return descriptor


def _is_unlocked(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        if (descriptor := _try_lock(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))) is not None:
            os.close(descriptor)
            return True
    return False


def _is_in_use(folder: Path, process: int) -> bool:
    """Whether its process may be using the folder without a lock on it yet.

    The number alone does not tell: another process may have it by now.
    """
    if process == os.getpid():
        return folder in _temporary
    with contextlib.suppress(OSError):
        if time.time() - folder.stat().st_mtime > _SECONDS_TO_LOCK:
            return False
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _is_own_folder(path: Path) -> bool:
    """Whether it is a folder of this user, and no link to one."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return path.is_dir() and not path.is_symlink() and status.st_uid == os.getuid()
