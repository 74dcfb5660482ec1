"""A launcher that is asked to end ends its processes first, and leaves nothing behind."""

from __future__ import annotations

import locale
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flyte_llama.training import processes
from flyte_llama.training.launch import run_launcher

SPAWN = multiprocessing.get_context("spawn")


def sleep(ready: Path, ignored: tuple[int, ...]) -> None:
    """What a started process does: it writes what it blocks, where its files are and how it reads them, and waits."""
    for signum in ignored:
        signal.signal(signum, signal.SIG_IGN)
    blocked = " ".join(signum.name for signum in sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    part = ready.with_suffix(".part")
    part.write_text(f"{blocked}\n{tempfile.gettempdir()}\n{locale.getpreferredencoding()}")
    part.rename(ready)
    time.sleep(60)


def launch_sleeper(folder: Path, then: Callable[[], None], *ignored: int) -> int | None:
    """Like torch's launcher: start a process, wait for its end and return its exit code. Call `then` meanwhile."""
    process = SPAWN.Process(target=sleep, args=(folder / "ready", ignored))
    process.start()
    while not (folder / "ready").exists():
        assert process.is_alive()
        time.sleep(0.01)
    then()
    process.join()
    return process.exitcode


def send(signum: int, *, times: int = 1) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signum)
        time.sleep(0.3)


@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_processes_then_the_launcher_and_the_handlers_are_as_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signum: int, exit_code: int
):
    def handle(*_: object) -> None:
        """A handler of the caller. Under nohup, the tests start with one signal ignored."""

    before, exit_codes = signal.signal(signum, handle), []
    try:
        with pytest.raises(SystemExit) as ended:
            run_launcher(lambda: exit_codes.append(launch_sleeper(tmp_path, lambda: send(signum))), tmp_path)
        assert signal.getsignal(signum) is handle
    finally:
        signal.signal(signum, before)
    assert ended.value.code == exit_code
    assert exit_codes == [-signal.SIGTERM]
    assert capsys.readouterr().err == "interrupted; the same command goes on from here\n"


def test_ctrl_c_twice_kills_a_process_that_does_not_end(tmp_path: Path):
    exit_codes = []
    with pytest.raises(SystemExit):
        run_launcher(
            lambda: exit_codes.append(launch_sleeper(tmp_path, lambda: send(signal.SIGINT, times=2), signal.SIGTERM)),
            tmp_path,
        )
    assert exit_codes == [-signal.SIGKILL]


def test_a_started_process_does_not_see_what_a_terminal_sends_and_keeps_its_files_as_utf8_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        run_launcher(lambda: launch_sleeper(tmp_path, lambda: send(signal.SIGTERM)), tmp_path)
    assert (tmp_path / "ready").read_text().splitlines() == ["SIGHUP SIGINT", str(tmp_path), "utf-8"]
    assert tempfile.gettempdir() != str(tmp_path)
    assert (os.environ.get("TMPDIR") != str(tmp_path), os.environ["PYTHONUTF8"]) == (True, "0")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_launcher(lambda: send(signal.SIGHUP) or "done", tmp_path) == "done"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_of_the_launcher_itself_is_raised_as_it_is(tmp_path: Path):
    def fail() -> None:
        raise TimeoutError("the nodes did not meet")

    with pytest.raises(TimeoutError, match="did not meet"):
        run_launcher(fail, tmp_path)


@pytest.mark.parametrize("parent_ends_first", [False, True])
def test_a_process_ends_soon_after_its_parent(monkeypatch: pytest.MonkeyPatch, parent_ends_first: bool):
    monkeypatch.setattr(processes, "_SECONDS_BETWEEN_LOOKS", 0.01)
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        parent = os.getpid()
        if os.fork() == 0:
            if parent_ends_first:
                while os.getppid() == parent:
                    time.sleep(0.01)
            processes.end_with_parent(parent)
            time.sleep(60)
        os._exit(0)
    os.waitpid(parent, 0)
    os.close(writing)
    # Nothing is written: the end of the file means that the last process that has it open is gone.
    before = time.monotonic()
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert time.monotonic() - before < 10
