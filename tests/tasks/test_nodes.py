"""A training task on two nodes, whose pods share a bucket as on a cluster."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flyteidl.core import errors_pb2, execution_pb2, literals_pb2
from flytekit.models.task import TaskSpec

from flyte_llama.config import TrainingConfig
from flyte_llama.documents import write_documents
from tests.conftest import TEXTS, document
from tests.tasks.bucket import Bucket, serve_bucket
from tests.tasks.conftest import Registered
from tests.tasks.job import Job, run_job
from tests.tasks.test_attempts import LONG, config_literal, folder_literal, text_literal
from tests.training.runs import SETTINGS, write_packed_rows

pytestmark = pytest.mark.slow
RECOVERABLE, SYSTEM = errors_pb2.ContainerError.RECOVERABLE, execution_pb2.ExecutionError.SYSTEM


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serve_bucket() as served:
        yield served


@pytest.fixture
def on_nodes(registered: Registered) -> TaskSpec:
    return registered.tasks["fine_tune_on_nodes"]


def write_inputs(folder: Path, base: Path, settings: dict[str, object]) -> literals_pb2.LiteralMap:
    """The inputs of a training task, as files on this machine."""
    write_documents(folder / "heldout", [document(text) for text in TEXTS])
    folders = {"base": base, "rows": write_packed_rows(base, folder / "rows"), "heldout": folder / "heldout"}
    values = {name: folder_literal(each) for name, each in folders.items()}
    values |= {"training": config_literal(TrainingConfig(**settings)), "generation": text_literal("")}
    return literals_pb2.LiteralMap(literals=values)


def steps(job: Job, node: int = 0) -> set[str]:
    """The steps whose checkpoint a node has uploaded whole."""
    return {key.rsplit("/", 1)[1] for key in job.bucket.keys(rf"/node-{node}/step-\d+\.whole$")}


def test_no_pod_ends_before_the_outputs_are_there_however_slow_the_bucket_is(
    on_nodes: TaskSpec, bucket: Bucket, tiny_base: Path, tmp_path: Path
):
    def hold_up(method: str, key: str) -> None:
        if method == "PUT" and key.endswith(("/model.safetensors", "/outputs.pb")):
            time.sleep(15)

    bucket.before = hold_up
    inputs = write_inputs(tmp_path, tiny_base, SETTINGS)
    with run_job(on_nodes, inputs, tmp_path / "job", bucket, nodes=2) as job:
        while all(pod.poll() is None for pod in job.pods):
            time.sleep(0.05)
        assert job.outputs() is not None, job.tail(0) + job.tail(1)
        assert [job.wait(0), job.wait(1)] == [0, 0]
    assert not job.errors()
    assert "waiting until the pod of rank 0 has written the outputs" in job.log(0) + job.log(1)
    outputs = job.outputs()
    assert outputs is not None
    model = outputs.literals["model"].scalar.blob.uri.removeprefix("s3://bkt/")
    assert bucket.keys(f"^{model}/model.safetensors$")
    assert bucket.keys("job/out/deck.html")


def test_a_node_that_is_told_to_end_ends_both_at_the_expense_of_the_system(
    on_nodes: TaskSpec, bucket: Bucket, tiny_base: Path, tmp_path: Path
):
    inputs = write_inputs(tmp_path, tiny_base, LONG)
    with run_job(on_nodes, inputs, tmp_path / "job", bucket, nodes=2) as job:
        job.wait_until(lambda: steps(job))
        job.pods[1].send_signal(signal.SIGTERM)
        assert [job.wait(0), job.wait(1)] == [0, 0]
    # Both pods write to one file.
    (error,) = job.errors()
    assert (error.kind, error.origin) == (RECOVERABLE, SYSTEM), error
    assert job.outputs() is None
    assert steps(job, node=0) == steps(job, node=1)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_node_that_loses_the_other_is_retried_at_the_expense_of_the_system(
    on_nodes: TaskSpec, bucket: Bucket, tiny_base: Path, tmp_path: Path, lost: int
):
    inputs = write_inputs(tmp_path, tiny_base, LONG)
    with run_job(on_nodes, inputs, tmp_path / "job", bucket, nodes=2) as job:
        job.wait_until(lambda: steps(job))
        workers = job.workers(lost)
        job.pods[lost].kill()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        assert job.wait(1 - lost) == 0
    (error,) = job.errors()
    assert (error.kind, error.origin) == (RECOVERABLE, SYSTEM), error
    assert "disk" not in error.message
    assert job.outputs() is None


def test_a_pod_that_is_alone_is_refused_at_once(on_nodes: TaskSpec, bucket: Bucket, tiny_base: Path, tmp_path: Path):
    inputs = write_inputs(tmp_path, tiny_base, SETTINGS)
    with run_job(on_nodes, inputs, tmp_path / "job", bucket) as job:
        job.wait()
    (error,) = job.errors()
    assert error.kind == errors_pb2.ContainerError.NON_RECOVERABLE
    assert "enable Flyte's `pytorch` plugin" in error.message


def test_a_new_execution_goes_on_from_the_checkpoints_of_one_that_died_and_removes_them_at_the_end(
    registered: Registered, bucket: Bucket, tiny_base: Path, tmp_path: Path
):
    inputs = write_inputs(tmp_path, tiny_base, LONG)
    kept, task = "s3://bkt/kept", registered.tasks["fine_tune"]
    with run_job(task, inputs, tmp_path / "dead", bucket, cache=kept) as job:
        job.wait_until(lambda: steps(job))
    assert bucket.keys(r"^kept/checkpoints/\w+/\w+/node-0/step-\d+\.whole$")
    with run_job(task, inputs, tmp_path / "new", bucket, cache=kept) as job:
        assert job.wait() == 0
        log = job.log()
    assert not job.errors(), job.errors()
    assert "resuming after step" in log
    outputs = job.outputs()
    assert outputs is not None
    assert bucket.keys(f"^{outputs.literals['model'].scalar.blob.uri.removeprefix('s3://bkt/')}/model.safetensors$")
    assert not bucket.keys("^kept/checkpoints/")

    # A pod may be taken away after it stored the model, before Flyte has its outputs. The next attempt trains nothing.
    with run_job(task, inputs, tmp_path / "again", bucket, previous="new", cache=kept) as job:
        assert job.wait() == 0
    assert "an earlier start of this run trained the model: s3://bkt/new/raw" in job.log()
    assert "step 60/60" not in job.log()
    again = job.outputs()
    assert again is not None
    assert again.literals["model"].scalar.blob.uri == outputs.literals["model"].scalar.blob.uri
    assert again.literals["model"].hash == outputs.literals["model"].hash
