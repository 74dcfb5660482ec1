"""What is tried before a long run, and what is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import ConfigError, OutOfMemoryError, TrainingError
from flyte_llama.plan import ACCELERATORS, read_shape
from flyte_llama.report import batch_table, sweep_table
from flyte_llama.training.launch import Job, launch
from flyte_llama.tuning import (
    BatchTrial,
    SweepTrial,
    batch_candidates,
    best_batch,
    ranked,
    sweep_points,
    try_batch,
)
from tests.conftest import CODE_LLAMA_7B
from tests.training.runs import SETTINGS, packed_rows


def sizes(**changes: Any) -> list[int]:
    options = {name: changes.pop(name) for name in ("num_processes", "shape", "gpu") if name in changes}
    candidates = batch_candidates(TrainingConfig(**changes), **({"num_processes": 1} | options))
    return [candidate.micro_batch_size for candidate in candidates]


def test_candidates_share_out_the_global_batch():
    assert sizes(global_batch_size=24) == [1, 2, 4, 8]
    assert sizes(global_batch_size=24, num_processes=4) == [1, 2]
    with pytest.raises(ConfigError, match="cannot be shared out over 5 processes"):
        sizes(global_batch_size=24, num_processes=5)


def test_candidates_that_the_plan_rules_out_are_not_tried():
    planned = {"shape": read_shape(CODE_LLAMA_7B), "gpu": ACCELERATORS["A100_80GB"], "seq_len": 4096}
    assert len(sizes(global_batch_size=512, **planned)) < len(sizes(global_batch_size=512))
    with pytest.raises(ConfigError, match="memory of a GPU"):
        sizes(global_batch_size=8, **planned | {"gpu": ACCELERATORS["T4"]}, method="full")


def test_a_sweep_pairs_rates_and_ranks_and_keeps_the_scale_of_the_update():
    training = TrainingConfig(method="lora", lora={"rank": 16, "alpha": 32})
    points = sweep_points(training, [1e-4, 1e-3], [4, 8])
    assert [(p.learning_rate, p.lora.rank, p.lora.alpha) for p in points] == [
        (1e-4, 4, 8),
        (1e-4, 8, 16),
        (1e-3, 4, 8),
        (1e-3, 8, 16),
    ]
    full = sweep_points(TrainingConfig(method="full"), [1e-4, 1e-3], [])
    assert [p.learning_rate for p in full] == [1e-4, 1e-3]


@pytest.mark.parametrize(
    ("rates", "ranks"), [([], [4]), ([1e-4], []), ([0.0], [4]), ([1e-4], [0]), ([float("nan")], [4])]
)
def test_a_sweep_over_nothing_or_nonsense_is_refused(rates: list[float], ranks: list[int]):
    with pytest.raises(ConfigError, match="a sweep"):
        sweep_points(TrainingConfig(method="lora"), rates, ranks)


def test_the_largest_that_fits_is_chosen_and_the_table_says_which_did_not():
    trials = [
        BatchTrial(micro_batch_size=1, fits=True, tokens_per_s=900.0, peak_memory_bytes=2**30),
        BatchTrial(micro_batch_size=4, fits=False),
        BatchTrial(micro_batch_size=2, fits=True, tokens_per_s=1000.0, peak_memory_bytes=2**31),
    ]
    assert best_batch(trials) == trials[2]
    assert best_batch(trials[1:2]) is None
    rows = [line.split() for line in batch_table(trials).splitlines()[2:5]]
    assert rows == [["1", "yes", "900", "1.00"], ["2", "yes", "1,000", "2.00"], ["4", "no"]]


def test_the_table_of_a_sweep_has_the_best_first():
    one = SweepTrial(learning_rate=1e-4, rank=8, train_loss=2.0, bits_per_byte=0.9, perplexity=7.0, wall_s=9.0)
    other = one.model_copy(update={"rank": 0, "bits_per_byte": 0.8})
    assert ranked([one, other]) == [other, one]
    lines = sweep_table([one, other]).splitlines()
    assert lines[2].startswith("0.0001         all weights")
    assert lines[3].split()[1] == "8"


@pytest.mark.slow
def test_a_trial_trains_some_steps_writes_no_model_and_says_what_failed(tiny_base: Path, tmp_path: Path):
    rows = packed_rows(tiny_base, tmp_path / "rows")
    training = TrainingConfig(**SETTINGS)
    trial = try_batch(tiny_base, rows, training, tmp_path / "trial", num_processes=1)
    assert trial.fits
    assert trial.tokens_per_s is not None
    assert trial.tokens_per_s > 0
    assert trial.peak_memory_bytes is not None
    assert trial.peak_memory_bytes > 2**27
    assert not list((tmp_path / "trial").rglob("*.safetensors"))
    wrong = training.model_copy(update={"micro_batch_size": 3})
    with pytest.raises(TrainingError, match="cannot be shared out over 1 processes") as caught:
        launch(Job(base=tiny_base, rows=rows, training=wrong), tmp_path / "wrong")
    assert not isinstance(caught.value, OutOfMemoryError)
