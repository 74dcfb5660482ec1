"""The watcher's decision on each thread that a run starts, so that a run never has more than its limit.

The kernel stops the thread that calls clone, and asks through the descriptor of `seccomp.ask_for_threads`. A refused
thread fails with EAGAIN, which Python reports as "can't start new thread". Threads that start at the same moment may
exceed the limit, by one for each thread that starts one. The format of questions and answers is from linux/seccomp.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_QUESTION_BYTES = 80
_CONTINUE = 1


class ThreadGate:
    """Answers the kernel's questions about the threads of one process."""

    def __init__(self, listener: int, process: int, *, limit: int) -> None:
        self.listener = listener
        """Readable while a question waits."""
        self._process, self._limit = process, limit

    def answer(self) -> None:
        """Answer the question that waits; call it only if one does."""
        try:
            question = bytearray(_QUESTION_BYTES)
            fcntl.ioctl(self.listener, _RECEIVE, question, True)
            (number,) = struct.unpack_from("Q", question)
            is_full = len(os.listdir(f"/proc/{self._process}/task")) >= self._limit
            error, flags = (-errno.EAGAIN, 0) if is_full else (0, _CONTINUE)
            fcntl.ioctl(self.listener, _SEND, struct.pack("QqiI", number, 0, error, flags))
        except (FileNotFoundError, ProcessLookupError):
            # the thread that asked, or the whole process, has ended
            return

    def close(self) -> None:
        os.close(self.listener)
