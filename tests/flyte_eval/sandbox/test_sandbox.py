"""Hostile code does no harm, is ended and is reported truly; honest runs next to it are not disturbed."""

from __future__ import annotations

import glob
import os
import platform
import select
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from flyte_llama.errors import EvaluationError
from flyte_llama.flyte_eval.sandbox import Limits, Outcome, Sandbox, confinement, confinement_problem, watcher
from flyte_llama.flyte_eval.sandbox import sandbox as sandbox_module
from flyte_llama.flyte_eval.sandbox.seccomp import ask_for_threads
from flyte_llama.flyte_eval.sandbox.usage import exceeded_disk_limit
from tests.flyte_eval.sandbox import hostile
from tests.flyte_eval.sandbox.hostile import request

pytestmark = pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
# The clock never ends a run, except in the test of the wall-clock limit: on a busy machine an honest one may take long.
LIMITS = Limits(wall_s=300, cpu_s=2, disk_bytes=64 << 20, files=2000)
ATTACK, YIELD_FIRST = "tests.flyte_eval.sandbox.hostile:attack", "tests.flyte_eval.sandbox.hostile:yield_first"
WAIT_S = 300
"""The most that a test waits for an event before it fails."""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary folder for the scratch folders of this module's runs alone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("scratch")))
        yield Path(tempfile.gettempdir())


@pytest.fixture(scope="module")
def sandbox(scratch: Path) -> Iterator[Sandbox]:
    with Sandbox(ATTACK, limits=LIMITS, workers=2) as started:
        yield started


def attack(sandbox: Sandbox, name: str, **arguments: Any) -> Outcome:
    """The outcome of an attack; checks that an honest request still works after it, and that no files remain."""
    outcome, honest = sandbox.run([request(name, **arguments), request("double", n=4)], what="t")
    assert honest == Outcome("done", [8], "")
    assert glob.glob(os.path.join(tempfile.gettempdir(), "*", "run-*")) == []
    return outcome


def test_answers_come_in_the_order_of_requests(sandbox: Sandbox):
    requests = [request("double", n=n) for n in range(30)]
    assert [outcome.values for outcome in sandbox.run(requests, what="t")] == [[2 * n] for n in range(30)]


