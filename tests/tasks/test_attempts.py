"""A training task in pods that are taken away; attempts are started one after the other, as Flyte would."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flyteidl.core import errors_pb2, execution_pb2, literals_pb2

from flyte_llama.config import TrainingConfig
from flyte_llama.documents import write_documents
from tests.conftest import TEXTS, document
from tests.tasks.bucket import Bucket, serve_bucket
from tests.tasks.conftest import Registered
from tests.tasks.literals import folder_literal, literal
from tests.tasks.pod import Attempt, Cluster, checkpoints_of
from tests.training.runs import SETTINGS, launch_runs, write_packed_rows

pytestmark = pytest.mark.slow
# Enough steps for the signal to arrive before training ends.
LONG = SETTINGS | {"max_steps": 60, "global_batch_size": 16, "checkpoint_every_steps": 5, "log_every_steps": 5}
KEPT = {"FLYTE_LLAMA_CACHE": "s3://bkt/kept"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with serve_bucket() as bucket:
        yield Cluster(bucket, tmp_path / "pods")


def store_inputs(bucket: Bucket, base: Path, folder: Path, settings: dict[str, object]) -> literals_pb2.LiteralMap:
    """The inputs of a training task, with their folders in the bucket."""
    rows = write_packed_rows(base, folder / "rows")
    write_documents(folder / "heldout", [document(text) for text in TEXTS])
    folders = {"base": base, "rows": rows, "heldout": folder / "heldout"}
    values = {name: folder_literal(bucket.store(each, f"inputs/{name}")) for name, each in folders.items()}
    values |= {"training": literal(TrainingConfig(**settings)), "generation": literal("")}
    return literals_pb2.LiteralMap(literals=values)


def steps_of(attempt: Attempt, node: int = 0) -> list[int]:
    """The steps whose checkpoint a node of this attempt has uploaded whole."""
    folder = checkpoints_of(attempt.place)
    keys = attempt.bucket.keys(rf"^{folder}/node-{node}/step-\d+\.whole$")
    return sorted(int(key.rpartition("-")[2].removesuffix(".whole")) for key in keys)


def kept_steps(bucket: Bucket) -> list[int]:
    """The steps whose checkpoint any execution of the run can find."""
    keys = bucket.keys(r"^kept/checkpoints/\w+/\w+/node-0/step-\d+\.whole$")
    return sorted(int(key.rpartition("-")[2].removesuffix(".whole")) for key in keys)


def assert_charged_to_the_system(attempt: Attempt) -> None:
    """Flyte starts another attempt, and does not count this one as a retry of the task."""
    error = attempt.error()
    assert error is not None
    assert (error.kind, error.origin) == (errors_pb2.ContainerError.RECOVERABLE, execution_pb2.ExecutionError.SYSTEM)
    assert attempt.outputs() is None


def test_interrupted_attempts_pass_on_their_checkpoints_and_the_last_gives_the_same_model(
    registered: Registered, cluster: Cluster, tiny_base: Path, tmp_path: Path
):
    bucket, spec = cluster.bucket, registered.tasks["fine_tune"]
    inputs = store_inputs(bucket, tiny_base, tmp_path, LONG)
    done = launch_runs(tiny_base, tmp_path / "rows", [{"out": tmp_path / "whole", "settings": LONG}])
    assert done.returncode == 0, done.stderr[-3000:]

    # The attempt before left nothing. The pod's main process gets the signal.
    with cluster.start(spec, inputs, "run/1", number=1, previous="run/0") as attempt:
        attempt.wait_until(lambda: steps_of(attempt))
        attempt.pods[0].send_signal(signal.SIGTERM)
        attempt.wait()
    assert "left no checkpoint, so training starts at step 0" in attempt.log()
    assert "interrupted after step" in attempt.log()
    assert_charged_to_the_system(attempt)
    first = steps_of(attempt)
    assert len(first) == 2

    # In the next attempt a training process gets the signal, as soon as it has resumed.
    with cluster.start(spec, inputs, "run/2", number=2, previous="run/1") as attempt:
        attempt.wait_until(lambda: "resuming after step" in attempt.log())
        assert steps_of(attempt) == first[-1:]
        (worker,) = attempt.workers()
        os.kill(worker, signal.SIGTERM)
        attempt.wait()
    assert_charged_to_the_system(attempt)
    assert "interrupted after step" in str(attempt.error())
    assert steps_of(attempt)[0] == first[-1] < steps_of(attempt)[-1]

    # From here on, checkpoints go to a place that later executions find. A training process is killed, as by a host
    # without memory. One sentence says so.
    with cluster.start(spec, inputs, "dead/0", variables=KEPT) as attempt:
        attempt.wait_until(lambda: kept_steps(bucket))
        os.kill(attempt.workers()[0], signal.SIGKILL)
        attempt.wait()
    error = attempt.error()
    assert error is not None
    assert error.kind == errors_pb2.ContainerError.RECOVERABLE
    assert error.origin == execution_pb2.ExecutionError.USER
    message = error.message.partition("Message:")[2]
    assert (
        message.split(".")[0].strip()
        == "FlyteRecoverableException: USER:Recoverable: error=a training process was killed by signal 9 (SIGKILL)"
    )
    assert "interrupted after step" not in attempt.log()

    # A new execution has no previous attempt, and resumes too. Its main process is killed after the last step. No
    # process of it stays.
    with cluster.start(spec, inputs, "new/0", variables=KEPT) as attempt:
        attempt.wait_until(lambda: 60 in kept_steps(bucket))
        (worker,) = attempt.workers()
        attempt.pods[0].kill()
        attempt.wait()
        end = time.monotonic() + 30
        while Path(f"/proc/{worker}").exists():
            assert time.monotonic() < end
            time.sleep(0.1)
    assert "resuming after step" in attempt.log()

    # Another one takes no step. Its model equals the model of an uninterrupted run, and the checkpoints are removed.
    with cluster.start(spec, inputs, "last/0", variables=KEPT) as attempt:
        assert attempt.wait() == 0
    outputs = attempt.outputs()
    assert outputs is not None, attempt.tails()
    assert "resuming after step 60 of 60" in attempt.log()
    assert "step 60/60" not in attempt.log()
    model = outputs.literals["model"]
    weights = bucket.objects[f"{model.scalar.blob.uri.removeprefix('s3://bkt/')}/model.safetensors"]
    whole = tmp_path / "whole" / "model.safetensors"
    assert hashlib.sha256(weights).digest() == hashlib.sha256(whole.read_bytes()).digest()
    assert not bucket.keys("^kept/checkpoints/")

    # A pod may be taken away after it stored the model, before Flyte has its outputs. The next attempt trains nothing.
    with cluster.start(spec, inputs, "last/1", number=1, previous="last/0", variables=KEPT) as attempt:
        assert attempt.wait() == 0
    again = attempt.outputs()
    assert again is not None, attempt.tails()
    assert "an earlier start of this run trained the model: s3://bkt/raw/last/0" in attempt.log()
    assert again.literals["model"].scalar.blob.uri == model.scalar.blob.uri
    assert again.literals["model"].hash == model.hash
