"""The processes below a `Sandbox`: a template, which forks a watcher for each request, which forks the run.

    Sandbox           in the parent's process: sends one request at a time to a template, and reads its outcome
      └ template      imports everything that runs need, once; never reads a request or an answer
          └ watcher   enforces the limits that the kernel does not, ends the run, writes its outcome
              └ run   reads the request, confines itself for good, calls the function

All share the template's standard input. The template reads its configuration from it, as one line of JSON; after that
it only waits until there is more, and the run reads the request. So no run finds data of an earlier one in its memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import select
import signal
import struct
import tempfile
import termios
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from flyte_llama.flyte_eval.sandbox.confinement import confine
from flyte_llama.flyte_eval.sandbox.kernel import prctl
from flyte_llama.flyte_eval.sandbox.limits import Limits
from flyte_llama.storage import remove_tree

_RUN_PREFIX = "run-"  # of a scratch folder's name
_SECONDS_BETWEEN_CHECKS = 0.1
_SECONDS_TO_END = 2
_PR_SET_PDEATHSIG = 1
# Kinds of lines that a run writes: any number of values, then an end or an error.
_VALUE, _END, _ERROR = "value", "end", "error"
_WNOWAIT_EXITED = os.WEXITED | os.WNOHANG | os.WNOWAIT


def main() -> None:
    """Serve requests until the input ends, or a watcher fails."""
    # move standard output to another descriptor, so that the function cannot print into the answers
    answers = os.dup(1)
    _redirect_to_null(1)
    setup = json.loads(_read_line(0))

    # import the modules for all runs
    module, _, name = setup["function"].partition(":")
    for preloaded in setup["preload"]:
        importlib.import_module(preloaded)
    function = getattr(importlib.import_module(module), name)
    limits = Limits(**setup["limits"])
    _write_all(answers, b"ready\n")

    # fork a watcher for each request
    while _wait_for_request():
        watcher = os.fork()
        if watcher == 0:
            status = 1
            try:
                _write_all(answers, json.dumps(_watch_run(function, limits)).encode() + b"\n")
                status = 0
            finally:
                os._exit(status)
        if os.waitpid(watcher, 0)[1]:
            return


def _wait_for_request() -> bool:
    """Wait for the next request without reading any of it; return False if the input has ended."""
    select.select([0], [], [])
    # FIONREAD: the number of bytes that can be read, 0 at the end of the input
    return struct.unpack("i", fcntl.ioctl(0, termios.FIONREAD, bytes(4)))[0] > 0


def _watch_run(function: Callable[[Any], Iterable[Any]], limits: Limits) -> dict[str, Any]:
    """Run the function on the next request in standard input, and return the fields of its `Outcome`.

    Raises:
        EOFError: if the run ended before it had read the whole request; the rest would be taken for the next request.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    scratch = tempfile.mkdtemp(prefix=_RUN_PREFIX)
    reading, writing = os.pipe()
    watcher = os.getpid()
    child = os.fork()
    if child == 0:
        _run_request(function, limits, scratch, writing, watcher=watcher)
    os.close(writing)
    try:
        # the run writes an empty line once it has read its request
        if os.read(reading, 1) != b"\n":
            raise EOFError("the run ended before it had read its whole request")
        written, reason = _watch(child, reading, limits, scratch)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        remove_tree(Path(scratch))
    return _outcome_fields(written, reason, status)


