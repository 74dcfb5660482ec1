"""A training task in pods that are taken away, one attempt after the other, as Flyte would start them."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flyteidl.core import errors_pb2, literals_pb2, types_pb2
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.type_engine import TypeEngine

from flyte_llama.config import TrainingConfig
from flyte_llama.documents import write_documents
from tests.conftest import TEXTS, document
from tests.tasks.conftest import Registered
from tests.tasks.pod import Pod, start_pod
from tests.training.runs import SETTINGS, packed_rows, tell

pytestmark = pytest.mark.slow
# Long enough for a signal to come before the end.
LONG = SETTINGS | {"max_steps": 60, "global_batch_size": 16, "checkpoint_every_steps": 5, "log_every_steps": 5}


def folder_literal(folder: Path) -> literals_pb2.Literal:
    multipart = types_pb2.BlobType(dimensionality=types_pb2.BlobType.MULTIPART)
    blob = literals_pb2.Blob(metadata=literals_pb2.BlobMetadata(type=multipart), uri=str(folder))
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(blob=blob))


def config_literal(config: TrainingConfig) -> literals_pb2.Literal:
    context, kind = FlyteContextManager.current_context(), type(config)
    return TypeEngine.to_literal(context, config, kind, TypeEngine.to_literal_type(kind)).to_flyte_idl()


def uploaded(pod: Pod) -> list[int]:
    """Steps whose checkpoints the bucket holds."""
    return sorted(int(path.name.removeprefix("step-")) for path in (pod.folder / "checkpoint").glob("node-0/step-*"))


def wait_until(pod: Pod, seen: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert pod.process.poll() is None, pod.log()[-3000:]
        assert time.monotonic() < end, pod.log()[-3000:]
        time.sleep(0.02)


def test_attempts_that_are_taken_away_hand_their_checkpoints_on_and_the_last_comes_out_the_same(
    registered: Registered,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = packed_rows(tiny_base, tmp_path / "rows")
    told = tell(tiny_base, rows, [{"out": tmp_path / "whole", "settings": LONG}])
    assert told.returncode == 0, told.stderr[-3000:]
    spec = next(spec for name, spec in registered.tasks.items() if name.startswith("fine_tune"))
    training = config_literal(TrainingConfig(**LONG))
    heldout = tmp_path / "heldout"
    write_documents(heldout, [document(text) for text in TEXTS])
    folders = {"base": tiny_base, "rows": rows, "heldout": heldout}
    values = {"training": training, **{name: folder_literal(folder) for name, folder in folders.items()}}
    inputs = literals_pb2.LiteralMap(literals=values)

    def attempt(number: int) -> Pod:
        pod = start_pod(spec, inputs, tmp_path / str(number), previous=tmp_path / str(number - 1))
        request.addfinalizer(pod.end)
        return pod

    # The attempt before saved nothing: there is no such folder. The pod's own process is told to end.
    pod = attempt(0)
    wait_until(pod, lambda: uploaded(pod))
    pod.process.send_signal(signal.SIGTERM)
    pod.process.wait(timeout=60)
    assert "left no checkpoint, so training starts at step 0" in pod.log()
    assert "interrupted after step" in pod.log()
    assert pod.outputs() is None
    first = uploaded(pod)
    assert len(first) == 2

    # Now a process that trains, as soon as it knows from where it goes on.
    pod = attempt(1)
    wait_until(pod, lambda: "going on after step" in pod.log())
    assert uploaded(pod) == first[-1:]
    (worker,) = pod.workers()
    os.kill(worker, signal.SIGTERM)
    pod.process.wait(timeout=60)
    error = pod.error()
    assert error is not None
    assert error.kind == errors_pb2.ContainerError.RECOVERABLE
    assert "interrupted after step" in error.message
    assert pod.outputs() is None
    assert uploaded(pod)[0] == first[-1] < uploaded(pod)[-1]

    pod = attempt(2)
    assert pod.process.wait(timeout=120) == 0, pod.log()[-3000:]
    outputs = pod.outputs()
    assert outputs is not None
    made = outputs.literals["model"]
    weights = Path(made.scalar.blob.uri) / "model.safetensors"
    whole = tmp_path / "whole" / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).digest() == hashlib.sha256(whole.read_bytes()).digest()
