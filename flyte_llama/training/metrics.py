"""The curve of a run: one JSON line a logged step, on the disk as soon as it is known.

Every checkpoint has a copy, from which a resumed run goes on: so no step stands in it twice, and what a killed process
did after its last checkpoint, which is done again, stands in it once.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

METRICS = "metrics.jsonl"


class LossPoint(BaseModel):
    """A logged step; a line of `metrics.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    loss: float
    """Nats a token, the mean of the steps since the last point."""

    learning_rate: float

    grad_norm: float | None = None
    """Of the step's gradients, before they are clipped."""

    num_tokens: int = 0
    """Tokens of documents given to the model so far, over all processes; padding does not count."""

    tokens_per_s: float | None = None
    """Since the last point, over all processes; padding does not count, nor does the time of saving."""

    mfu: float | None = None
    """Model FLOPs utilisation since the last point: the share of all GPUs' dense peak that the model's own arithmetic
    took. None where no peak is known."""

    wall_s: float = 0.0
    """Seconds of training so far: the steps that count, whichever start of the run took them."""

    peak_memory_bytes: int | None = None
    """Most that the first process has held so far: allocated by torch on a GPU, else resident."""

    time: str = ""
    """When, UTC, ISO 8601."""


class Curve:
    """The points of a run, and their file if this process writes one."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.points: list[LossPoint] = []
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")

    def go_on_from(self, checkpoint: Path) -> None:
        """Take over what a checkpoint holds."""
        text = (checkpoint / METRICS).read_text(encoding="utf-8")
        self.points = [LossPoint.model_validate_json(line) for line in text.splitlines()]
        if self.file is not None:
            self.file.write_text(text, encoding="utf-8")

    def add(self, point: LossPoint) -> None:
        self.points.append(point)
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(point.model_dump_json() + "\n")

    def copy_into(self, folder: Path) -> None:
        if self.file is not None:
            shutil.copyfile(self.file, folder / METRICS)

    @property
    def num_tokens(self) -> int:
        return self.points[-1].num_tokens if self.points else 0

    @property
    def wall_s(self) -> float:
        return self.points[-1].wall_s if self.points else 0.0
