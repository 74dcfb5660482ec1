"""One run, and the process that watches over it: it forks the run, counts what the kernel does not, and ends it.

The request is read by the run itself, from the input that both have from the template.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from flyte_llama.sandbox.confinement import confine
from flyte_llama.sandbox.kernel import prctl
from flyte_llama.sandbox.limits import Limits

RUN_PREFIX = "run-"
"""Of the scratch folder's name."""

_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_TO_END = 2
_PR_SET_PDEATHSIG = 1
# Kinds of lines that a run writes: any number told, then one of the others.
_TOLD, _END, _ERROR = "told", "end", "error"
_WNOWAIT_EXITED = os.WEXITED | os.WNOHANG | os.WNOWAIT


def watch_over(function: Callable[[Any], Iterable[Any]], limits: Limits) -> dict[str, Any]:
    """The fields of the `Outcome` of the request that is to be read next.

    Raises:
        EOFError: if the run ended before it had read its request: what is left of that would be taken for the next.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    scratch = tempfile.mkdtemp(prefix=RUN_PREFIX)
    reading, writing = os.pipe()
    own = os.getpid()
    child = os.fork()
    if child == 0:
        _answer(function, limits, scratch, writing, watcher=own)
    os.close(writing)
    try:
        if os.read(reading, 1) != b"\n":
            raise EOFError("a request was not read whole")
        written, why = _watched(child, reading, limits, scratch)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        remove(scratch)
    return _outcome(written, why, status)


def remove(folder: str) -> None:
    """With all that is in it, however deep and whatever may be read or written."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        for command in (["chmod", "-R", "u+rwx", "--", folder], ["rm", "-rf", "--", folder]):
            subprocess.run(command, check=False, capture_output=True)  # noqa: S603  # a folder that we made


def read_line(number: int) -> bytes:
    """Up to the end of a line; nothing behind it may have been written yet."""
    line = b""
    while not line.endswith(b"\n"):
        some = os.read(number, 1 << 20)
        if not some:
            raise EOFError("the input has ended")
        line += some
    return line


def write_all(number: int, line: bytes) -> None:
    while line:
        line = line[os.write(number, line) :]


def to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _answer(
    function: Callable[[Any], Iterable[Any]], limits: Limits, scratch: str, writing: int, *, watcher: int
) -> NoReturn:
    """In the run's process: never returns."""
    try:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != watcher:
            os._exit(1)
        request = json.loads(read_line(0))
        os.setsid()
        for number in (0, 1, 2):
            to_nowhere(number)
        kept = os.dup2(writing, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        write_all(kept, b"\n")
        os.environ.update(HOME=scratch, TMPDIR=scratch)
        tempfile.tempdir = None
        os.chdir(scratch)
        confine(scratch, limits)
        for value in function(request):
            _tell(kept, _TOLD, value)
        _tell(kept, _END, "")
    except BaseException as error:  # whatever it was, the run must not go on in the template's code
        try:
            _tell(3, _ERROR, f"{type(error).__name__}: {error}"[:300])
        except BaseException:
            os._exit(1)
    finally:
        os._exit(0)


def _tell(writing: int, kind: str, value: Any) -> None:
    write_all(writing, json.dumps([kind, value]).encode() + b"\n")


def _watched(child: int, reading: int, limits: Limits, scratch: str) -> tuple[bytes, str]:
    """What the fork wrote until it ended, and the limit that it passed, if any."""
    told, end = b"", time.monotonic() + limits.wall_s
    while True:
        if select.select([reading], [], [], _SECONDS_BETWEEN_LOOKS)[0]:
            some = os.read(reading, 1 << 16)
            told += some
            if not some:
                return told, "" if _has_ended(child) else "it went on without a way to tell"
            if len(told) > limits.told_bytes:
                return told[: limits.told_bytes], f"more than {limits.told_bytes:,} bytes were told"
        if time.monotonic() > end:
            return told, f"more than {limits.wall_s:g} s"
        if passed := _passed(child, limits, scratch):
            return told, passed


def _has_ended(child: int) -> bool:
    """Waits a little for it; its status can be asked for afterwards."""
    end = time.monotonic() + _SECONDS_TO_END
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, _WNOWAIT_EXITED) is not None:
            return True
        time.sleep(0.01)
    return False


def _passed(child: int, limits: Limits, scratch: str) -> str:
    try:
        if len(os.listdir(f"/proc/{child}/task")) > limits.threads:
            return f"more than {limits.threads:,} threads"
    except OSError:
        return ""
    return _too_much_below(scratch, limits)


def _too_much_below(scratch: str, limits: Limits) -> str:
    files = size = 0
    # Not os.walk, which calls itself for each level.
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
            return f"folders that cannot be looked through ({error.strerror})"
        if files > limits.files:
            return f"more than {limits.files:,} files"
        if size > limits.disk_bytes:
            return f"more than {limits.disk_bytes:,} bytes of files"
    return ""


def _outcome(written: bytes, why: str, status: int) -> dict[str, Any]:
    """The fields of an `Outcome`."""
    told: list[Any] = []
    # What stands behind the last end of a line is not whole.
    for line in written.split(b"\n")[:-1]:
        try:
            kind, value = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            return {"status": "crashed", "told": told, "detail": "something that is no answer was written"}
        if kind == _TOLD:
            told.append(value)
        elif not why:
            return {"status": "done" if kind == _END else "crashed", "told": told, "detail": str(value)}
    if why:
        return {"status": "timeout" if why.endswith(" s") else "crashed", "told": told, "detail": why}
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number in (signal.SIGKILL, signal.SIGXCPU):
        return {"status": "timeout", "told": told, "detail": "ended by the kernel: too much CPU time or memory"}
    ended = f"by {signal.Signals(number).name}" if number else "by itself"
    return {"status": "crashed", "told": told, "detail": f"ended {ended} before all was told"}
