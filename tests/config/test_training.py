"""The length of a run in optimizer steps."""

from __future__ import annotations

import pytest

from flyte_llama.config import RunLength, TrainingConfig


def run_length(*, epochs: float = 1.0, max_steps: int = 0, global_batch_size: int = 4) -> RunLength:
    return TrainingConfig(epochs=epochs, max_steps=max_steps, global_batch_size=global_batch_size).run_length


@pytest.mark.parametrize(
    ("epochs", "max_steps", "steps"),
    [(1.0, 0, 3), (2.0, 0, 5), (0.1, 0, 1), (2.5, 0, 7), (0.4, 0, 1), (9.0, 2, 2)],
)
def test_a_run_reads_its_epochs_rounded_up_to_whole_steps(epochs: float, max_steps: int, steps: int):
    assert run_length(epochs=epochs, max_steps=max_steps).num_steps(10) == steps


def test_epochs_are_exact_decimals_and_not_rounded_floats():
    assert run_length(epochs=0.1, global_batch_size=1).num_steps(30) == 3
    assert run_length(epochs=1.1, global_batch_size=1).num_steps(100) == 110
