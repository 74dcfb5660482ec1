"""Where a report comes from: when it was made, by which configuration, with which versions, and what the run cost."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from flyte_llama import __version__
from flyte_llama.config import ExperimentConfig, Frozen, TrainingConfig, write_config
from flyte_llama.plan.flops import recognise
from flyte_llama.training import TrainingSummary

# The packages that decide the figures of a run.
_PACKAGES = ("torch", "transformers", "deepspeed", "peft", "accelerate", "datasets", "tokenizers", "flytekit")
_SECONDS_PER_HOUR = 3600


class Provenance(Frozen):
    """What made a report, so that it can be made again."""

    finished: datetime
    name: str
    """The name of the configuration."""

    hyperparameters: dict[str, str]
    """What people look for first, by its key in the configuration; empty for a model that was only measured."""

    config: str
    """The whole configuration in YAML, with every default."""

    flyte_llama: str
    python: str
    packages: dict[str, str]
    """Package → its version."""

    machine: str
    """The operating system of the machine that made the report."""


class Cost(Frozen):
    """An estimate of what the steps of a training cost."""

    dollars: float
    gpu: str
    dollars_an_hour: float
    """Rough on-demand price of one GPU."""


def record_provenance(
    config: ExperimentConfig, training: TrainingSummary | None, versions: Mapping[str, Any]
) -> Provenance:
    """Return the provenance of a report that is made now.

    Args:
        versions: As `collect_versions` returns them.
    """
    return Provenance(
        name=config.name,
        hyperparameters=_hyperparameters(config.training) if training else {},
        config=write_config(config),
        **versions,
    )


def estimate_cost(training: TrainingSummary) -> Cost | None:
    """Return the price of the steps; None for a CPU, and for a GPU whose price is not known."""
    gpu = recognise(training.device)
    if gpu is None:
        return None
    hours = training.num_processes * training.wall_s / _SECONDS_PER_HOUR
    return Cost(dollars=hours * gpu.dollars_an_hour, gpu=gpu.name, dollars_an_hour=gpu.dollars_an_hour)


def collect_versions() -> dict[str, Any]:
    """The time, the versions of this package, Python and the packages that decide the figures, and the machine."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "flyte_llama": __version__,
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in _PACKAGES},
        "machine": platform.platform(),
    }


def _hyperparameters(training: TrainingConfig) -> dict[str, str]:
    values: dict[str, object] = {"learning_rate": training.learning_rate}
    if training.method != "full":
        values |= {"lora.rank": training.lora.rank, "lora.alpha": training.lora.alpha}
    length: dict[str, object] = {"max_steps": training.max_steps} if training.max_steps else {"epochs": training.epochs}
    values |= {"global_batch_size": training.global_batch_size, "seq_len": training.seq_len, **length}
    values |= {"weight_decay": training.weight_decay, "precision": training.precision, "seed": training.seed}
    return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in values.items()}
