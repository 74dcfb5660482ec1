"""The state of a run: its totals, its fingerprint, the signals it received, and its curve so far."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from flyte_llama.config import ResolvedTraining, TrainingConfig
from flyte_llama.encoding import open_rows
from flyte_llama.encoding.objectives import clm
from flyte_llama.encoding.packing import pack
from flyte_llama.plan import Flops, corpus_flops
from flyte_llama.plan.shape import read_shape
from flyte_llama.training.batches import row_order
from flyte_llama.training.checkpoints import list_changes, run_fingerprint
from flyte_llama.training.metrics import METRICS, Curve, LossPoint, StepTotals
from flyte_llama.training.processes import Interruption
from tests.conftest import write_rows

LENGTHS = (5, 3, 9, 1, 6, 2)
SHAPE = read_shape(
    {
        "model_type": "llama",
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_lengths(tmp_path / "rows", *LENGTHS)


def write_lengths(folder: Path, *lengths: int) -> Path:
    pieces = [clm(np.arange(length, dtype=np.int32), seq_len=4) for length in lengths]
    write_rows(folder, [pack(pieces, seq_len=4, pad_id=0)], seq_len=4)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model.safetensors").write_bytes(b"weights")
    return tmp_path / "base"


def test_tokens_and_flops_are_counted_without_padding_up_to_any_step(rows: Path):
    table, manifest = open_rows(rows)
    assert sum(sum(row["length"]) for row in table) == sum(LENGTHS) < len(table) * 4
    order = row_order(manifest["rows_per_epoch"], num_rows=10, seed=1)
    training = ResolvedTraining(method="full", seq_len=4)
    totals = StepTotals(table, order, rows_per_step=2, shape=SHAPE, training=training)
    for steps in range(6):
        read = [table[int(index)]["length"] for index in order[: 2 * steps]]
        assert totals.num_tokens(steps=steps) == sum(map(sum, read))
        assert totals.flops(steps=steps) == sum((corpus_flops(SHAPE, training, lengths) for lengths in read), Flops())
    assert StepTotals(table, order, rows_per_step=2, shape=None, training=training).flops(steps=3) is None


def test_rows_before_the_first_epoch_come_first_and_in_their_order():
    later = row_order([4, 2], num_rows=9, seed=1)
    assert row_order([4, 2], num_rows=12, seed=1, rows_before=3).tolist() == [6, 7, 8, *later]
    assert row_order([4, 2], num_rows=2, seed=1, rows_before=3).tolist() == [6, 7]


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 0.5), ("global_batch_size", 7), ("micro_batch_size", 3), ("seed", 9), ("precision", "fp32")],
)
def test_settings_that_change_the_result_change_the_fingerprint(base: Path, rows: Path, field: str, value: object):
    old, new = TrainingConfig(), TrainingConfig(**{field: value})
    first, second = (run_fingerprint(base, rows, config, num_processes=1, device="cpu") for config in (old, new))
    (change,) = list_changes(first, second)
    assert change.startswith(f"training.{field}: ")


def test_settings_for_logging_and_keeping_do_not_change_the_fingerprint(base: Path, rows: Path):
    other = TrainingConfig(log_every_steps=1, checkpoint_every_steps=5, keep_checkpoints=9, report_to=["wandb"])
    first, second = (run_fingerprint(base, rows, c, num_processes=1, device="cpu") for c in (TrainingConfig(), other))
    assert first == second


def test_other_rows_another_model_and_other_processes_change_the_fingerprint(base: Path, rows: Path, tmp_path: Path):
    first = run_fingerprint(base, rows, TrainingConfig(), num_processes=1, device="cpu")
    (base / "model.safetensors").write_bytes(b"weight5")
    second = run_fingerprint(
        base, write_lengths(tmp_path / "more", 9), TrainingConfig(), num_processes=2, device="cuda"
    )
    assert [change.split(":")[0] for change in list_changes(first, second)] == ["base", "device", "processes", "rows"]


def test_signals_are_noted_within_the_context_and_handled_as_before_afterwards():
    interruption, before = Interruption(), signal.getsignal(signal.SIGTERM)
    with interruption.catch_signals():
        assert not interruption.requested
        for signum in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), signum)
        assert interruption.requested
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_best_point_has_the_lowest_validation_loss_and_is_the_first_of_several():
    curve = Curve(None)
    assert curve.best is None
    for step, loss in enumerate([None, 3.0, 2.0, None, 2.0, 2.5], start=1):
        curve.add(LossPoint(step=step, loss=1.0, validation_loss=loss, learning_rate=0.1))
    assert curve.best == curve.points[2]


def test_a_curve_continues_from_a_checkpoint_without_the_points_after_it(tmp_path: Path):
    checkpoint, file = tmp_path / "step-2", tmp_path / METRICS
    checkpoint.mkdir()
    points = [LossPoint(step=step, loss=1 / step, learning_rate=0.1, num_tokens=step * 10) for step in (1, 2, 3)]
    killed = Curve(file)
    killed.start()
    for point in points[:2]:
        killed.add(point)
    killed.copy_into(checkpoint)
    killed.add(points[2])
    assert len(file.read_text().splitlines()) == 3

    resumed = Curve(file)
    assert len(file.read_text().splitlines()) == 3  # another process may still be sealing with it
    resumed.resume_from(checkpoint)
    assert resumed.num_tokens == 20
    resumed.add(points[2])
    assert resumed.points == points
    assert [LossPoint.model_validate_json(line) for line in file.read_text().splitlines()] == points
