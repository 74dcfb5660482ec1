"""Hostile code harms nothing, ends, and is told of truly; an honest run beside it is not disturbed."""

from __future__ import annotations

import glob
import os
import platform
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.errors import EvaluationError
from flyte_llama.sandbox import Limits, Outcome, Sandbox, why_not
from tests.sandbox import hostile

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
LIMITS = Limits(wall_s=3, cpu_s=2, memory_bytes=1 << 30, disk_bytes=64 << 20, files=2000)
ATTACK = "tests.sandbox.hostile:attack"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the runs of this module have their folders, and no others."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("scratch")))
        yield Path(tempfile.gettempdir())


@pytest.fixture(scope="module")
def sandbox(scratch: Path) -> Iterator[Sandbox]:
    with Sandbox(ATTACK, limits=LIMITS, workers=2) as made:
        yield made


def attack(sandbox: Sandbox, name: str, **given: Any) -> Outcome:
    """What came of it; afterwards an honest request is answered, and nothing is left behind."""
    outcome, honest = sandbox.run(
        [{"name": name, "given": given}, {"name": "double", "given": {"number": 4}}], what="t"
    )
    assert honest == Outcome("done", [8], "")
    assert glob.glob(os.path.join(tempfile.gettempdir(), "*", "run-*")) == []
    return outcome


def test_answers_come_in_the_order_of_requests(sandbox: Sandbox):
    requests = [{"name": "double", "given": {"number": number}} for number in range(30)]
    assert [outcome.told for outcome in sandbox.run(requests, what="t")] == [[2 * number] for number in range(30)]


