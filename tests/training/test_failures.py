"""The error of a training process reaches its launcher as what it was, in one message."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from flyte_llama.errors import ConfigError, DataError, FlyteLlamaError, OutOfMemoryError, TrainingError
from flyte_llama.training.failures import describe_error, launch_error, record_failure
from flyte_llama.training.processes import Interrupted


def fail(folder: Path, error: Exception, *, rank: int = 0, exitcode: int = 1) -> ChildFailedError:
    """End process `rank` with an error, as torch's launcher would, and return what the launcher raises."""
    error_file = folder / str(rank) / "error.json"
    error_file.parent.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TORCHELASTIC_ERROR_FILE", str(error_file))
        with contextlib.suppress(type(error)), record_failure():
            raise error
    return ended(rank=rank, exitcode=exitcode)


def ended(*, rank: int = 0, exitcode: int) -> ChildFailedError:
    """What torch's launcher raises about a process that wrote no error file."""
    return ChildFailedError("train", {rank: ProcessFailure(rank, 17, exitcode, "nowhere")})


@pytest.mark.parametrize(
    "error",
    [
        DataError("rows: damaged"),
        ConfigError("training.seq_len = 0: too small."),
        OutOfMemoryError("does not fit"),
        Interrupted("interrupted after step 3 of 8"),
        TrainingError("the hub is away", transient=True),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_its_kind_its_message_and_whether_a_retry_may_help(tmp_path: Path, error: FlyteLlamaError):
    raised = launch_error(fail(tmp_path, error), tmp_path)
    assert raised is not None
    assert (type(raised), raised.message, raised.transient) == (type(error), error.message, error.transient)


def test_any_other_error_becomes_a_sentence_that_names_it(tmp_path: Path):
    raised = launch_error(fail(tmp_path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/x")), tmp_path)
    assert type(raised) is TrainingError
    assert "failed with OSError: [Errno 28] No space left on device: '/out/x'. The same command" in raised.message
    assert "\n" not in raised.message


def test_a_full_gpu_is_out_of_memory():
    failure = describe_error(torch.OutOfMemoryError("CUDA out of memory.\nOf the allocated memory …"))
    assert failure.kind == "OutOfMemoryError"
    assert "Lower training.micro_batch_size" in failure.message


def test_a_killed_process_is_out_of_memory_whatever_the_others_say(tmp_path: Path):
    fail(tmp_path, RuntimeError("Connection closed by peer"), rank=0)
    raised = launch_error(ended(rank=1, exitcode=-9), tmp_path)
    assert type(raised) is OutOfMemoryError
    assert "a training process was killed by signal 9 (SIGKILL). Did the host run out of memory?" in raised.message


def test_an_error_that_follows_from_another_does_not_hide_it(tmp_path: Path):
    launcher_error = fail(tmp_path, RuntimeError("Connection closed by peer"), rank=0)
    fail(tmp_path, DataError("rows: damaged"), rank=1)
    fail(tmp_path, Interrupted("interrupted after step 3 of 8"), rank=2)
    raised = launch_error(launcher_error, tmp_path)
    assert type(raised) is DataError


@pytest.mark.parametrize(("exitcode", "why", "transient"), [(-15, "SIGTERM", True), (-11, "SIGSEGV", False)])
def test_a_process_that_a_signal_ended_says_which(tmp_path: Path, exitcode: int, why: str, transient: bool):
    raised = launch_error(ended(exitcode=exitcode), tmp_path)
    assert raised is not None
    assert why in raised.message
    assert raised.transient == transient


def test_a_process_that_fails_before_it_joins_the_others_says_why(tmp_path: Path):
    recorded = {"message": {"message": "ModuleNotFoundError: No module named 'x'", "extraInfo": {"timestamp": "1"}}}
    (tmp_path / "error.json").write_text(json.dumps(recorded))
    failed = ChildFailedError("train", {0: ProcessFailure(0, 17, 1, str(tmp_path / "error.json"))})
    raised = launch_error(failed, tmp_path)
    assert raised is not None
    assert raised.message.startswith("a training process failed with ModuleNotFoundError: No module named 'x'. ")


def test_an_error_of_the_launcher_is_not_one_of_its_processes(tmp_path: Path):
    assert launch_error(TimeoutError("the nodes did not meet"), tmp_path) is None


@pytest.mark.parametrize(("debug", "shown"), [("", False), ("1", True)])
def test_a_traceback_is_shown_only_on_request(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    debug: str,
    shown: bool,
):
    monkeypatch.setenv("FLYTE_LLAMA_DEBUG", debug)
    fail(tmp_path, DataError("rows: damaged"))
    assert ("Traceback" in capsys.readouterr().err) == shown


def test_an_error_is_raised_as_it_is_if_the_folder_of_a_killed_launcher_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "gone/0/error.json"))
    with pytest.raises(DataError, match="rows: damaged"), record_failure():
        raise DataError("rows: damaged")
