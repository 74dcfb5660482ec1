"""The trials of micro-batch sizes before a long run, and the choice of the largest that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import ConfigError, OutOfMemoryError, TrainingError
from flyte_llama.plan import ACCELERATORS
from flyte_llama.plan.shape import read_shape
from flyte_llama.report import batch_table
from flyte_llama.training.launch import TrainingJob, launch_training
from flyte_llama.training.trials import BatchTrial, batch_candidates, best_batch, try_batch
from tests.conftest import CODE_LLAMA_7B
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
