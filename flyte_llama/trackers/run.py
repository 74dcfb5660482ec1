"""The run of a training in its trackers: its name, what is logged with it, and where its files go."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from flyte_llama.config import Frozen

Figures = dict[str, float | str]
"""Figures by name, such as `heldout/change/bits_per_byte`, and short texts."""

_MAX_NAME = 50
"""Characters of a configuration's name in the id of a run: wandb takes 128 in all, and an execution may have 63."""


class Tracking(Frozen):
    """What the trackers get to know about a training, besides its curve."""

    trackers: list[str]
    """`training.report_to`."""

    name: str
    """The name of the configuration."""

    execution: str = ""
    """The id of the Flyte execution; empty in a local run."""

    tags: dict[str, str]
    config: dict[str, Any]
    """The whole configuration."""

    folder: Path
    """For the files of trackers: `tensorboard/RUN/` has the event files of a run, `wandb/` those of wandb."""

    upload: Callable[[Path], None] | None = None
    """Called with `tensorboard/RUN/` when a checkpoint is sealed and in the end; puts it where it survives the pod."""

    @property
    def wandb_folder(self) -> Path:
        """The parent of `wandb/`."""
        return self.folder

    def event_folder(self, run_id: str) -> Path:
        """The folder of a run's event files."""
        return self.folder / "tensorboard" / run_id


def new_run_id(tracking: Tracking, made_from: Mapping[str, str]) -> str:
    """The id of a training's run, which is its name too: `small-f3kx0q9w2a-5d41402a`.

    All attempts of a Flyte execution make the same one, so that an attempt which finds no checkpoint goes on with the
    run of the one before. In a local run each call makes another one: `small-20250131-174502-5d41402a`.

    Args:
        made_from: The fingerprint of the training, since an execution may train several.
    """
    name = tracking.name[:_MAX_NAME] or "run"
    if not tracking.execution:
        return f"{name}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    facts = json.dumps([tracking.execution, tracking.tags, dict(made_from)], sort_keys=True)
    return f"{name}-{tracking.execution}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