def test_nothing_of_our_environment_is_seen(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    with Sandbox(ATTACK, limits=LIMITS, workers=1) as sandbox:
        outcome = attack(sandbox, "environment")
    assert outcome.status == "done"
    assert "secret" not in str(outcome.told[0])
    assert not outcome.told[0].keys() & {"HF_TOKEN", "PATH", "USER", "AWS_SECRET_ACCESS_KEY"}


def test_there_is_no_network(sandbox: Sandbox):
    assert attack(sandbox, "network").told[0] == ["PermissionError"] * 3 + ["gaierror"]


def test_the_network_is_there_without_the_sandbox():
    assert hostile.network()[1:3] != ["PermissionError"] * 2


def test_a_pair_of_sockets_of_ones_own_works_as_event_loops_need(sandbox: Sandbox):
    assert attack(sandbox, "pairs_of_sockets").told[0] == "hello"


def test_there_are_no_other_processes_and_no_programs(sandbox: Sandbox):
    assert attack(sandbox, "processes").told[0] == ["PermissionError"] * 4


def test_nobody_gets_a_signal(sandbox: Sandbox):
    assert attack(sandbox, "signals").told[0] == ["PermissionError"] * 2


def test_files_outside_can_neither_be_read_nor_written(sandbox: Sandbox, tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    outcome = attack(sandbox, "files", outside=str(tmp_path))
    assert [told for told in outcome.told[0] if told.startswith("could")] == []
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").read_text() == "secret"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of calls are those of x86_64")
def test_attributes_of_files_outside_cannot_be_changed(sandbox: Sandbox, tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    told = attack(sandbox, "other_files_attributes", file=str(tmp_path / "secret")).told[0]
    assert [answer for answer in told if answer.startswith("could")] == []


def test_a_file_that_can_be_read_cannot_be_emptied(sandbox: Sandbox, tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    assert attack(sandbox, "truncating", file=str(tmp_path / "secret")).told == [["PermissionError"] * 2]


def test_no_datagram_reaches_a_socket_outside(sandbox: Sandbox, tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "s"))
        assert attack(sandbox, "datagrams", address=str(tmp_path / "s")).told == [["PermissionError"] * 2]


@pytest.mark.parametrize(("name", "number"), [("scheduling", 1), ("owners_of_signals", 3)])
def test_other_processes_are_not_to_be_governed(sandbox: Sandbox, name: str, number: int):
    assert attack(sandbox, name).told == [["PermissionError"] * number]


def test_what_goes_on_without_a_way_to_tell_is_ended_and_told_of(sandbox: Sandbox):
    assert attack(sandbox, "silent").detail == "it went on without a way to tell"


def test_a_folder_that_cannot_be_read_is_removed_too(sandbox: Sandbox):
    assert attack(sandbox, "unreadable_folder").told == ["made"]


def test_nothing_of_an_earlier_run_is_in_memory(scratch: Path):
    secret = uuid.uuid4().hex
    with Sandbox(ATTACK, limits=LIMITS, workers=1) as sandbox:
        sandbox.run([{"name": "reading", "given": {"file": secret}}], what="t")
        (outcome,) = sandbox.run([{"name": "remembering", "given": {"word": f"{secret[:8]}-{secret[8:]}"}}], what="t")
    assert outcome == Outcome("done", [[True, False]], "")


def children(process: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def ended(process: int) -> bool:
    return not Path(f"/proc/{process}").exists() or Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"


def test_after_a_watching_process_ended_others_run_on_and_so_does_the_next_call():
    before = children(os.getpid())
    with Sandbox(ATTACK, limits=LIMITS, workers=1) as sandbox:
        (template,) = set(children(os.getpid())) - set(before)
        pool = ThreadPoolExecutor(1)
        running = pool.submit(sandbox.run, [{"name": "asleep"}, {"name": "double", "given": {"number": 4}}], what="t")
        watcher = awaited(lambda: children(template))
        (run,) = awaited(lambda: children(watcher[0]))
        os.kill(watcher[0], signal.SIGKILL)
        killed, honest = running.result(timeout=30)
        assert killed.status == "crashed"
        assert honest == Outcome("done", [8], "")
        awaited(lambda: [True] if ended(run) and ended(template) else [])
        assert (
            sandbox.run([{"name": "double", "given": {"number": 5}}] * 2, what="t") == [Outcome("done", [10], "")] * 2
        )


def awaited(what: Callable[[], list[Any]]) -> list[Any]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come")


def test_a_checkout_from_which_modules_are_imported_cannot_be_read(sandbox: Sandbox):
    assert str(Path.cwd()) in sys.path
    assert attack(sandbox, "reading", file=__file__).told == ["PermissionError"]


def test_files_outside_could_be_read_without_the_sandbox(tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    assert hostile._tried(lambda: (tmp_path / "secret").read_text()) == "could: secret"


def test_a_folder_of_its_own_can_be_written_and_is_gone_afterwards(sandbox: Sandbox):
    content, folder = attack(sandbox, "own_files").told[0]
    assert content == "mine"
    assert not Path(folder).exists()


@pytest.mark.parametrize("name", ["forever", "asleep"])
def test_what_does_not_end_is_ended(sandbox: Sandbox, name: str):
    begin = time.monotonic()
    assert attack(sandbox, name).status == "timeout"
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    "name",
    [
        *("much_memory", "many_threads", "too_large_a_file", "many_files", "much_disk", "flood"),
        *("gone", "crashed", "aborted", "recursion", "raised", "garbage"),
    ],
)
def test_what_takes_too_much_or_ends_without_an_answer_has_crashed(sandbox: Sandbox, name: str):
    outcome = attack(sandbox, name)
    assert outcome.status in ("crashed", "timeout")
    assert outcome.told == []
    assert outcome.detail


@pytest.mark.parametrize(("name", "status"), [("forever", "timeout"), ("many_files", "crashed"), ("gone", "crashed")])
def test_what_was_told_before_the_end_is_kept(name: str, status: str):
    with Sandbox("tests.sandbox.hostile:told_first", limits=LIMITS, workers=1) as sandbox:
        (outcome,) = sandbox.run([{"name": name}], what="t")
    assert (outcome.status, outcome.told) == (status, [1])


def test_the_limit_that_was_passed_is_named(sandbox: Sandbox):
    assert "files" in attack(sandbox, "many_files").detail
    assert "bytes of files" in attack(sandbox, "much_disk").detail
    assert "thread" in attack(sandbox, "many_threads").detail
    assert "MemoryError" in attack(sandbox, "much_memory").detail


@pytest.mark.parametrize(("levels", "status"), [(1500, "done"), (5000, "crashed")])
def test_folders_deeper_than_python_goes_are_removed(sandbox: Sandbox, levels: int, status: str):
    assert attack(sandbox, "deep_folders", levels=levels).status == status


def test_limits_cannot_be_raised(sandbox: Sandbox):
    assert set(attack(sandbox, "raised_limits").told[0]) <= {"PermissionError", "ValueError"}


def test_a_function_that_cannot_be_imported_is_an_error():
    with (
        Sandbox("tests.sandbox.nowhere:attack", workers=1) as sandbox,
        pytest.raises(EvaluationError, match="imported"),
    ):
        sandbox.run([{}], what="t")
