"""A model whose verification fails is kept by the training task, in a local run and in a pod."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from flyteidl.core import errors_pb2

from flyte_llama.errors import OutOfMemoryError
from flyte_llama.training.unverified import RECORD, read_record
from flyte_llama.workspace import open_output, stored_items
from tests.tasks.bucket import serve_bucket
from tests.tasks.conftest import Registered
from tests.tasks.pod import Cluster
from tests.tasks.test_attempts import store_inputs
from tests.tasks.test_training import train, write_inputs
from tests.training.runs import SETTINGS

pytestmark = pytest.mark.slow

# As if the host had no memory left for the process that loads the written model.
KILL_VERIFICATION = """
import os, signal, sys
if "flyte_llama.training.fresh" in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every verification fails until this patch is undone."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(KILL_VERIFICATION)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(folder)
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    return patch


def test_a_local_run_keeps_the_model_and_its_next_start_verifies_it_without_training(
    tiny_base: Path,
    tmp_path: Path,
    failing: pytest.MonkeyPatch,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    output = tmp_path / "output"
    write_inputs(output, tiny_base, monkeypatch)

    # The first start and the second fail to verify; the model stays, and is trained once.
    with pytest.raises(OutOfMemoryError, match="The model is kept, not verified, in "):
        train(output)
    (kept,) = (output / "data").glob("unverified-*")
    assert read_record(kept).summary.num_steps == 8
    open_output(output)
    assert kept not in [item.path for item in stored_items(output, keep_runs=0) if not item.needed_by]
    capfd.readouterr()
    with pytest.raises(OutOfMemoryError, match=f"The model is kept, not verified, in {kept}"):
        train(output)
    assert "step 8/8" not in capfd.readouterr().err

    # The third start can verify it, and takes it.
    failing.undo()
    model, summary = train(output)
    shown = capfd.readouterr().err
    assert f"{kept}: the model of an earlier start, which failed its verification; verifying it again" in shown
    assert "step 8/8" not in shown
    assert [each.artefact for each in summary.verified] == ["model", "adapter"]
    assert Path(model.path).name.startswith("model-")
    assert not kept.exists()
    assert not list((output / "checkpoints").iterdir())

    # From then on it is the run's model.
    again = train(output)
    assert (again.model.path, again.summary) == (model.path, summary)


def test_a_pod_uploads_the_model_and_names_the_place(
    registered: Registered, tiny_base: Path, tmp_path: Path, failing: pytest.MonkeyPatch
):
    path = os.environ["PYTHONPATH"]
    failing.undo()
    with serve_bucket() as bucket:
        inputs = store_inputs(bucket, tiny_base, tmp_path, SETTINGS)
        pods = Cluster(bucket, tmp_path / "pods", variables={"PYTHONPATH": path})
        attempt = pods.run(registered.tasks["fine_tune"], inputs, "run/0")
    error = attempt.error()
    assert error is not None
    assert error.kind == errors_pb2.ContainerError.NON_RECOVERABLE
    (record,) = bucket.keys(f"^raw/run/0/unverified-.*/{RECORD}$")
    kept = record.rpartition("/")[0]
    assert f"The model is kept, not verified, in s3://bkt/{kept}" in error.message
    assert read_record(bucket.fetch(kept, tmp_path / "kept")).summary.num_steps == 8
