"""What a run is made from, what it was told, and the curve it has drawn so far."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from flyte_llama.config import TrainingConfig
from flyte_llama.objective import clm
from flyte_llama.packing import open_rows, pack, write_rows
from flyte_llama.plan import Flops, corpus_flops, read_shape
from flyte_llama.training.batches import row_order
from flyte_llama.training.fingerprint import changes, fingerprint
from flyte_llama.training.interruption import Interruption
from flyte_llama.training.metrics import METRICS, Curve, LossPoint
from flyte_llama.training.work import Work

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
    return written(tmp_path / "rows", *LENGTHS)


def written(folder: Path, *lengths: int) -> Path:
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
    training = TrainingConfig(method="full", seq_len=4)
    work = Work(table, order, rows_per_step=2, shape=SHAPE, training=training)
    for steps in range(6):
        read = [table[int(number)]["length"] for number in order[: 2 * steps]]
        assert work.num_tokens(steps=steps) == sum(map(sum, read))
        assert work.flops(steps=steps) == sum((corpus_flops(SHAPE, training, own) for own in read), Flops())
    assert Work(table, order, rows_per_step=2, shape=None, training=training).flops(steps=3) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 0.5), ("global_batch_size", 7), ("micro_batch_size", 3), ("seed", 9), ("precision", "fp32")],
)
def test_what_changes_the_result_changes_the_fingerprint(base: Path, rows: Path, field: str, value: object):
    old, new = TrainingConfig(), TrainingConfig(**{field: value})
    first, second = (fingerprint(base, rows, one, num_processes=1, device="cpu") for one in (old, new))
    (change,) = changes(first, second)
    assert change.startswith(f"training.{field}: ")


def test_what_only_says_when_to_log_and_to_keep_does_not(base: Path, rows: Path):
    other = TrainingConfig(log_every_steps=1, checkpoint_every_steps=5, keep_checkpoints=9, report_to=["wandb"])
    first, second = (fingerprint(base, rows, one, num_processes=1, device="cpu") for one in (TrainingConfig(), other))
    assert first == second


def test_other_rows_another_model_and_other_processes_change_it(base: Path, rows: Path, tmp_path: Path):
    first = fingerprint(base, rows, TrainingConfig(), num_processes=1, device="cpu")
    (base / "model.safetensors").write_bytes(b"weight5")
    second = fingerprint(base, written(tmp_path / "more", 9), TrainingConfig(), num_processes=2, device="cuda")
    assert [change.split(":")[0] for change in changes(first, second)] == ["base", "device", "processes", "rows"]


def test_signals_are_noted_within_and_do_afterwards_what_they_did_before():
    interruption, before = Interruption(), signal.getsignal(signal.SIGTERM)
    with interruption.awaited():
        assert not interruption.requested
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert interruption.requested
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_curve_goes_on_from_a_checkpoint_without_what_came_after_it(tmp_path: Path):
    checkpoint, file = tmp_path / "step-2", tmp_path / METRICS
    checkpoint.mkdir()
    points = [LossPoint(step=step, loss=1 / step, learning_rate=0.1, num_tokens=step * 10) for step in (1, 2, 3)]
    killed = Curve(file)
    for point in points[:2]:
        killed.add(point)
    killed.copy_into(checkpoint)
    killed.add(points[2])
    assert len(file.read_text().splitlines()) == 3

    resumed = Curve(file)
    resumed.go_on_from(checkpoint)
    assert resumed.num_tokens == 20
    resumed.add(points[2])
    assert resumed.points == points
    assert [LossPoint.model_validate_json(line) for line in file.read_text().splitlines()] == points
