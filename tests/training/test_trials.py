"""The trials before a long run: micro-batch sizes, and learning rates and ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import ConfigError, OutOfMemoryError, TrainingError
from flyte_llama.plan import ACCELERATORS
from flyte_llama.plan.shape import read_shape
from flyte_llama.report import batch_table, sweep_table
from flyte_llama.training.launch import TrainingJob, launch_training
from flyte_llama.training.trials import (
    BatchTrial,
    SweepTrial,
    batch_candidates,
    best_batch,
    rank_trials,
    sweep_points,
    try_batch,
    try_point,
)
from tests.conftest import CODE_LLAMA_7B, TEXTS
from tests.training.runs import SETTINGS, write_packed_rows


def sizes(**changes: Any) -> list[int]:
    options = {name: changes.pop(name) for name in ("num_processes", "shape", "gpu") if name in changes}
    candidates = batch_candidates(TrainingConfig(**changes), **({"num_processes": 1} | options))
    return [candidate.micro_batch_size for candidate in candidates]


def test_candidates_divide_the_global_batch():
    assert sizes(global_batch_size=24) == [1, 2, 4, 8]
    assert sizes(global_batch_size=24, num_processes=4) == [1, 2]
    with pytest.raises(ConfigError, match="cannot be split evenly over 5 processes"):
        sizes(global_batch_size=24, num_processes=5)


def test_candidates_that_the_plan_rules_out_are_not_tried():
    planned = {"shape": read_shape(CODE_LLAMA_7B), "gpu": ACCELERATORS["A100_80GB"], "seq_len": 4096}
    assert len(sizes(global_batch_size=512, **planned)) < len(sizes(global_batch_size=512))
    with pytest.raises(ConfigError, match="memory of a GPU"):
        sizes(global_batch_size=8, **planned | {"gpu": ACCELERATORS["T4"]}, method="full")


def test_the_largest_that_fits_is_chosen_and_the_table_shows_which_did_not():
    trials = [
        BatchTrial(micro_batch_size=1, fits=True, tokens_per_s=900.0, peak_memory_bytes=2**30),
        BatchTrial(micro_batch_size=4, fits=False),
        BatchTrial(micro_batch_size=2, fits=True, tokens_per_s=1000.0, peak_memory_bytes=2**31),
    ]
    assert best_batch(trials) == trials[2]
    assert best_batch(trials[1:2]) is None
    rows = [line.split() for line in batch_table(trials).splitlines()[2:5]]
    assert rows == [["1", "yes", "900", "1.00"], ["2", "yes", "1,000", "2.00"], ["4", "no"]]


def test_a_sweep_pairs_rates_and_ranks_and_keeps_the_scale_of_the_update():
    training = TrainingConfig(method="lora", lora={"rank": 16, "alpha": 32})
    points = sweep_points(training, [1e-4, 1e-3], [4, 8])
    assert [(point.learning_rate, point.lora.rank, point.lora.alpha) for point in points] == [
        (1e-4, 4, 8),
        (1e-4, 8, 16),
        (1e-3, 4, 8),
        (1e-3, 8, 16),
    ]
    full = sweep_points(TrainingConfig(method="full"), [1e-4, 1e-3], [])
    assert [point.learning_rate for point in full] == [1e-4, 1e-3]


def test_a_sweep_of_full_fine_tuning_says_that_it_has_no_ranks(capsys: pytest.CaptureFixture[str]):
    assert len(sweep_points(TrainingConfig(method="full"), [1e-4], [4, 8])) == 1
    assert "training.method = 'full': has no rank" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rates", "ranks"), [([], [4]), ([1e-4], []), ([0.0], [4]), ([1e-4], [0]), ([float("nan")], [4])]
)
def test_a_sweep_over_nothing_or_nonsense_is_refused(rates: list[float], ranks: list[int]):
    with pytest.raises(ConfigError, match="a sweep"):
        sweep_points(TrainingConfig(method="lora"), rates, ranks)


def test_the_table_of_a_sweep_has_the_lowest_validation_loss_first():
    worse = SweepTrial(learning_rate=1e-4, rank=8, train_loss=2.0, validation_loss=0.9, step=7, wall_s=9.0)
    better = worse.model_copy(update={"rank": 0, "validation_loss": 0.8})
    assert rank_trials([worse, better]) == [better, worse]
    lines = sweep_table([worse, better]).splitlines()
    assert lines[2].startswith("0.0001         all weights")
    assert lines[3].split()[1] == "8"


@pytest.mark.slow
def test_a_point_is_trained_and_judged_by_its_validation_loss(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = write_packed_rows(tiny_base, tmp_path / "rows", validation=[text[::-1] for text in TEXTS])
    training = TrainingConfig(**SETTINGS | {"validation_share": 0.1, "validate_every_steps": 2})
    trial = try_point(tiny_base, rows, training, tmp_path / "trial", num_processes=1)
    assert (trial.learning_rate, trial.rank, trial.step) == (SETTINGS["learning_rate"], SETTINGS["lora"]["rank"], 8)
    assert "trying learning_rate 0.01, rank 4" in capsys.readouterr().err
    assert not list((tmp_path / "trial").rglob("*.safetensors"))
    assert trial.validation_loss > 1
    overfitting = training.model_copy(update={"method": "full", "learning_rate": 0.03, "keep_best": True})
    kept = try_point(tiny_base, rows, overfitting, tmp_path / "kept", num_processes=1)
    assert (kept.rank, kept.step < 8) == (0, True)


@pytest.mark.slow
def test_a_trial_trains_a_few_steps_writes_no_model_and_reports_failures(tiny_base: Path, tmp_path: Path):
    rows = write_packed_rows(tiny_base, tmp_path / "rows")
    training = TrainingConfig(**SETTINGS)
    trial = try_batch(tiny_base, rows, training, tmp_path / "trial", num_processes=1)
    assert trial.fits
    assert trial.tokens_per_s is not None
    assert trial.tokens_per_s > 0
    assert trial.peak_memory_bytes is not None
    assert trial.peak_memory_bytes > 2**27
    assert not list((tmp_path / "trial").rglob("*.safetensors"))
    wrong = training.model_copy(update={"micro_batch_size": 3})
    with pytest.raises(TrainingError, match=r"must be a multiple of training\.micro_batch_size = 3") as caught:
        launch_training(TrainingJob(base=tiny_base, rows=rows, training=wrong), tmp_path / "wrong")
    assert not isinstance(caught.value, OutOfMemoryError)
