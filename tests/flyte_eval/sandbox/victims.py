"""What attacks aim at: a file, a process, queues, semaphores, memory and sockets, made by the user that attacks.

`Victims` makes them, tells whether they are as they were, and removes them.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import flyte_llama.flyte_eval

SECRET = "a secret"  # noqa: S105  # not a real one
_CREATE, _REMOVE, _STAT = 0o1600, 0, 2
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.shmat.restype = ctypes.c_void_p
_SEM_GETVAL, _SEM_SETVAL = 12, 16


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Victims:
    """A context with victims; the attributes are JSON values, so that they can be sent to an attack."""

    def __enter__(self) -> Victims:
        self._closing = contextlib.ExitStack()
        self.folder = self._closing.enter_context(tempfile.TemporaryDirectory())
        self.file = f"{self.folder}/file"
        Path(self.file).write_text(SECRET)
        os.chmod(self.file, 0o644)
        os.utime(self.file, (1, 1))
        self.has_attributes = True
        try:
            os.setxattr(self.file, "user.secret", SECRET.encode())
        except OSError:
            self.has_attributes = False

        # a process that has the file open
        with open(self.file) as opened:
            program = [sys.executable, "-c", "import time\ntime.sleep(1000)"]
            self._process = subprocess.Popen(program, stdin=opened, cwd=self.folder)
        self._closing.callback(self._process.wait)
        self._closing.callback(self._process.kill)
        self.process = self._process.pid

        # System V and POSIX objects
        self.queue = _checked(_LIBC.msgget(0, _CREATE))
        self._closing.callback(_LIBC.msgctl, self.queue, _REMOVE, None)
        _checked(_LIBC.msgsnd(self.queue, struct.pack("l9s", 1, SECRET.encode()), 9, 0))
        self.semaphore = _checked(_LIBC.semget(0, 1, _CREATE))
        self._closing.callback(_LIBC.semctl, self.semaphore, 0, _REMOVE)
        self.memory = _checked(_LIBC.shmget(0, 4096, _CREATE))
        self._closing.callback(_LIBC.shmctl, self.memory, _REMOVE, None)
        self.posix_queue = f"/{Path(self.folder).name}"
        os.close(_checked(_librt().mq_open(self.posix_queue.encode(), os.O_CREAT | os.O_RDWR, 0o600, None)))
        self._closing.callback(_librt().mq_unlink, self.posix_queue.encode())

        # sockets that count who comes
        self._stream = self._closing.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._stream.setblocking(False)
        self.port = self._stream.getsockname()[1]
        self._datagrams = self._closing.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.address = f"{self.folder}/socket"
        self._datagrams.bind(self.address)
        self._datagrams.setblocking(False)

        # files of others: documentation of the system, a package that is not imported, this package's answers
        self.documentation = next(
            os.path.join(folder, files[0]) for folder, _, files in os.walk("/usr/share/doc") if files
        )
        self.package = getattr(importlib.util.find_spec("hypothesis"), "origin", "")
        self.answers = str(Path(flyte_llama.flyte_eval.__file__).with_name("small_set") / "temperatures.py.txt")
        self._before = self.state()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def fields(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def state(self) -> dict[str, Any]:
        """All that an attack could change."""
        status = os.stat(self.file)
        info = ctypes.create_string_buffer(1024)
        return {
            "names": sorted(os.listdir(self.folder)),
            "content": Path(self.file).read_text(),
            "mode": (status.st_mode, status.st_mtime, status.st_nlink),
            "attributes": os.listxattr(self.file) if self.has_attributes else [],
            "process runs": self._process.poll() is None,
            "process": (os.getpriority(os.PRIO_PROCESS, self.process), os.sched_getaffinity(self.process)),
            "limits": Path(f"/proc/{self.process}/limits").read_text() if self._process.poll() is None else "",
            "queue": (_LIBC.msgctl(self.queue, _STAT, info), info.raw),
            "semaphore": _LIBC.semctl(self.semaphore, 0, _SEM_GETVAL),
            "memory": _LIBC.shmctl(self.memory, _STAT, info),
            "posix queue": self._posix_queue_exists(),
            "visitors": [self._came(self._stream.accept), self._came(lambda: self._datagrams.recv(100))],
        }

    def harm(self) -> list[str]:
        """What is not as it was."""
        return [name for name, value in self.state().items() if value != self._before[name]]

    def _posix_queue_exists(self) -> bool:
        descriptor = _librt().mq_open(self.posix_queue.encode(), os.O_RDWR)
        if descriptor >= 0:
            os.close(descriptor)
        return descriptor >= 0

    def _came(self, receive: Any) -> bool:
        try:
            return bool(receive())
        except BlockingIOError:
            return False


def _librt() -> ctypes.CDLL:
    # part of libc in newer versions
    with contextlib.suppress(OSError):
        return ctypes.CDLL("librt.so.1", use_errno=True)
    return _LIBC
