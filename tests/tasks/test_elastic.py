"""How a training pod ends, and so what Flyte does next: the table of docs/cluster.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from flyteidl.core import errors_pb2, execution_pb2, literals_pb2
from flytekit.bin.entrypoint import _dispatch_execute, setup_execution
from flytekit.core.base_task import IgnoreOutputs
from flytekit.core.context_manager import ExecutionState, FlyteContextManager
from torch.distributed.elastic.rendezvous import RendezvousTimeoutError

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import DataError
from flyte_llama.tasks import elastic
from flyte_llama.tasks.elastic import SystemFailure
from flyte_llama.tasks.training import fine_tune, fine_tune_on_nodes
from flyte_llama.training.failures import LostProcess, launch_error
from flyte_llama.training.processes import Interrupted
from tests.tasks.literals import folder_literal, literal
from tests.training.test_failures import ended, fail

RECOVERABLE, NON_RECOVERABLE = errors_pb2.ContainerError.RECOVERABLE, errors_pb2.ContainerError.NON_RECOVERABLE
USER, SYSTEM = execution_pb2.ExecutionError.USER, execution_pb2.ExecutionError.SYSTEM


def in_a_process(error: Exception) -> Callable[[Path], BaseException | None]:
    """What the launcher raises if a training process failed with this error."""
    return lambda folder: launch_error(fail(folder, error), folder)


# What happens to a training pod → what its launcher raises, and the class of the error that Flyte finds.
ENDS: dict[str, tuple[Callable[[Path], BaseException | None], tuple[int, int]]] = {
    "the pod is told to end": (lambda folder: SystemExit(143), (RECOVERABLE, SYSTEM)),
    "a process is told to end": (in_a_process(Interrupted("interrupted after step 3")), (RECOVERABLE, SYSTEM)),
    "the nodes do not meet": (lambda folder: launch_error(RendezvousTimeoutError(""), folder), (RECOVERABLE, SYSTEM)),
    "a node is lost": (in_a_process(RuntimeError("Connection closed by peer [10.0.0.7]:4152")), (RECOVERABLE, SYSTEM)),
    "a process is killed": (lambda folder: launch_error(ended(exitcode=-9), folder), (RECOVERABLE, USER)),
    "NCCL aborts a process": (lambda folder: launch_error(ended(exitcode=-6), folder), (RECOVERABLE, USER)),
    "CUDA reports an error": (in_a_process(torch.AcceleratorError("CUDA error: x", 700)), (RECOVERABLE, USER)),
    "the bucket does not answer": (in_a_process(DataError("no answer", transient=True)), (RECOVERABLE, USER)),
    "a GPU is full": (in_a_process(torch.OutOfMemoryError("CUDA out of memory")), (NON_RECOVERABLE, USER)),
    "the pod's memory is full": (
        lambda folder: launch_error(ended(exitcode=-9), folder, former_kills=-1),
        (NON_RECOVERABLE, USER),
    ),
    "any other error": (in_a_process(ValueError("seq_len")), (NON_RECOVERABLE, USER)),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_pod_ends_so_that_flyte_retries_what_another_attempt_may_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
):
    make_error, expected = ENDS[end]
    monkeypatch.setattr("flyte_llama.training.failures.out_of_memory_kills", lambda: 0)
    monkeypatch.delenv("FLYTE_FAIL_ON_ERROR", raising=False)
    error = make_error(tmp_path / "launcher")
    assert error is not None

    def raise_error(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(elastic, "run_launcher", raise_error)
    inputs = {name: folder_literal(str(tmp_path)) for name in ("base", "rows", "heldout")}
    inputs |= {"training": literal(TrainingConfig()), "generation": literal("")}
    (tmp_path / "inputs.pb").write_bytes(literals_pb2.LiteralMap(literals=inputs).SerializeToString())
    with setup_execution(raw_output_data_prefix=str(tmp_path / "raw"), output_metadata_prefix=str(tmp_path)) as context:
        _dispatch_execute(context, lambda: fine_tune, str(tmp_path / "inputs.pb"), str(tmp_path / "out"))
    written = errors_pb2.ErrorDocument.FromString((tmp_path / "out/error.pb").read_bytes()).error
    assert (written.kind, written.origin) == expected


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a pod's outputs and errors. The processes of the pod have lost those of another one."""

    def lose(*_: Any, **__: Any) -> None:
        raise LostProcess("another process of the run is gone")

    monkeypatch.setattr(elastic, "run_launcher", lose)
    monkeypatch.setattr(elastic, "_SECONDS_FOR_CAUSE", 0.1)
    monkeypatch.setattr(elastic, "_SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setenv("PET_RDZV_ENDPOINT", "localhost:1")
    context = FlyteContextManager.current_context()
    params = context.user_space_params.builder()
    params.output_metadata_prefix = str(tmp_path / "out")
    state = context.new_execution_state().with_params(
        mode=ExecutionState.Mode.TASK_EXECUTION, user_space_params=params.build()
    )
    (tmp_path / "out").mkdir()
    with FlyteContextManager.with_context(context.with_execution_state(state)):
        yield tmp_path / "out"


def test_a_lost_node_is_the_failure_of_the_system(out: Path):
    with pytest.raises(SystemFailure, match="another process of the run is gone"):
        fine_tune_on_nodes.execute()


def test_the_error_of_the_other_pod_is_not_overwritten(out: Path):
    (out / "error.pb").touch()
    with pytest.raises(IgnoreOutputs):
        fine_tune_on_nodes.execute()
