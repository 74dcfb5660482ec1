"""A training task on two nodes, whose pods share a bucket as on a cluster."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flyteidl.core import errors_pb2
from flytekit.models.task import TaskSpec

from tests.tasks.conftest import Registered
from tests.tasks.pod import Attempt, Cluster
from tests.tasks.test_attempts import LONG, assert_charged_to_the_system, cluster, steps_of, store_inputs
from tests.training.runs import SETTINGS

pytestmark = pytest.mark.slow
__all__ = ["cluster"]  # a fixture
SECONDS_OF_DELAY = 6
"""Longer than a pod takes to end, also on a busy machine."""


@pytest.fixture
def on_nodes(registered: Registered) -> TaskSpec:
    return registered.tasks["fine_tune_on_nodes"]


@contextmanager
def start(
    cluster: Cluster, spec: TaskSpec, base: Path, folder: Path, settings: dict[str, object], nodes: int = 2
) -> Iterator[Attempt]:
    """Start the task on nodes of one process each."""
    inputs = store_inputs(cluster.bucket, base, folder, settings)
    registered = {"FLYTE_LLAMA_NODES": "2", "FLYTE_LLAMA_GPU_COUNT": "1"}
    with cluster.start(spec, inputs, "job", nodes=nodes, variables=registered) as attempt:
        yield attempt


def test_no_pod_ends_before_the_outputs_are_there_however_slow_the_bucket_is(
    on_nodes: TaskSpec, cluster: Cluster, tiny_base: Path, tmp_path: Path
):
    def hold_up(method: str, key: str) -> None:
        if method == "PUT" and key.endswith(("/model.safetensors", "/outputs.pb")):
            time.sleep(SECONDS_OF_DELAY)

    cluster.bucket.before = hold_up
    with start(cluster, on_nodes, tiny_base, tmp_path, SETTINGS) as job:
        while all(pod.poll() is None for pod in job.pods):
            time.sleep(0.05)
        outputs = job.outputs()
        assert outputs is not None, job.tails()
        assert [job.wait(0), job.wait(1)] == [0, 0]
    assert job.error() is None
    assert "waiting until the pod of rank 0 has written the outputs" in job.log(0) + job.log(1)
    model = outputs.literals["model"].scalar.blob.uri.removeprefix("s3://bkt/")
    assert cluster.bucket.keys(f"^{model}/model.safetensors$")
    assert cluster.bucket.keys("^job/deck.html$")


def test_a_node_that_is_told_to_end_ends_both_at_the_expense_of_the_system(
    on_nodes: TaskSpec, cluster: Cluster, tiny_base: Path, tmp_path: Path
):
    with start(cluster, on_nodes, tiny_base, tmp_path, LONG) as job:
        job.wait_until(lambda: steps_of(job))
        job.pods[1].send_signal(signal.SIGTERM)
        assert [job.wait(0), job.wait(1)] == [0, 0]
    assert_charged_to_the_system(job)
    assert steps_of(job, node=0) == steps_of(job, node=1)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_node_that_loses_the_other_is_retried_at_the_expense_of_the_system(
    on_nodes: TaskSpec, cluster: Cluster, tiny_base: Path, tmp_path: Path, lost: int
):
    with start(cluster, on_nodes, tiny_base, tmp_path, LONG) as job:
        job.wait_until(lambda: steps_of(job))
        workers = job.workers(lost)
        job.pods[lost].kill()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        assert job.wait(1 - lost) == 0
    assert_charged_to_the_system(job)
    assert "disk" not in str(job.error())


def test_a_pod_that_is_alone_is_refused_at_once(on_nodes: TaskSpec, cluster: Cluster, tiny_base: Path, tmp_path: Path):
    with start(cluster, on_nodes, tiny_base, tmp_path, SETTINGS, nodes=1) as job:
        job.wait()
    error = job.error()
    assert error is not None
    assert error.kind == errors_pb2.ContainerError.NON_RECOVERABLE
    assert "enable Flyte's `pytorch` plugin" in error.message
