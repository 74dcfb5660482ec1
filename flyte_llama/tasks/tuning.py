"""The tasks of trials before a long run, one pod per trial. Those that plan and choose need no torch."""

from __future__ import annotations

from flytekit import Cache, Deck, FlyteDirectory, task

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import TrainingError
from flyte_llama.plan import base_shape, known_gpu
from flyte_llama.progress import say
from flyte_llama.report import batch_table, collect_versions, sweep_table, trials_page
from flyte_llama.tasks.cache import CACHE, Hashed
from flyte_llama.tasks.folders import download, local_output, new_folder, retry_network_errors
from flyte_llama.tasks.resources import ALL_GPUS, HUB_SECRETS, SETTINGS, SMALL, TRAINING_SECRETS
from flyte_llama.tasks.tracking import make_tracking
from flyte_llama.training.trials import (
    BatchTrial,
    SweepTrial,
    batch_candidates,
    best_batch,
    rank_trials,
    sweep_points,
    try_batch,
)
from flyte_llama.training.trials import try_point as try_one_point
from flyte_llama.workspace import finish_run, new_run_folder


@task(**SMALL, retries=1)
def batch_sizes(training: TrainingConfig, base: FlyteDirectory) -> list[Hashed[TrainingConfig]]:
    """One configuration for each micro-batch size that the plan does not rule out."""
    if local_output() is not None:
        return batch_candidates(training, num_processes=_num_gpus())
    shape, gpu = base_shape(download(base), training), known_gpu(SETTINGS.gpu)
    if gpu is None:
        say(f"FLYTE_LLAMA_GPU = {SETTINGS.gpu}: its memory is not known, so each size is tried")
    return batch_candidates(training, num_processes=SETTINGS.gpu_count * SETTINGS.nodes, shape=shape, gpu=gpu)


# The result depends on the pod's GPUs, so they are part of the cache version.
@task(
    **ALL_GPUS,
    retries=1,
    secret_requests=HUB_SECRETS,
    cache=Cache(version=f"2-{SETTINGS.gpu_count}-{SETTINGS.gpu}", serialize=True),
)
def try_batch_size(training: TrainingConfig, base: FlyteDirectory, rows: FlyteDirectory) -> BatchTrial:
    """Run a few steps with one micro-batch size. A map task: one pod per size."""
    with retry_network_errors():
        return try_batch(download(base), download(rows), training, new_folder("trial"), num_processes=_num_gpus())


@task(**SMALL, retries=1, enable_deck=True, deck_fields=())
def choose_batch_size(trials: list[BatchTrial]) -> BatchTrial:
    """Show a table of all trials, and return the fastest."""
    table = batch_table(trials)
    _show("Micro-batch sizes", table)
    best = best_batch(trials)
    if best is None:
        raise TrainingError(
            "no micro-batch fits, not even one row. Lower training.seq_len, raise training.deepspeed.zero_stage, or "
            "use training.method: qlora."
        )
    say(f"fastest: training.micro_batch_size: {best.micro_batch_size}")
    return best


@task(**SMALL, retries=1)
def sweep_configs(
    training: TrainingConfig, learning_rates: list[float], ranks: list[int]
) -> list[Hashed[TrainingConfig]]:
    """One configuration for each pair of learning rate and rank."""
    return sweep_points(training, learning_rates, ranks)


@task(**ALL_GPUS, retries=3, secret_requests=TRAINING_SECRETS, cache=Cache(version="3", serialize=True))
def try_point(training: TrainingConfig, base: FlyteDirectory, rows: FlyteDirectory) -> SweepTrial:
    """One run of a sweep and its validation loss. A map task: one pod per pair."""
    with retry_network_errors():
        return try_one_point(
            download(base),
            download(rows),
            training,
            new_folder("trial"),
            num_processes=_num_gpus(),
            tracking=make_tracking(training, ""),
        )


@task(**SMALL, retries=1, enable_deck=True, deck_fields=())
def choose_point(trials: list[SweepTrial]) -> list[SweepTrial]:
    """Show a table of all trials, and return them, best first."""
    table = sweep_table(trials)
    _show("Sweep over learning rate and rank", table)
    best, *others = rank_trials(trials)
    rank = f"rank {best.rank}" if best.rank else "all weights"
    say(f"lowest validation loss: learning_rate {best.learning_rate:g}, {rank}")
    return [best, *others]


def _num_gpus() -> int:
    """The number of processes of a trial: one for each GPU of the pod, 1 on a laptop."""
    import torch

    return max(1, torch.cuda.device_count())


def _show(title: str, table: str) -> None:
    """Show a table of trials in the log and in the deck; a local run also keeps it, in its run folder."""
    say(f"\n{table}")
    page = trials_page(title, table)
    Deck(title, page)
    output = local_output()
    if output is not None:
        folder = new_run_folder(output, CACHE.run_name)
        (folder / "trials.html").write_text(page, encoding="utf-8")
        finish_run(folder, CACHE.run_name, CACHE.used, collect_versions())