def _run_request(
    function: Callable[[Any], Iterable[Any]], limits: Limits, scratch: str, writing: int, *, watcher: int
) -> NoReturn:
    """Read the request and write the function's values, in the process of the run; never returns."""
    try:
        # die with the watcher, even if it ended before prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != watcher:
            os._exit(1)
        request = json.loads(_read_line(0))

        # leave the watcher's session, and keep no descriptor but the pipe to it
        os.setsid()
        for descriptor in (0, 1, 2):
            _redirect_to_null(descriptor)
        output = os.dup2(writing, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        _write_all(output, b"\n")

        # confine this process, then run the function
        os.environ.update(HOME=scratch, TMPDIR=scratch)
        tempfile.tempdir = None
        os.chdir(scratch)
        confine(scratch, limits)
        for value in function(request):
            _send(output, _VALUE, value)
        _send(output, _END, "")
    except BaseException as error:  # never let the run return into the template's code
        try:
            _send(3, _ERROR, f"{type(error).__name__}: {error}"[:300])
        except BaseException:
            os._exit(1)
    finally:
        os._exit(0)


def _send(writing: int, kind: str, value: Any) -> None:
    _write_all(writing, json.dumps([kind, value]).encode() + b"\n")


def _watch(child: int, reading: int, limits: Limits, scratch: str) -> tuple[bytes, str]:
    """The bytes that the run wrote, and the limit that it exceeded; empty if it ended within all limits."""
    written, end = b"", time.monotonic() + limits.wall_s
    while True:
        if select.select([reading], [], [], _SECONDS_BETWEEN_CHECKS)[0]:
            part = os.read(reading, 1 << 16)
            written += part
            if not part:
                return written, "" if _has_ended(child) else "it closed its output and kept running"
            if len(written) > limits.output_bytes:
                return written[: limits.output_bytes], f"more than {limits.output_bytes:,} bytes of output"
        if time.monotonic() > end:
            return written, f"more than {limits.wall_s:g} s"
        if exceeded := _check_limits(child, limits, scratch):
            return written, exceeded


def _has_ended(child: int) -> bool:
    """True if the child ends within `_SECONDS_TO_END`; leaves its status for `waitpid`."""
    end = time.monotonic() + _SECONDS_TO_END
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, _WNOWAIT_EXITED) is not None:
            return True
        time.sleep(0.01)
    return False


def _check_limits(child: int, limits: Limits, scratch: str) -> str:
    """The limit on threads, files or disk that a run exceeds now, in words; empty if it exceeds none."""
    try:
        if len(os.listdir(f"/proc/{child}/task")) > limits.threads:
            return f"more than {limits.threads:,} threads"
    except OSError:
        return ""
    return _check_disk(scratch, limits)


def _check_disk(scratch: str, limits: Limits) -> str:
    """The same for the number and size of the files in the scratch folder."""
    files = size = 0
    # Not os.walk, which is recursive in Python 3.11: a run may make folders deeper than the recursion limit.
    folders = [scratch]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    files += 1
                    with contextlib.suppress(FileNotFoundError):
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        else:
                            size += entry.stat(follow_symlinks=False).st_blocks * 512
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"folders that cannot be listed ({error.strerror})"
        if files > limits.files:
            return f"more than {limits.files:,} files"
        if size > limits.disk_bytes:
            return f"more than {limits.disk_bytes:,} bytes of files"
    return ""


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
        if kind == _VALUE:
            values.append(value)
        elif not reason:
            return {"status": "done" if kind == _END else "crashed", "values": values, "detail": str(value)}

    # the run wrote neither an end nor an error: use the exceeded limit, or the exit status
    if reason:
        # only the wall-clock limit ends in " s"
        return {"status": "timeout" if reason.endswith(" s") else "crashed", "values": values, "detail": reason}
    signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if signal_number in (signal.SIGKILL, signal.SIGXCPU):
        return {"status": "timeout", "values": values, "detail": "ended by the kernel: too much CPU time or memory"}
    ended = f"by {signal.Signals(signal_number).name}" if signal_number else "by itself"
    return {"status": "crashed", "values": values, "detail": f"ended {ended} before its last value"}


def _read_line(descriptor: int) -> bytes:
    """Read one line; the writer may send the next only after this one is answered.

    Raises:
        EOFError: if the input ends first.
    """
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(descriptor, 1 << 20)
        if not part:
            raise EOFError("the input has ended")
        line += part
    return line


def _write_all(descriptor: int, line: bytes) -> None:
    """Write all bytes to a file descriptor."""
    while line:
        line = line[os.write(descriptor, line) :]


def _redirect_to_null(descriptor: int) -> None:
    """Redirect a file descriptor to /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)
