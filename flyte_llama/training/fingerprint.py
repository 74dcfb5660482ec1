"""What a run is made from, field by field: a checkpoint is gone on from only where all of it is the same.

Comes in: the folders of the base model and of the packed rows, the configuration, the number of processes. Goes out: a
flat dictionary of texts. What changes only when a run logs, keeps or reports is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flyte_llama.config import TrainingConfig
from flyte_llama.manifest import MANIFEST, sha256_file, sha256_folder

WITHOUT_EFFECT = ("checkpoint_every_steps", "keep_checkpoints", "log_every_steps", "report_to")
PACKAGES = ("torch", "transformers", "deepspeed", "peft")


def fingerprint(
    base: Path, rows_folder: Path, training: TrainingConfig, *, num_processes: int, device: str
) -> dict[str, str]:
    """Name → value, as a checkpoint's manifest holds it. The rows' manifest stands for the rows: it has their sha256.

    The number of processes is part of it: ZeRO's state is split by it, and so is what each draws for dropout.
    """
    settings = training.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
    return {
        "rows": sha256_file(rows_folder / MANIFEST),
        "base": sha256_folder(base),
        **_flat("training", settings),
        "processes": str(num_processes),
        "device": device,
        **{package: version(package) for package in PACKAGES},
    }


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """`name: old → new`, one a difference; digests are cut short."""
    nothing = "nothing"
    return [
        f"{name}: {_short(old.get(name, nothing))} → {_short(new.get(name, nothing))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _flat(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {name: json.dumps(value)}
    return {key: text for inner in value for key, text in _flat(f"{name}.{inner}", value[inner]).items()}


def _short(text: str) -> str:
    return f"{text[:12]}…" if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
