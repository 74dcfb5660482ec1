"""The error of a training process reaches its launcher as what it was, in one message."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousTimeoutError

from flyte_llama.errors import ConfigError, DataError, FlyteLlamaError, OutOfMemoryError, TrainingError
from flyte_llama.training import failures
from flyte_llama.training.failures import LostProcess, describe_error, is_disk_error, launch_error, record_failure
from flyte_llama.training.memory import out_of_memory_kills
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


def test_a_killed_process_is_the_cause_whatever_the_others_say(tmp_path: Path):
    fail(tmp_path, RuntimeError("Connection closed by peer"), rank=0)
    raised = launch_error(ended(rank=1, exitcode=-9), tmp_path)
    assert type(raised) is OutOfMemoryError
    assert "a training process was killed by signal 9 (SIGKILL). Did the host run out of memory?" in raised.message


def test_a_killed_process_is_the_cause_also_if_another_noticed_first(tmp_path: Path):
    fail(tmp_path, RuntimeError("Connection closed by peer"), rank=0)
    first, second = ProcessFailure(0, 17, 1, "nowhere"), ProcessFailure(1, 18, -9, "nowhere")
    first.timestamp, second.timestamp = 1, 2
    raised = launch_error(ChildFailedError("train", {0: first, 1: second}), tmp_path)
    assert type(raised) is OutOfMemoryError


def write_kills(root: Path, number: int) -> None:
    """Write how many processes of this group Linux ended for want of memory, as in a pod of today."""
    for name, text in {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.events": f"low 0\noom 3\noom_kill {number}\noom_group_kill 0\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_a_killed_process_is_retried_unless_the_memory_of_its_pod_was_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(failures, "out_of_memory_kills", lambda: out_of_memory_kills(tmp_path))
    write_kills(tmp_path, 1)
    taken = launch_error(ended(exitcode=-9), tmp_path, former_kills=1)
    full = launch_error(ended(exitcode=-9), tmp_path, former_kills=0)
    assert isinstance(taken, OutOfMemoryError)
    assert isinstance(full, OutOfMemoryError)
    assert (taken.transient, full.transient) == (True, False)
    assert "The memory of this machine or pod is full. Give it more" in full.message
    assert "training.micro_batch_size" in full.message


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [
        ("0::/\n", "sys/fs/cgroup/memory.events", "oom 1\noom_kill 2\n"),
        ("0::/user.slice/a\n", "sys/fs/cgroup/user.slice/a/memory.events", "oom 1\noom_kill 2\n"),
        ("4:memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.oom_control", "under_oom 0\noom_kill 2\n"),
        ("4:cpu,memory:/host/a\n", "sys/fs/cgroup/memory/memory.oom_control", "under_oom 0\noom_kill 2\n"),
    ],
    ids=["version 2 in a container", "version 2", "version 1", "version 1 in a container"],
)
def test_the_count_of_full_memory_is_found(tmp_path: Path, cgroup: str, file: str, text: str):
    for name, content in {"proc/self/cgroup": cgroup, file: text}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert out_of_memory_kills(tmp_path) == 2


def test_a_system_that_does_not_count_full_memory_gives_none(tmp_path: Path):
    assert out_of_memory_kills(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "[/pytorch/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.7]:41522",
        "[/pytorch/gloo/transport/tcp/pair.cc:547] Read error [10.0.0.7]:41522: Connection reset by peer",
        "[/pytorch/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 7200000ms for recv operation to complete",
        "NCCL error in: ProcessGroupNCCL.cpp:3356, remote process exited or there was a network error, NCCL 2.27.5",
        "NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.5",
        "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9) ran for 7200000 ms",
        "failed to recv, got 0 bytes",
        "The client socket has timed out after 1800000ms while trying to connect to (worker-0, 29400).",
    ],
)
def test_a_lost_peer_is_retried(text: str):
    failure = describe_error(RuntimeError(text))
    assert (failure.kind, failure.transient) == ("LostProcess", True)
    assert "another process of the run is gone" in failure.message
    assert "disk" not in failure.message


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
        torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:1, unhandled cuda error"),
    ],
    ids=lambda error: str(error)[:40],
)
def test_an_error_of_the_gpu_or_of_nccl_is_retried(error: Exception):
    failure = describe_error(error)
    assert (failure.kind, failure.transient) == ("", True)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        torch.distributed.DistBackendError("NCCL error in: init.cc:1, Cuda failure 2 'out of memory'"),
    ],
    ids=lambda error: str(error)[:40],
)
def test_a_full_gpu_is_not_retried_and_says_what_to_lower(error: Exception):
    failure = describe_error(error)
    assert (failure.kind, failure.transient) == ("OutOfMemoryError", False)
    assert "Lower training.micro_batch_size" in failure.message


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        AssertionError("Torch not compiled with CUDA enabled"),
        ValueError("seq_len"),
    ],
    ids=lambda error: str(error)[:40],
)
def test_an_error_that_every_attempt_would_meet_is_not_retried(error: Exception):
    assert not describe_error(error).transient


@pytest.mark.parametrize(
    "kind", [RendezvousTimeoutError, RendezvousConnectionError, torch.distributed.DistNetworkError]
)
def test_nodes_that_do_not_meet_are_retried(tmp_path: Path, kind: type[Exception]):
    raised = launch_error(kind("no answer"), tmp_path)
    assert type(raised) is LostProcess
    assert raised.transient
    assert "the nodes of the run did not meet, or lost each other" in raised.message


def test_the_error_of_a_process_explains_more_than_the_loss_of_it(tmp_path: Path):
    launcher_error = fail(tmp_path, RuntimeError("Connection closed by peer"), rank=0)
    fail(tmp_path, ValueError("seq_len"), rank=1)
    raised = launch_error(launcher_error, tmp_path)
    assert raised is not None
    assert "ValueError: seq_len" in raised.message
    assert not raised.transient


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/x"), True),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), True),
        (RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 1088 vs 982"), True),
        (RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"), True),
        (SafetensorError("I/O error: No space left on device (os error 28)"), True),
        (ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)), False),
        (TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)), False),
        (RuntimeError("[/gloo/transport/tcp/pair.cc:547] Read error [::1]:4: Connection reset by peer"), False),
        (torch.OutOfMemoryError("CUDA out of memory."), False),
        (ValueError("seq_len"), False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_only_an_error_of_the_disk_is_taken_for_one(error: Exception, expected: bool):
    assert is_disk_error(error) == expected


def test_an_error_that_follows_from_another_does_not_hide_it(tmp_path: Path):
    launcher_error = fail(tmp_path, RuntimeError("Connection closed by peer"), rank=0)
    fail(tmp_path, DataError("rows: damaged"), rank=1)
    fail(tmp_path, Interrupted("interrupted after step 3 of 8"), rank=2)
    raised = launch_error(launcher_error, tmp_path)
    assert type(raised) is DataError


@pytest.mark.parametrize(("exitcode", "why", "transient"), [(-15, "SIGTERM", True), (-6, "SIGABRT", True)])
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
