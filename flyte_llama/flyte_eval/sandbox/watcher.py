"""The watcher of one run: starts it, enforces the limits that the kernel does not, ends it, tells its outcome.

No wait is without a limit, whatever the run does. The two share a pair of sockets: unlike a pipe, the run cannot open
it again to read what it wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flyte_llama.flyte_eval.sandbox.kernel import prctl
from flyte_llama.flyte_eval.sandbox.limits import Limits
from flyte_llama.flyte_eval.sandbox.threads import ThreadGate
from flyte_llama.flyte_eval.sandbox.usage import exceeded_disk_limit
from flyte_llama.storage import remove_tree

PR_SET_PDEATHSIG = 1
VALUE, END, ERROR = "value", "end", "error"
"""Kinds of lines that a run writes: any number of values, then an end or an error."""

SECONDS_TO_START, SECONDS_TO_END = 60, 2
"""The longest waits for a run that starts, and for one that has closed its output."""

_RUN_PREFIX = "run-"  # of a scratch folder's name
_SECONDS_BETWEEN_CHECKS = 0.1
_WNOWAIT_EXITED = os.WEXITED | os.WNOHANG | os.WNOWAIT


def watch_run(start: Callable[[str, socket.socket], None], limits: Limits) -> dict[str, Any]:
    """Start a run in a new process, and return the fields of its `Outcome`.

    Args:
        start: Called in the new process with the path of its scratch folder and its socket; never returns.

    Raises:
        EOFError: if the run had not read its whole request in time; the rest would be taken for the next request.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # the kernel names mapped files without links
    scratch = os.path.realpath(tempfile.mkdtemp(prefix=_RUN_PREFIX))
    channel, of_run = socket.socketpair()
    child = os.fork()
    if child == 0:
        channel.close()
        start(scratch, of_run)
    of_run.close()
    gate = None
    try:
        gate = ThreadGate(_receive_listener(channel), child, limit=limits.threads)
        written, reason = _watch(child, channel, gate, limits, scratch)
    finally:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        channel.close()
        if gate is not None:
            gate.close()
        remove_tree(Path(scratch))
    return _outcome_fields(written, reason, status)


def send_listener(descriptor: int, listener: int) -> None:
    """Tell the watcher that the request is read, and hand over the descriptor of `seccomp.ask_for_threads`.

    Args:
        descriptor: Of the run's socket; it stays open.
    """
    with socket.socket(fileno=os.dup(descriptor)) as channel:
        socket.send_fds(channel, [b"\n"], [listener])


def _receive_listener(channel: socket.socket) -> int:
    """The descriptor that the run hands over, before any code runs that nobody has reviewed.

    Raises:
        EOFError: if it does not come in time.
    """
    if select.select([channel], [], [], SECONDS_TO_START)[0]:
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        if descriptors:
            return descriptors[0]
    raise EOFError("the run had not read its whole request in time")


def _watch(child: int, channel: socket.socket, gate: ThreadGate, limits: Limits, scratch: str) -> tuple[bytes, str]:
    """The bytes that the run wrote, and the limit that it exceeded; empty if it ended within all limits."""
    written = b""
    now = time.monotonic()
    end, next_check = now + limits.wall_s, now + _SECONDS_BETWEEN_CHECKS
    poll = select.poll()
    for descriptor in (channel.fileno(), gate.listener):
        poll.register(descriptor, select.POLLIN)
    while True:
        events = dict(poll.poll(max(0.0, next_check - time.monotonic()) * 1000))
        if event := events.get(gate.listener):
            # without POLLIN there is no question, and waiting for one would have no limit: the run has ended
            gate.answer() if event & select.POLLIN else poll.unregister(gate.listener)
        if channel.fileno() in events:
            # urgent data wakes the poll, but is none that can be received here
            with contextlib.suppress(BlockingIOError):
                part = channel.recv(1 << 16, socket.MSG_DONTWAIT)
                written += part
                if not part:
                    return written, "" if _has_ended(child) else "it closed its output and kept running"
            if len(written) > limits.output_bytes:
                return written[: limits.output_bytes], f"more than {limits.output_bytes:,} bytes of output"
        # checks take time, so they come at their times alone, not with each event
        if time.monotonic() < next_check:
            continue
        if time.monotonic() > end:
            return written, f"more than {limits.wall_s:g} s"
        if exceeded := exceeded_disk_limit(child, scratch, limits):
            return written, exceeded
        next_check = time.monotonic() + _SECONDS_BETWEEN_CHECKS


def _has_ended(child: int) -> bool:
    """True if the child ends within `SECONDS_TO_END`; leaves its status for `waitpid`."""
    end = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, _WNOWAIT_EXITED) is not None:
            return True
        time.sleep(0.01)
    return False


def _outcome_fields(written: bytes, reason: str, status: int) -> dict[str, Any]:
    """The fields of an `Outcome`.

    Args:
        written: The lines of the run.
        reason: The limit that it exceeded, or empty.
        status: The exit status of its process, as `waitpid` gives it.
    """
    values: list[Any] = []
    # the lines; text after the last line end is an incomplete one
    for line in written.split(b"\n")[:-1]:
        try:
            kind, value = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            return {"status": "crashed", "values": values, "detail": "it wrote a line that is not an answer"}
        if kind == VALUE:
            values.append(value)
        elif not reason:
            return {"status": "done" if kind == END else "crashed", "values": values, "detail": str(value)}

    # the run wrote neither an end nor an error: use the exceeded limit, or the exit status
    if reason:
        # only the wall-clock limit ends in " s"
        return {"status": "timeout" if reason.endswith(" s") else "crashed", "values": values, "detail": reason}
    signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if signal_number in (signal.SIGKILL, signal.SIGXCPU):
        return {"status": "timeout", "values": values, "detail": "ended by the kernel: too much CPU time or memory"}
    ended = f"by {signal.Signals(signal_number).name}" if signal_number else "by itself"
    return {"status": "crashed", "values": values, "detail": f"ended {ended} before its last value"}
