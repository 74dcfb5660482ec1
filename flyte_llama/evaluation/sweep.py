"""A small sweep over learning rate and rank: the runs to try, one run with its held-out score, and their order.

A run trains in separate processes, so that running out of memory ends only that run. The sweep compares runs by their
score on held-out text, so it is not in `training`, where the trials of a micro-batch size are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flyte_llama.config import EvaluationConfig, Frozen, ObjectiveConfig, TrainingConfig
from flyte_llama.errors import ConfigError
from flyte_llama.evaluation.scores import total_loss
from flyte_llama.evaluation.scoring import score_documents
from flyte_llama.evaluation.suite import choose_suite
from flyte_llama.model import open_model
from flyte_llama.training.launch import TrainingJob, launch_training


class SweepTrial(Frozen):
    """The result of trying one learning rate and rank."""

    learning_rate: float
    rank: int
    """0 in full fine-tuning."""

    train_loss: float
    """Mean nats per token at the last logged step."""

    bits_per_byte: float
    """On the held-out text."""

    perplexity: float
    """On the held-out text."""

    wall_s: float
    """Seconds of training, without the evaluation."""


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
    heldout: Path,
    training: TrainingConfig,
    folder: Path,
    *,
    objective: ObjectiveConfig,
    evaluation: EvaluationConfig,
    num_processes: int,
) -> SweepTrial:
    """Train a model with this configuration, and score it on the held-out documents.

    Args:
        base: The prepared base model.
        rows: The packed rows.
        heldout: The held-out folder of the corpus. General code and train text are not scored.
        folder: For the files of the run; the model is written to its subfolder `model`.
        objective: The objective that the rows were made with.

    Raises:
        OutOfMemoryError: if the run does not fit the GPUs.
        TrainingError: if it fails otherwise.
    """
    out = folder / "model"
    job = TrainingJob(base=base, rows=rows, out=out, training=training)
    summary = launch_training(job, folder, num_processes=num_processes)
    model, tokenizer = open_model(out, precision=training.precision)
    suite = choose_suite(heldout, [], [], probe_bytes=0)
    loss = total_loss([score for score, _ in score_documents(model, suite, tokenizer, evaluation, objective)])
    return SweepTrial(
        learning_rate=training.learning_rate,
        rank=0 if training.method == "full" else training.lora.rank,
        train_loss=summary.losses[-1].loss,
        bits_per_byte=loss.bits_per_byte,
        perplexity=loss.perplexity,
        wall_s=summary.wall_s,
    )


def rank_trials(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """Sort trials by bits per byte, lowest first."""
    return sorted(trials, key=lambda trial: trial.bits_per_byte)
