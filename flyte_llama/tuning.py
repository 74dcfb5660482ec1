"""Trials before a long run: the largest micro-batch that fits, and a small sweep over learning rate and rank.

Each trial is a training run in processes of its own, so that running out of memory ends the trial alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import ConfigError, OutOfMemoryError
from flyte_llama.plan import Accelerator, ModelShape, refuse_if_too_large
from flyte_llama.training.launch import Job, launch

TRIAL_STEPS = 4
"""Optimizer steps of a trial of memory. The first, which sets up, does not count for its speed."""


class BatchTrial(BaseModel):
    """One micro-batch size, tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    micro_batch_size: int
    fits: bool
    tokens_per_s: float | None = None
    """Of all processes together, padding left out; None if it does not fit."""

    peak_memory_bytes: int | None = None
    """Of the first process: of the GPU's memory, without a GPU of the host's."""


class SweepTrial(BaseModel):
    """One learning rate and rank, tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float
    rank: int
    """0 in full fine-tuning."""

    train_loss: float
    """Mean nats a token at the last logged step."""

    bits_per_byte: float
    perplexity: float
    wall_s: float


def batch_candidates(
    training: TrainingConfig, *, num_processes: int, shape: ModelShape | None = None, gpu: Accelerator | None = None
) -> list[TrainingConfig]:
    """The configuration with each micro-batch size that shares out the global batch, 1, 2, 4, … rows a process, and by
    its plan fits the GPU.

    Args:
        gpu: None asks no plan; neither does an unknown shape.

    Raises:
        ConfigError: if not even one row a process can be had.
    """
    sizes = [2**power for power in range(12)]
    sharing = [size for size in sizes if training.global_batch_size % (size * num_processes) == 0]
    if not sharing:
        raise ConfigError(
            f"training.global_batch_size = {training.global_batch_size}: cannot be shared out over {num_processes} "
            f"processes. Use a multiple of {num_processes}."
        )
    candidates = [training.model_copy(update={"micro_batch_size": size}) for size in sharing]
    if shape is None or gpu is None:
        return candidates
    for kept, candidate in enumerate(candidates):
        try:
            refuse_if_too_large(shape, candidate, device_bytes=gpu.memory_bytes, num_processes=num_processes)
        except OutOfMemoryError as error:
            if kept == 0:
                raise ConfigError(error.message) from None
            return candidates[:kept]
    return candidates


def try_batch(base: Path, rows: Path, training: TrainingConfig, folder: Path, *, num_processes: int) -> BatchTrial:
    """Train some steps of one micro-batch a process, and say whether it fits, its peak of memory and its speed."""
    size = training.micro_batch_size
    trial = training.model_copy(
        update={
            "global_batch_size": size * num_processes,
            "max_steps": TRIAL_STEPS,
            "log_every_steps": 1,
            "checkpoint_every_steps": 0,
            "report_to": [],
        }
    )
    try:
        summary = launch(Job(base=base, rows=rows, training=trial), folder, processes=num_processes)
    except OutOfMemoryError:
        return BatchTrial(micro_batch_size=size, fits=False)
    first, last = summary.losses[0], summary.losses[-1]
    return BatchTrial(
        micro_batch_size=size,
        fits=True,
        tokens_per_s=(last.num_tokens - first.num_tokens) / (last.wall_s - first.wall_s),
        peak_memory_bytes=last.peak_memory_bytes,
    )


def sweep_points(
    training: TrainingConfig, learning_rates: Sequence[float], ranks: Sequence[int]
) -> list[TrainingConfig]:
    """The configuration with each pair of learning rate and rank; in full fine-tuning with each learning rate.

    Alpha keeps its ratio to the rank, so that the update's scale stays the same.

    Raises:
        ConfigError: if there is no learning rate, or a value is out of its range.
    """
    if not learning_rates or (not ranks and training.method != "full"):
        raise ConfigError("a sweep needs learning_rates, and for adapters ranks, as --learning_rates '[1e-4, 3e-4]'.")
    if not all(0 < rate < float("inf") for rate in learning_rates) or not all(rank >= 1 for rank in ranks):
        raise ConfigError("a sweep's learning_rates must be finite and above 0, its ranks at least 1.")
    points = []
    for rate in learning_rates:
        if training.method == "full":
            points.append(training.model_copy(update={"learning_rate": rate}))
            continue
        for rank in ranks:
            alpha = max(1, round(training.lora.alpha * rank / training.lora.rank))
            lora = training.lora.model_copy(update={"rank": rank, "alpha": alpha})
            points.append(training.model_copy(update={"learning_rate": rate, "lora": lora}))
    return points


def best_batch(trials: Sequence[BatchTrial]) -> BatchTrial | None:
    """The largest that fits; None if none does."""
    return max((trial for trial in trials if trial.fits), key=lambda trial: trial.micro_batch_size, default=None)


def ranked(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """Fewest bits per byte first."""
    return sorted(trials, key=lambda trial: trial.bits_per_byte)
