"""Trials before a long run, one pod each. `tasks.training` counts the processes, so this imports torch."""

from __future__ import annotations

from flytekit import Cache, Deck, FlyteDirectory, task

from flyte_llama.config import EvaluationConfig, ObjectiveConfig, TrainingConfig
from flyte_llama.errors import TrainingError
from flyte_llama.evaluation import choose_probes, score, total_loss
from flyte_llama.model import open_model
from flyte_llama.plan import ACCELERATORS, base_shape
from flyte_llama.progress import say
from flyte_llama.report import batch_table, sweep_table, trials_page
from flyte_llama.tasks.resources import (
    ALL_GPUS,
    HUB_SECRETS,
    SETTINGS,
    SMALL,
    local,
    local_output,
    new_folder,
    retried,
)
from flyte_llama.tasks.training import PROCESSES
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


@task(**SMALL, retries=1)
def batch_sizes(training: TrainingConfig, base: FlyteDirectory) -> list[TrainingConfig]:
    """The configuration with each micro-batch size that the plan does not rule out."""
    if local_output() is not None:
        return batch_candidates(training, num_processes=PROCESSES)
    shape, gpu = base_shape(local(base), training), ACCELERATORS.get(SETTINGS.gpu)
    return batch_candidates(training, num_processes=SETTINGS.gpu_count * SETTINGS.nodes, shape=shape, gpu=gpu)


# What fits depends on the GPUs that the pod is registered for.
@task(
    **ALL_GPUS,
    retries=1,
    secret_requests=HUB_SECRETS,
    cache=Cache(version=f"1-{SETTINGS.gpu_count}-{SETTINGS.gpu}", serialize=True),
)
def try_batch_size(training: TrainingConfig, base: FlyteDirectory, rows: FlyteDirectory) -> BatchTrial:
    """Some steps with one micro-batch size; mapped, one pod a size."""
    with retried():
        return try_batch(local(base), local(rows), training, new_folder("trial"), num_processes=PROCESSES)


@task(**SMALL, retries=1, enable_deck=True)
def choose_batch_size(trials: list[BatchTrial]) -> BatchTrial:
    """The largest that fits, after a table of all."""
    table = batch_table(trials)
    Deck("Micro-batch sizes", trials_page("Micro-batch sizes", table))
    say(f"\n{table}")
    best = best_batch(trials)
    if best is None:
        raise TrainingError(
            "no micro-batch fits, not even one row. Lower training.seq_len, raise training.deepspeed.zero_stage, or "
            "use training.method: qlora."
        )
    say(f"largest that fits: training.micro_batch_size: {best.micro_batch_size}")
    return best


@task(**SMALL, retries=1)
def sweep_configs(training: TrainingConfig, learning_rates: list[float], ranks: list[int]) -> list[TrainingConfig]:
    """The configuration with each pair of learning rate and rank."""
    return sweep_points(training, learning_rates, ranks)


@task(**ALL_GPUS, retries=3, secret_requests=HUB_SECRETS, cache=Cache(version="1", serialize=True))
def try_point(
    training: TrainingConfig,
    base: FlyteDirectory,
    rows: FlyteDirectory,
    heldout: FlyteDirectory,
    objective: ObjectiveConfig,
    evaluation: EvaluationConfig,
) -> SweepTrial:
    """One run of a sweep and its held-out score; mapped, one pod a point."""
    folder = new_folder("trial")
    out = folder / "model"
    with retried():
        job = Job(base=local(base), rows=local(rows), out=out, training=training)
        summary = launch(job, folder, processes=PROCESSES)
        model, tokenizer = open_model(out, precision=training.precision)
        probes = choose_probes(local(heldout), [], [], probe_bytes=0)
        loss = total_loss([found for found, _ in score(model, probes, tokenizer, evaluation, objective)])
    return SweepTrial(
        learning_rate=training.learning_rate,
        rank=0 if training.method == "full" else training.lora.rank,
        train_loss=summary.losses[-1].loss,
        bits_per_byte=loss.bits_per_byte,
        perplexity=loss.perplexity,
        wall_s=summary.wall_s,
    )


@task(**SMALL, retries=1, enable_deck=True)
def choose_point(trials: list[SweepTrial]) -> list[SweepTrial]:
    """Best first, after a table."""
    table = sweep_table(trials)
    Deck("Sweep", trials_page("Sweep over learning rate and rank", table))
    best, *others = ranked(trials)
    say(f"\n{table}\nbest on held-out text: learning_rate {best.learning_rate:g}, rank {best.rank or 'all weights'}")
    return [best, *others]
