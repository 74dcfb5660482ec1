"""The report of a failed run: which step failed, why, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from flytekit.core.context_manager import ExecutionState, FlyteContextManager
from flytekit.types.error import FlyteError

from flyte_llama.config import ExperimentConfig
from flyte_llama.tasks import failure
from flyte_llama.tasks.failure import explain_failure, steps_of
from flyte_llama.workflows import report_failure, sweep, train_flyte_llama

STEPS = {"n3": "read_source", "n12": "evaluate", "n15": "evaluate", "n17": "fine_tune", "n18": "complete_shard"}


@pytest.mark.parametrize(
    ("node", "message", "remedy"),
    [
        ("n17", "task execution timeout [72h0m0s] expired", "label nvidia-a100-80gb): change that, or the settings"),
        ("n17", "Timeout in node", "raise FLYTE_LLAMA_TRAINING_TIMEOUT_HOURS."),
        ("n3", "task active timeout [12h0m0s] expired", "raise FLYTE_LLAMA_TIMEOUT_HOURS."),
        ("n12", "[a7-n12-0-1] terminated with exit code (137). Reason [OOMKilled]", "Raise FLYTE_LLAMA_EVAL_MEMORY"),
        ("n17", "exitcode  : -9 (pid: 12)\nSignal 9 (SIGKILL)", "Raise FLYTE_LLAMA_GPU_MEMORY (or lower training.mi"),
        ("n3", "terminated with exit code (137). Reason [OOMKilled]", "Raise FLYTE_LLAMA_DATA_MEMORY and register"),
        ("n18", "Reason [OOMKilled]", "Raise FLYTE_LLAMA_EVAL_MEMORY (or lower options.batch_tokens"),
        ("n18", "Pod was Evicted", "Raise FLYTE_LLAMA_GPU_STORAGE"),
        ("n3", "ImagePullBackOff: Back-off pulling image r/i:t", "Push the image that was registered"),
        ("n3", 'CreateContainerConfigError: secret "hub" not found', "See whether the Flyte secrets"),
        ("n3", "The node was low on resource: ephemeral-storage", "Raise FLYTE_LLAMA_DATA_STORAGE"),
        ("n12", "Pod was Evicted", "Raise FLYTE_LLAMA_GPU_STORAGE"),
        ("n17", "UnexpectedObjectDeletion: object deleted", "Set FLYTE_LLAMA_SPOT=0"),
        ("n3", "Trace:\n\n  File x\n\nMessage:\n\n    SourceError: x: not found. Check the URL.", "Do what the reason"),
        ("n3", "Message:\n\n    ConfigError: x: contains a secret. Remove it.", "Do what the reason says."),
        ("n17", "Message:\n\n    SystemFailure: the pod was told to end.", "Set FLYTE_LLAMA_SPOT=0"),
        (
            "n3",
            "Message:\n\n    FlyteRecoverableException: USER:Recoverable: error=x. Look whether",
            "Do what the reason",
        ),
        ("n17", "RuntimeError: no idea", "Read the log of the step in the console."),
    ],
)
def test_a_failure_says_what_to_do(node: str, message: str, remedy: str):
    explained = explain_failure(message, [node], STEPS)
    assert explained.step == f"{STEPS[node]} ({node})"
    assert remedy in explained.remedy
    assert explained.remedy.endswith(
        "Then start the same configuration again: the steps that are done come from the cache."
    )


def test_the_reason_is_the_message_without_its_traceback():
    message = "Trace:\n\n    Traceback (most recent call last):\n\nMessage:\n\n    DataError: a:\n      b.\n"
    assert explain_failure(message, ["n3"], STEPS).reason == "DataError: a:\n            b."


def test_the_steps_are_the_tasks_of_the_workflow():
    steps = steps_of(train_flyte_llama)
    assert [name for name in steps.values() if name == "evaluate"] == ["evaluate"] * 3
    assert {"start_run", "read_source", "fine_tune", "publish"} <= set(steps.values())
    assert "try_point" in steps_of(sweep).values()


@pytest.mark.parametrize(
    ("error", "nodes"),
    [
        (FlyteError("expired", "n17"), ["n17"]),
        (FlyteError("[ab12-n12-0] terminated with exit code (1)", "fn0"), ["n12"]),
        (FlyteError("[ab12-n3-0-n17-2] terminated with exit code (1)", "fn0"), ["n3"]),
        (FlyteError("failed at Node[n3]. BadTask", "fn0"), ["n3"]),
        (FlyteError("Timeout in node", "fn0"), []),
    ],
)
def test_the_failed_node_is_found_in_the_error(error: FlyteError, nodes: list[str]):
    assert failure._failed_nodes(error, STEPS) == nodes


@pytest.mark.parametrize(
    ("files", "nodes"),
    [
        # a retried step that succeeded, a failed one, one that still ran
        (["n3/data/0/error.pb", "n3/data/1/outputs.pb", "n12/data/0/4/1/error.pb", "n17/data/inputs.pb"], ["n12"]),
        (["n3/data/0/outputs.pb", "n17/data/inputs.pb"], ["n17"]),
        (["n12/data/0/0/0/outputs.pb", "n12/data/inputs.pb", "n17/data/inputs.pb"], ["n12", "n17"]),
    ],
)
def test_the_failed_node_is_found_in_the_bucket(files: list[str], nodes: list[str], tmp_path: Path):
    for file in files:
        (tmp_path / "execution" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "execution" / file).touch()
    context = FlyteContextManager.current_context()
    params = context.user_space_params.builder()
    params.output_metadata_prefix = str(tmp_path / "execution/fn0/data/0")
    in_pod = context.new_execution_state().with_params(
        mode=ExecutionState.Mode.TASK_EXECUTION, user_space_params=params.build()
    )
    with FlyteContextManager.with_context(context.with_execution_state(in_pod)):
        assert failure._failed_nodes(FlyteError("Timeout in node", "fn0"), STEPS) == nodes


def test_a_local_run_reports_its_error_once(capsys: pytest.CaptureFixture[str]):
    assert report_failure(config=ExperimentConfig(), err=FlyteError("broken", "fn0")) == ""
    assert "broken" not in capsys.readouterr().err
