"""The training task of a local run, in the processes that it starts."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from flytekit import FlyteDirectory

from flyte_llama.config import TrainingConfig
from flyte_llama.documents import write_documents
from flyte_llama.errors import TrainingError
from flyte_llama.tasks import folders
from flyte_llama.tasks.training import FineTuned, fine_tune
from flyte_llama.workspace import open_output
from tests.conftest import TEXTS, document
from tests.training.runs import SETTINGS, write_packed_rows

pytestmark = pytest.mark.slow


def write_inputs(output: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an output folder with the inputs of the training task, for this process and those that the task starts."""
    monkeypatch.setattr(folders, "_output", lambda: output)
    monkeypatch.setenv("FLYTE_LLAMA_OUTPUT", str(output))
    open_output(output)
    shutil.copytree(base, output / "data/base-1")
    write_packed_rows(output / "data/base-1", output / "data/rows-1")
    write_documents(output / "data/heldout-1", [document(text) for text in TEXTS])


def train(output: Path, **changes: object) -> FineTuned:
    data = output / "data"
    inputs = {name: FlyteDirectory(str(data / f"{name}-1")) for name in ("base", "rows", "heldout")}
    return fine_tune(**inputs, training=TrainingConfig(**SETTINGS | changes), generation="")


def test_a_model_that_an_earlier_start_stored_is_taken_and_an_error_comes_out_as_it_is(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    output = tmp_path / "output"
    write_inputs(output, tiny_base, monkeypatch)
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    temporary = set(os.listdir(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    first = train(output)
    assert "step 8/8" in capfd.readouterr().err
    assert not list((output / "checkpoints").iterdir())
    assert set(os.listdir(tmp_path)) == temporary

    # Flyte's cache knows nothing of the model, as after a kill.
    second = train(output)
    shown = capfd.readouterr().err
    assert f"an earlier start of this run trained the model: {first.model.path}" in shown
    assert "step 8/8" not in shown
    assert (second.model.path, second.summary) == (first.model.path, first.summary)

    with pytest.raises(TrainingError) as refused:
        train(output, seed=1, report_to=["mlflow"])
    message = "training.report_to = 'mlflow': the package is not installed. pip install mlflow"
    assert refused.value.message == message
    assert "Traceback" not in capfd.readouterr().err
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == handlers
