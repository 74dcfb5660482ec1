"""A training task in pods that are taken away; attempts are started one after the other, as Flyte would."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flyteidl.core import errors_pb2, execution_pb2, literals_pb2, types_pb2
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.type_engine import TypeEngine

from flyte_llama.config import TrainingConfig
from flyte_llama.documents import write_documents
from tests.conftest import TEXTS, document
from tests.tasks.conftest import Registered
from tests.tasks.pod import Pod, start_pod
from tests.training.runs import SETTINGS, launch_runs, write_packed_rows

pytestmark = pytest.mark.slow
# Enough steps for the signal to arrive before training ends.
LONG = SETTINGS | {"max_steps": 60, "global_batch_size": 16, "checkpoint_every_steps": 5, "log_every_steps": 5}


def folder_literal(folder: Path) -> literals_pb2.Literal:
    multipart = types_pb2.BlobType(dimensionality=types_pb2.BlobType.MULTIPART)
    blob = literals_pb2.Blob(metadata=literals_pb2.BlobMetadata(type=multipart), uri=str(folder))
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(blob=blob))


def config_literal(config: TrainingConfig) -> literals_pb2.Literal:
    context, kind = FlyteContextManager.current_context(), type(config)
    return TypeEngine.to_literal(context, config, kind, TypeEngine.to_literal_type(kind)).to_flyte_idl()


def text_literal(text: str) -> literals_pb2.Literal:
    primitive = literals_pb2.Primitive(string_value=text)
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(primitive=primitive))


def steps_in_bucket(pod: Pod) -> list[int]:
    """The steps that have a checkpoint in the bucket."""
    whole = (pod.folder / "checkpoint").glob("node-0/step-*.whole")
    return sorted(int(path.name.removeprefix("step-").removesuffix(".whole")) for path in whole)


def assert_charged_to_the_system(error: errors_pb2.ContainerError | None) -> None:
    """Flyte starts another attempt, and does not count this one as a retry of the task."""
    assert error is not None
    assert (error.kind, error.origin) == (errors_pb2.ContainerError.RECOVERABLE, execution_pb2.ExecutionError.SYSTEM)


def wait_until(pod: Pod, condition: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert pod.process.poll() is None, pod.log()[-3000:]
        assert time.monotonic() < end, pod.log()[-3000:]
        time.sleep(0.02)


def test_interrupted_attempts_pass_on_their_checkpoints_and_the_last_gives_the_same_model(
    registered: Registered,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = write_packed_rows(tiny_base, tmp_path / "rows")
    done = launch_runs(tiny_base, rows, [{"out": tmp_path / "whole", "settings": LONG}])
    assert done.returncode == 0, done.stderr[-3000:]
    spec = next(spec for name, spec in registered.tasks.items() if name.startswith("fine_tune"))
    training = config_literal(TrainingConfig(**LONG))
    heldout = tmp_path / "heldout"
    write_documents(heldout, [document(text) for text in TEXTS])
    folders = {"base": tiny_base, "rows": rows, "heldout": heldout}
    values = {
        "training": training,
        "generation": text_literal(""),
        **{name: folder_literal(folder) for name, folder in folders.items()},
    }
    inputs = literals_pb2.LiteralMap(literals=values)

    def attempt(index: int) -> Pod:
        previous = tmp_path / str(index - 1)
        pod = start_pod(spec, inputs, tmp_path / str(index), previous=previous, cluster={"OMP_NUM_THREADS": "1"})
        request.addfinalizer(pod.end)
        return pod

    # The first attempt has no previous folder to read. The pod's main process gets the signal.
    pod = attempt(0)
    wait_until(pod, lambda: steps_in_bucket(pod))
    pod.process.send_signal(signal.SIGTERM)
    pod.process.wait(timeout=300)
    assert "left no checkpoint, so training starts at step 0" in pod.log()
    assert "interrupted after step" in pod.log()
    assert_charged_to_the_system(pod.error())
    assert pod.outputs() is None
    first = steps_in_bucket(pod)
    assert len(first) == 2

    # In the second attempt a training process gets the signal, as soon as it has resumed.
    pod = attempt(1)
    wait_until(pod, lambda: "resuming after step" in pod.log())
    assert steps_in_bucket(pod) == first[-1:]
    (worker,) = pod.workers()
    os.kill(worker, signal.SIGTERM)
    pod.process.wait(timeout=300)
    error = pod.error()
    assert_charged_to_the_system(error)
    assert "interrupted after step" in str(error)
    assert pod.outputs() is None
    assert steps_in_bucket(pod)[0] == first[-1] < steps_in_bucket(pod)[-1]

    # In the third attempt a training process is killed, as by a host without memory. One sentence says so.
    pod = attempt(2)
    wait_until(pod, lambda: "resuming after step" in pod.log())
    os.kill(pod.workers()[0], signal.SIGKILL)
    pod.process.wait(timeout=300)
    error = pod.error()
    assert error is not None
    assert error.kind == errors_pb2.ContainerError.RECOVERABLE
    assert error.origin == execution_pb2.ExecutionError.USER
    message = error.message.partition("Message:")[2]
    assert (
        message.split(".")[0].strip()
        == "FlyteRecoverableException: USER:Recoverable: error=a training process was killed by signal 9 (SIGKILL)"
    )
    assert "interrupted after step" not in pod.log()

    # The fourth attempt's main process is killed after the last step. No process of it stays.
    pod = attempt(3)
    wait_until(pod, lambda: 60 in steps_in_bucket(pod), seconds=300)
    (worker,) = pod.workers()
    pod.process.kill()
    pod.process.wait()
    end = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < end
        time.sleep(0.1)

    # The fifth attempt takes no step, and its model equals the model of an uninterrupted run.
    pod = attempt(4)
    assert pod.process.wait(timeout=300) == 0, pod.log()[-3000:]
    assert "resuming after step 60 of 60" in pod.log()
    assert "step 60/60" not in pod.log()
    outputs = pod.outputs()
    assert outputs is not None
    model = outputs.literals["model"]
    weights = Path(model.scalar.blob.uri) / "model.safetensors"
    whole = tmp_path / "whole" / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).digest() == hashlib.sha256(whole.read_bytes()).digest()