def test_environment_variables_of_the_parent_are_hidden(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    with Sandbox(ATTACK, limits=LIMITS, workers=1) as sandbox:
        outcome = attack(sandbox, "environment")
    assert outcome.status == "done"
    assert "secret" not in str(outcome.values[0])
    assert not outcome.values[0].keys() & {"HF_TOKEN", "PATH", "USER", "AWS_SECRET_ACCESS_KEY"}


def test_there_is_no_network(sandbox: Sandbox):
    assert attack(sandbox, "network").values[0] == ["PermissionError"] * 3 + ["gaierror"]


def test_sockets_can_be_opened_without_the_sandbox():
    assert hostile.network()[1:3] != ["PermissionError"] * 2


def test_a_socket_pair_works_since_event_loops_need_it(sandbox: Sandbox):
    assert attack(sandbox, "pairs_of_sockets").values[0] == "hello"


def test_no_process_and_no_program_can_be_started(sandbox: Sandbox):
    assert attack(sandbox, "processes").values[0] == ["PermissionError"] * 4


def test_no_signal_can_be_sent(sandbox: Sandbox):
    assert attack(sandbox, "signals").values[0] == ["PermissionError"] * 2


def test_files_outside_can_neither_be_read_nor_written(sandbox: Sandbox, tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    outcome = attack(sandbox, "files", outside=str(tmp_path))
    assert [result for result in outcome.values[0] if result.startswith("could")] == []
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").read_text() == "secret"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the call numbers are for x86_64")
def test_attributes_of_files_outside_cannot_be_changed(sandbox: Sandbox, tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    results = attack(sandbox, "other_files_attributes", file=str(tmp_path / "secret")).values[0]
    assert [result for result in results if result.startswith("could")] == []


def test_a_file_that_can_be_read_cannot_be_emptied(sandbox: Sandbox, tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    assert attack(sandbox, "truncate", file=str(tmp_path / "secret")).values == [["PermissionError"] * 2]


def test_no_datagram_reaches_a_socket_outside(sandbox: Sandbox, tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "s"))
        assert attack(sandbox, "datagrams", address=str(tmp_path / "s")).values == [["PermissionError"] * 2]


@pytest.mark.parametrize(("name", "num_attempts"), [("scheduling", 1), ("owners_of_signals", 3)])
def test_other_processes_cannot_be_controlled(sandbox: Sandbox, name: str, num_attempts: int):
    assert attack(sandbox, name).values == [["PermissionError"] * num_attempts]


def test_a_run_that_closes_its_output_and_goes_on_is_ended_and_reported(sandbox: Sandbox):
    assert attack(sandbox, "silent").detail == "it closed its output and kept running"


def test_a_folder_that_cannot_be_read_is_removed_too(sandbox: Sandbox):
    assert attack(sandbox, "unreadable_folder").values == ["made"]


def test_no_data_of_an_earlier_run_is_in_memory(scratch: Path):
    secret = uuid.uuid4().hex
    with Sandbox(ATTACK, limits=LIMITS, workers=1) as sandbox:
        sandbox.run([request("read", file=secret)], what="t")
        (outcome,) = sandbox.run([request("search_memory", word=f"{secret[:8]}-{secret[8:]}")], what="t")
    assert outcome == Outcome("done", [[True, False]], "")


def child_processes(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def has_ended(process: int) -> bool:
    return not Path(f"/proc/{process}").exists() or Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"


def test_a_killed_watcher_disturbs_neither_other_runs_nor_the_next_call():
    before = child_processes(os.getpid())
    with Sandbox(ATTACK, limits=LIMITS, workers=1) as sandbox:
        (template,) = set(child_processes(os.getpid())) - set(before)
        pool = ThreadPoolExecutor(1)
        running = pool.submit(sandbox.run, [request("sleep"), request("double", n=4)], what="t")
        watcher = wait_for(lambda: child_processes(template))
        (run,) = wait_for(lambda: child_processes(watcher[0]))
        os.kill(watcher[0], signal.SIGKILL)
        killed, honest = running.result(timeout=WAIT_S)
        assert killed.status == "crashed"
        assert honest == Outcome("done", [8], "")
        wait_for(lambda: [True] if has_ended(run) and has_ended(template) else [])
        assert sandbox.run([request("double", n=5)] * 2, what="t") == [Outcome("done", [10], "")] * 2


def wait_for(condition: Callable[[], list[Any]]) -> list[Any]:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.02)
    raise AssertionError(f"the condition did not become true within {WAIT_S} s")


def test_a_checkout_from_which_modules_are_imported_cannot_be_read(sandbox: Sandbox):
    assert str(Path.cwd()) in sys.path
    assert attack(sandbox, "read", file=__file__).values == ["PermissionError"]


def test_files_outside_could_be_read_without_the_sandbox(tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    assert hostile._try(lambda: (tmp_path / "secret").read_text()) == "could: secret"


def test_the_scratch_folder_can_be_written_and_is_removed_afterwards(sandbox: Sandbox):
    content, folder = attack(sandbox, "own_files").values[0]
    assert content == "mine"
    assert not Path(folder).exists()


def test_an_endless_run_is_ended_by_its_cpu_time(sandbox: Sandbox):
    outcome = attack(sandbox, "loop")
    assert (outcome.status, outcome.detail) == ("timeout", "ended by the kernel: too much CPU time or memory")


def test_a_run_that_waits_for_ever_is_ended_by_the_clock(scratch: Path):
    with Sandbox(ATTACK, limits=LIMITS._replace(wall_s=1), workers=1) as sandbox:
        (outcome,) = sandbox.run([request("sleep")], what="t")
        assert outcome == Outcome("timeout", [], "more than 1 s")
        # The same process still serves requests, though a busy machine may need several attempts within a second.
        wait_for(lambda: [each for each in sandbox.run([request("double", n=4)], what="t") if each.values == [8]])


@pytest.mark.parametrize(
    ("name", "arguments", "detail"),
    [
        ("much_memory", {}, "MemoryError"),
        ("too_large_a_file", {}, "File too large"),
        ("many_files", {"files": 2500}, "more than 2,000 files"),
        ("much_disk", {"files": 8}, "more than 67,108,864 bytes of files"),
        ("deleted_files", {"files": 8, "keep": "open"}, "more than 67,108,864 bytes of files"),
        ("deleted_files", {"files": 5, "keep": "mapped"}, "more than 67,108,864 bytes of files"),
        ("deleted_files_of_a_thread", {"files": 8, "keep": "open"}, "more than 67,108,864 bytes of files"),
        ("deleted_files_of_a_thread", {"files": 5, "keep": "mapped"}, "more than 67,108,864 bytes of files"),
        ("flood", {}, "more than 4,194,304 bytes of output"),
        ("exit_early", {}, "ended by itself before its last value"),
        ("segfault", {}, "ended by SIGSEGV"),
        # abort() may not send itself a signal here, so it executes an instruction that is not allowed.
        ("abort", {}, "ended by SIG"),
        ("recursion", {}, "RecursionError"),
        ("raise_exit", {}, "SystemExit: 7"),
        ("garbage", {}, "it wrote a line that is not an answer"),
    ],
)
def test_a_run_that_takes_too_much_or_ends_without_an_answer_has_crashed_and_the_reason_is_named(
    sandbox: Sandbox, name: str, arguments: dict[str, Any], detail: str
):
    outcome = attack(sandbox, name, **arguments)
    assert (outcome.status, outcome.values) == ("crashed", [])
    assert detail in outcome.detail


def test_mapped_files_count_below_a_temporary_folder_that_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "link"))
    with Sandbox(ATTACK, limits=LIMITS, workers=1) as sandbox:
        outcome = attack(sandbox, "deleted_files", files=5, keep="mapped")
    assert outcome == Outcome("crashed", [], "more than 67,108,864 bytes of files")


def test_space_of_deleted_files_that_are_closed_is_free_again(sandbox: Sandbox):
    assert attack(sandbox, "released_files", files=20) == Outcome("done", ["done"], "")


def test_files_in_a_folder_that_is_renamed_all_the_time_count(tmp_path: Path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "file").write_bytes(bytes(2 << 20))
    names = [str(tmp_path / str(number)) for number in range(1000)]
    child = os.fork()
    if child == 0:
        try:
            while True:
                for old, new in zip(names, [*names[1:], names[0]], strict=True):
                    os.rename(old, new)
        finally:
            os._exit(1)
    try:
        found = {exceeded_disk_limit(child, str(tmp_path), Limits(disk_bytes=1 << 20)) for _ in range(100)}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert found == {"more than 1,048,576 bytes of files"}


def test_no_more_threads_can_be_started_than_the_limit(sandbox: Sandbox):
    ((started, error),) = attack(sandbox, "count_threads").values
    # the main thread counts; the last one of the list did not start
    assert (started, error) == (LIMITS.threads, "can't start new thread")


def test_more_threads_could_be_started_without_the_sandbox():
    assert hostile.count_threads()[0] > 2 * LIMITS.threads


def test_threads_below_the_limit_work(sandbox: Sandbox):
    assert attack(sandbox, "pool_of_threads").values == [2 * sum(range(200))]


def test_a_run_cannot_take_its_own_output_away(sandbox: Sandbox):
    assert attack(sandbox, "steal_output") == Outcome("done", ["answered"], "")


@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [("loop", {}, "timeout"), ("many_files", {"files": 2500}, "crashed"), ("exit_early", {}, "crashed")],
)
def test_values_from_before_the_end_are_kept(name: str, arguments: dict[str, Any], status: str):
    with Sandbox(YIELD_FIRST, limits=LIMITS, workers=1) as sandbox:
        (outcome,) = sandbox.run([request(name, **arguments)], what="t")
    assert (outcome.status, outcome.values) == (status, [1])


