"""A sweep tries every pair of learning rate and rank, and puts the best first."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.config import EvaluationConfig, ObjectiveConfig, TrainingConfig
from flyte_llama.documents import write_documents
from flyte_llama.errors import ConfigError
from flyte_llama.evaluation.sweep import SweepTrial, rank_trials, sweep_points, try_point
from flyte_llama.report import sweep_table
from tests.conftest import TEXTS, document
from tests.training.runs import SETTINGS, write_packed_rows


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


@pytest.mark.parametrize(
    ("rates", "ranks"), [([], [4]), ([1e-4], []), ([0.0], [4]), ([1e-4], [0]), ([float("nan")], [4])]
)
def test_a_sweep_over_nothing_or_nonsense_is_refused(rates: list[float], ranks: list[int]):
    with pytest.raises(ConfigError, match="a sweep"):
        sweep_points(TrainingConfig(method="lora"), rates, ranks)


def test_the_table_of_a_sweep_has_the_best_first():
    worse = SweepTrial(learning_rate=1e-4, rank=8, train_loss=2.0, bits_per_byte=0.9, perplexity=7.0, wall_s=9.0)
    better = worse.model_copy(update={"rank": 0, "bits_per_byte": 0.8})
    assert rank_trials([worse, better]) == [better, worse]
    lines = sweep_table([worse, better]).splitlines()
    assert lines[2].startswith("0.0001         all weights")
    assert lines[3].split()[1] == "8"


@pytest.mark.slow
def test_a_point_is_trained_and_scored_on_the_held_out_documents(tiny_base: Path, tmp_path: Path):
    rows, heldout = write_packed_rows(tiny_base, tmp_path / "rows"), tmp_path / "heldout"
    write_documents(heldout, [document(text, path=f"{index}.py") for index, text in enumerate(TEXTS)])
    trial = try_point(
        tiny_base,
        rows,
        heldout,
        TrainingConfig(**SETTINGS),
        tmp_path / "trial",
        objective=ObjectiveConfig(kind="clm"),
        evaluation=EvaluationConfig(window=128, stride=64, batch_tokens=512),
        num_processes=1,
    )
    assert (trial.learning_rate, trial.rank) == (SETTINGS["learning_rate"], SETTINGS["lora"]["rank"])
    assert trial.perplexity > 1
    assert trial.bits_per_byte > 0
    assert (tmp_path / "trial/model/model.safetensors").is_file()
