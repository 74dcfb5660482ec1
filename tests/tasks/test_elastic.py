"""How a pod of several nodes ends when it has lost another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flytekit.core.base_task import IgnoreOutputs
from flytekit.core.context_manager import ExecutionState, FlyteContextManager

from flyte_llama.tasks import elastic
from flyte_llama.tasks.elastic import SystemFailure
from flyte_llama.tasks.training import fine_tune_on_nodes
from flyte_llama.training.failures import LostProcess


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a pod's outputs and errors. The processes of the pod have lost those of another one."""

    def lose(*_: Any, **__: Any) -> None:
        raise LostProcess("another process of the run is gone")

    monkeypatch.setattr(elastic, "run_launcher", lose)
    monkeypatch.setattr(elastic, "_SECONDS_FOR_CAUSE", 0.1)
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
