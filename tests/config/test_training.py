"""The length of a run in optimizer steps, and the settings that can be `auto`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from flyte_llama.config import ResolvedTraining, RunLength, TrainingConfig, batch_problems
from tests.config.problems import problems


def run_length(*, epochs: float = 1.0, max_steps: int = 0, global_batch_size: int = 4) -> RunLength:
    return TrainingConfig(epochs=epochs, max_steps=max_steps, global_batch_size=global_batch_size).run_length


@pytest.mark.parametrize(
    ("epochs", "max_steps", "steps"),
    [(1.0, 0, 3), (2.0, 0, 5), (0.1, 0, 1), (2.5, 0, 7), (0.4, 0, 1), (9.0, 2, 2)],
)
def test_a_run_reads_its_epochs_rounded_up_to_whole_steps(epochs: float, max_steps: int, steps: int):
    assert run_length(epochs=epochs, max_steps=max_steps).num_steps(10) == steps


def test_rows_before_the_first_epoch_take_steps_of_their_own_unless_the_steps_are_given():
    assert run_length(epochs=2.0).num_steps(10, rows_before=3) == 6
    assert run_length(max_steps=2).num_steps(10, rows_before=3) == 2
    # A run of two epochs of 10 rows reads at most 20 rows before them; a run of 3 steps of 4 rows, at most 6.
    assert run_length(epochs=2.0).most_rows_before(10) == 20
    assert run_length(max_steps=3).most_rows_before(10) == 6


def test_epochs_are_exact_decimals_and_not_rounded_floats():
    assert run_length(epochs=0.1, global_batch_size=1).num_steps(30) == 3
    assert run_length(epochs=1.1, global_batch_size=1).num_steps(100) == 110


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("micro_batch_size", "auto", "auto"),
        ("micro_batch_size", 4, 4),
        ("micro_batch_size", 4.0, 4),
        ("micro_batch_size", "4e0", 4),
        ("activation_checkpointing", "auto", "auto"),
        ("activation_checkpointing", False, False),
        ("liger", True, True),
    ],
)
def test_a_setting_is_auto_or_pinned(field: str, value: Any, expected: Any):
    assert getattr(TrainingConfig.model_validate({field: value}), field) == expected


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("micro_batch_size", "many", "'many': should be a whole number or auto."),
        ("micro_batch_size", 1.5, "1.5: should be a whole number or auto."),
        ("micro_batch_size", True, "True: should be a whole number or auto."),
        ("micro_batch_size", None, "None: should be a whole number or auto."),
        ("micro_batch_size", 0, "0: should be greater than or equal to 1."),
        ("micro_batch_size", 10**30, f"{10**30}: should be at most 1,000,000."),
        ("activation_checkpointing", 1, "1: should be true, false or auto."),
        ("liger", "no", "'no': should be true, false or auto."),
    ],
)
def test_a_value_that_is_neither_auto_nor_a_setting_is_refused_in_one_line(field: str, value: Any, reason: str):
    message = problems(training={field: value})
    assert message.splitlines()[1:] == [f"  - training.{field} = {reason}"]


def test_resolving_replaces_auto_and_leaves_pinned_settings():
    auto = TrainingConfig(method="full", lora={"rank": 3}, learning_rate=1e-5)
    resolved = auto.resolved(micro_batch_size=8, activation_checkpointing=False, liger=True)
    assert dict(resolved) == dict(auto) | {"micro_batch_size": 8, "activation_checkpointing": False, "liger": True}
    assert dict(auto.resolved()) == dict(ResolvedTraining(method="full", lora={"rank": 3}, learning_rate=1e-5))
    pinned = TrainingConfig(micro_batch_size=2, activation_checkpointing=True, liger=False)
    assert dict(pinned.resolved(micro_batch_size=8, activation_checkpointing=False, liger=True)) == dict(pinned)
    assert resolved.resolved(micro_batch_size=1) == resolved


@pytest.mark.parametrize("field", ["micro_batch_size", "activation_checkpointing", "liger"])
def test_resolved_settings_cannot_be_auto(field: str):
    with pytest.raises(ValidationError):
        ResolvedTraining.model_validate({field: "auto"})


def test_a_batch_with_an_automatic_micro_batch_need_only_divide_by_the_processes():
    assert batch_problems(TrainingConfig(global_batch_size=6), 3) == []
    (problem,) = batch_problems(TrainingConfig(global_batch_size=6), 4)
    assert problem.endswith("cannot be split evenly over 4 processes. Use a multiple of 4.")