# The watcher lists the folders ten times a second: usually once in 0.3 s, and certainly while the second run waits.
@pytest.mark.parametrize(("levels", "wait_s", "status"), [(1500, 0.3, "done"), (5000, hostile.FOR_EVER_S, "crashed")])
def test_folders_deeper_than_the_recursion_limit_are_removed(sandbox: Sandbox, levels: int, wait_s: float, status: str):
    assert attack(sandbox, "deep_folders", levels=levels, wait_s=wait_s).status == status


def test_limits_cannot_be_raised(sandbox: Sandbox):
    assert set(attack(sandbox, "raise_limits").values[0]) <= {"PermissionError", "ValueError"}


def test_a_function_that_cannot_be_imported_is_an_error():
    with (
        Sandbox("tests.flyte_eval.sandbox.nowhere:attack", workers=1) as sandbox,
        pytest.raises(EvaluationError, match="imported"),
    ):
        sandbox.run([{}], what="t")


def never_starts(scratch: str, channel: socket.socket) -> NoReturn:
    """A run that sends nothing."""
    time.sleep(hostile.FOR_EVER_S)
    raise AssertionError


def test_a_watcher_does_not_wait_for_ever_for_a_run_that_does_not_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watcher, "SECONDS_TO_START", 0.1)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            watcher.watch_run(never_starts, LIMITS)
        except EOFError:
            os.write(writing, b"EOFError")
        finally:
            os._exit(0)
    assert os.read(reading, 100) == b"EOFError"
    os.waitpid(child, 0)


