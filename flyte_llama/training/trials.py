"""Trials before a long run: the fastest micro-batch that fits the GPUs; the best learning rate and rank.

Each trial is a training run in separate processes, so that running out of memory ends only the trial. Learning rates
and ranks are compared by the loss on the validation part of the train repositories. Held-out text chooses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flyte_llama.config import Frozen, TrainingConfig, batch_problems
from flyte_llama.errors import ConfigError, OutOfMemoryError
from flyte_llama.plan import Accelerator, Devices, ModelShape, choose_settings, refuse_if_too_large
from flyte_llama.progress import say
from flyte_llama.trackers import Tracking
from flyte_llama.training.launch import TrainingJob, launch_training

TRIAL_STEPS = 4
"""Optimizer steps in a trial of a micro-batch size. Its speed leaves out the first, which includes set-up."""


class BatchTrial(Frozen):
    """The result of trying one micro-batch size."""

    micro_batch_size: int
    fits: bool
    tokens_per_s: float | None = None
    """Over all processes together, without padding; None if the size does not fit."""

    peak_memory_bytes: int | None = None
    """Peak of the first process, in GPU memory, or in host memory if there is no GPU."""


class SweepTrial(Frozen):
    """The result of trying one learning rate and rank."""

    learning_rate: float
    rank: int
    """0 in full fine-tuning."""

    train_loss: float
    """Mean nats per token at the last logged step."""

    validation_loss: float
    """Nats per token on the validation rows, of the model that the run would write."""

    step: int
    """The step of that model: the last, or with `training.keep_best` the best."""

    wall_s: float
    """Seconds of training."""


def batch_candidates(
    training: TrainingConfig, *, num_processes: int, shape: ModelShape | None = None, gpu: Accelerator | None = None
) -> list[TrainingConfig]:
    """The configuration with each micro-batch size (1, 2, 4, …) that divides the global batch and fits the GPU.

    Recomputation stays `auto` if it is: each trial keeps its activations if they fit.

    Args:
        shape: None skips the check of memory.
        gpu: None skips it too.

    Raises:
        ConfigError: if not even one row per process is possible.
    """
    by_size = [training.model_copy(update={"micro_batch_size": 2**power}) for power in range(12)]
    for problem in batch_problems(by_size[0], num_processes):
        raise ConfigError(problem)
    candidates = [candidate for candidate in by_size if not batch_problems(candidate, num_processes)]
    if shape is None or gpu is None:
        return candidates
    devices = Devices(gpu.name, num_processes, gpu.memory_bytes, gpu.peak_flops(training.precision), has_liger=True)
    for num_fitting, candidate in enumerate(candidates):
        resolved = choose_settings(shape, candidate, devices).training
        try:
            refuse_if_too_large(shape, resolved, device_bytes=gpu.memory_bytes, num_processes=num_processes)
        except OutOfMemoryError as error:
            if num_fitting == 0:
                raise ConfigError(error.message) from None
            return candidates[:num_fitting]
    return candidates


def try_batch(base: Path, rows: Path, training: TrainingConfig, folder: Path, *, num_processes: int) -> BatchTrial:
    """Train a few steps with one micro-batch per process, and return whether it fits, its speed and its peak memory."""
    size = training.micro_batch_size
    trial = training.model_copy(
        update={
            "global_batch_size": size * num_processes,
            "max_steps": TRIAL_STEPS,
            "log_every_steps": 1,
            "checkpoint_every_steps": 0,
            "report_to": [],
            "validation_share": 0.0,
            "keep_best": False,
        }
    )
    try:
        summary = launch_training(
            TrainingJob(base=base, rows=rows, training=trial), folder, num_processes=num_processes
        )
    except OutOfMemoryError:
        return BatchTrial(micro_batch_size=size, fits=False)
    first, last = summary.losses[0], summary.losses[-1]
    return BatchTrial(
        micro_batch_size=size,
        fits=True,
        tokens_per_s=(last.num_tokens - first.num_tokens) / (last.wall_s - first.wall_s),
        peak_memory_bytes=last.peak_memory_bytes,
    )


def best_batch(trials: Sequence[BatchTrial]) -> BatchTrial | None:
    """The fastest trial; None if none fits."""
    return max(trials, key=lambda trial: trial.tokens_per_s or 0.0) if any(trial.fits for trial in trials) else None


def sweep_points(
    training: TrainingConfig, learning_rates: Sequence[float], ranks: Sequence[int]
) -> list[TrainingConfig]:
    """The configuration with each pair of learning rate and rank, or in full fine-tuning with each learning rate.

    Alpha keeps its ratio to the rank, so that the scale of the update stays the same.

    Raises:
        ConfigError: if a list that is needed is empty, or a value is out of range.
    """
    if not learning_rates or (not ranks and training.method != "full"):
        raise ConfigError("a sweep needs learning_rates, and for adapters ranks, e.g. --learning_rates '[1e-4, 3e-4]'.")
    if not all(0 < rate < float("inf") for rate in learning_rates) or not all(rank >= 1 for rank in ranks):
        raise ConfigError("a sweep needs finite learning_rates above 0, and ranks of at least 1.")
    if ranks and training.method == "full":
        say("training.method = 'full': has no rank, so the sweep tries learning rates alone")
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


def try_point(
    base: Path,
    rows: Path,
    training: TrainingConfig,
    folder: Path,
    *,
    num_processes: int,
    tracking: Tracking | None = None,
) -> SweepTrial:
    """Train with this configuration, and return the validation loss. No model is written.

    Args:
        rows: The packed rows, with those of a validation part.
        folder: For the files of the run.
        tracking: The run in the trackers of `training.report_to`; None reports to none.

    Raises:
        ConfigError: if `training.validation_share` is 0.
        OutOfMemoryError: if the run does not fit the GPUs.
        TrainingError: if it fails otherwise.
    """
    rank = 0 if training.method == "full" else training.lora.rank
    say(f"trying learning_rate {training.learning_rate:g}, {f'rank {rank}' if rank else 'all weights'}")
    trial = training.model_copy(update={"checkpoint_every_steps": 0})
    job = TrainingJob(base=base, rows=rows, training=trial, tracking=tracking)
    summary = launch_training(job, folder, num_processes=num_processes)
    if summary.validation_loss is None:
        raise ConfigError("a sweep compares runs by their validation loss. Set training.validation_share above 0.")
    return SweepTrial(
        learning_rate=training.learning_rate,
        rank=rank,
        train_loss=summary.losses[-1].loss,
        validation_loss=summary.validation_loss,
        step=summary.exported_step,
        wall_s=summary.wall_s,
    )


def rank_trials(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """Sort trials by validation loss, lowest first."""
    return sorted(trials, key=lambda trial: trial.validation_loss)
