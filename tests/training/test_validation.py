"""The validation loss is that of the rows, however many processes measure it, and the best step can be kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from flyte_llama.encoding import IGNORED, VALIDATION_TABLE, open_rows
from flyte_llama.model import load_model
from flyte_llama.training.metrics import METRICS
from tests.conftest import TEXTS
from tests.training.runs import SETTINGS, digest, launch_runs, summary, write_packed_rows

pytestmark = pytest.mark.slow

# Seven rows, which neither two processes nor micro-batches of 2 divide evenly. The rate is so high that the loss rises.
VALIDATION = [text[::-1] for text in TEXTS] * 2
FULL = SETTINGS | {
    "method": "full",
    "max_steps": 6,
    "validation_share": 0.1,
    "validate_every_steps": 1,
    "learning_rate": 0.03,
    "micro_batch_size": 2,
    "checkpoint_every_steps": 0,
    "keep_checkpoints": 1,
}


@pytest.fixture(scope="module")
def rows(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_packed_rows(tiny_base, tmp_path_factory.mktemp("rows"), validation=VALIDATION)


def losses(out: Path) -> list[float]:
    points = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    return [point["validation_loss"] for point in points if point["validation_loss"] is not None]


def loss_of(model: Path, rows_folder: Path) -> float:
    """The loss on the validation rows, one document after the other, by the model alone."""
    rows, _ = open_rows(rows_folder, VALIDATION_TABLE)
    loaded: Any = load_model(model, dtype=torch.float32).eval()
    nats, count = 0.0, 0
    for row in rows:
        begin = 0
        for length in row["length"]:
            ids = torch.tensor([row["input_ids"][begin : begin + length]])
            labels = torch.tensor(row["labels"][begin : begin + length])[1:]
            with torch.no_grad():
                logits = loaded(ids).logits[0, :-1]
            nats += torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum").item()
            count += int((labels != IGNORED).sum())
            begin += length
    return nats / count


def test_the_validation_loss_is_that_of_the_written_model_and_changes_no_weight(
    tiny_base: Path, rows: Path, tmp_path: Path
):
    without = FULL | {"validation_share": 0.0}
    runs = [{"out": tmp_path / "with", "settings": FULL}, {"out": tmp_path / "without", "settings": without}]
    done = launch_runs(tiny_base, rows, runs)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "validation loss" in done.stderr
    assert losses(tmp_path / "with")[-1] == pytest.approx(loss_of(tmp_path / "with", rows), rel=1e-5)
    assert len(losses(tmp_path / "with")) == 6
    assert losses(tmp_path / "without") == []
    assert digest(tmp_path / "with") == digest(tmp_path / "without")


def test_two_processes_measure_the_same_and_keep_the_best_step(tiny_base: Path, rows: Path, tmp_path: Path):
    settings = FULL | {"keep_best": True, "micro_batch_size": 1}
    models = {stage: tmp_path / str(stage) / "model" for stage in (2, 3)}
    runs = [{"out": out, "settings": settings | {"deepspeed": {"zero_stage": n}}} for n, out in models.items()]
    done = launch_runs(tiny_base, rows, runs, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    for model in models.values():
        measured, kept = losses(model), summary(model)
        assert kept.exported_step == measured.index(min(measured)) + 1 < 6
        assert kept.validation_loss == min(measured) < measured[-1]
        assert min(measured) == pytest.approx(loss_of(model, rows), rel=1e-5)
        assert f"keeping the model of step {kept.exported_step} of 6" in done.stderr


def test_adapters_of_the_best_step_are_kept_through_a_kill_and_a_start_after_the_last_step(
    tiny_base: Path, rows: Path, tmp_path: Path
):
    settings = FULL | {"method": "lora", "learning_rate": 1.0, "keep_best": True}
    whole, killed = tmp_path / "whole/model", tmp_path / "killed"
    checkpoints = killed / "checkpoints"
    first = {"out": killed / "a", "settings": settings, "checkpoints": checkpoints}
    start = first | {"fault": {"kind": "SIGKILL", "step": 6, "rank": 0}}
    done = launch_runs(tiny_base, rows, [{"out": whole, "settings": settings}, start])
    assert done.returncode != 0
    best = summary(whole).exported_step
    assert best < 6
    assert (checkpoints / f"node-0/step-{best}").is_dir()

    # The second start goes on from the best step, and a third one from the last.
    again = [first | {"out": killed / name} for name in ("b", "c")]
    done = launch_runs(tiny_base, rows, again)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("b", "c"):
        assert digest(killed / name) == digest(whole)
        assert summary(killed / name).exported_step == best
        adapters = [load_file(out / "adapter/adapter_model.safetensors") for out in (killed / name, whole)]
        assert all(torch.equal(adapters[0][key], adapters[1][key]) for key in adapters[1])

    # Without the checkpoint of the best step, the last step's model is written, and a message says so.
    shutil.rmtree(checkpoints / f"node-0/step-{best}")
    done = launch_runs(tiny_base, rows, [first | {"out": killed / "d"}])
    assert done.returncode == 0, done.stderr[-3000:]
    assert (
        f"the checkpoint of step {best}, which has the lowest validation loss, is lost: keeping step 6" in done.stderr
    )
    assert summary(killed / "d").exported_step == 6