def sends_urgent_data(scratch: str, channel: socket.socket) -> NoReturn:
    """A run without the filter, which refuses that call."""
    watcher.send_listener(channel.fileno(), ask_for_threads())
    channel.send(b"x", socket.MSG_OOB)
    time.sleep(hostile.FOR_EVER_S)
    raise AssertionError


def test_a_watcher_does_not_wait_for_ever_for_what_follows_urgent_data():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, watcher.watch_run(sends_urgent_data, LIMITS._replace(wall_s=0.5))["detail"].encode())
        finally:
            os._exit(0)
    is_written = select.select([reading], [], [], WAIT_S)[0]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert is_written
    assert os.read(reading, 100) == b"more than 0.5 s"


@pytest.mark.parametrize("text", ["small", pytest.param("large" * 100_000, id="larger than a pipe")])
def test_a_template_that_does_not_answer_is_replaced(scratch: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    before = child_processes(os.getpid())
    monkeypatch.setattr(sandbox_module, "_SECONDS_BEYOND_RUN", 5)
    with Sandbox(ATTACK, limits=LIMITS._replace(wall_s=0.1), workers=1) as sandbox:
        wait_for(lambda: [each for each in sandbox.run([request("double", n=1)], what="t") if each.values == [2]])
        (template,) = set(child_processes(os.getpid())) - set(before)
        os.kill(template, signal.SIGSTOP)
        assert sandbox.run([request("read", file=text)], what="t") == [
            Outcome("crashed", [], "the watcher process ended")
        ]
        wait_for(lambda: [each for each in sandbox.run([request("double", n=4)], what="t") if each.values == [8]])


def test_imports_that_do_not_end_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "endless_import.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sandbox_module, "_SECONDS_TO_IMPORT", 0.1)
    with (
        Sandbox(ATTACK, preload=["endless_import"], workers=1) as sandbox,
        pytest.raises(EvaluationError, match="imported"),
    ):
        sandbox.run([{}], what="t")


def fail(*_: object, **__: object) -> NoReturn:
    raise OSError(16, "busy")


@pytest.mark.parametrize(
    ("name", "replacement", "problem"),
    [
        ("ask_for_threads", fail, "[Errno 16] busy"),
        ("restrict_paths", fail, "[Errno 16] busy"),
        ("restrict_paths", lambda **_: None, "a confined process could still open files or sockets"),
        ("refuse_system_calls", lambda: None, "a confined process could still open files or sockets"),
        ("deleted_bytes", fail, "the files of a confined process cannot be seen ([Errno 16] busy)"),
        ("drop_capabilities", lambda: None, ""),
    ],
)
def test_a_machine_that_cannot_confine_a_process_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, replacement: Any, problem: str
):
    monkeypatch.setattr(confinement, name, replacement)
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").touch()
    assert confinement.try_confinement(str(tmp_path / "inside"), str(tmp_path / "outside")) == problem
