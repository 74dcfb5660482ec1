"""The curve of a run: loss, speed and time of each logged step, printed by rank 0 and stored in `metrics.jsonl`.

`StepTotals` computes from the rows, before the first step, how many tokens and FLOPs any number of steps has. The step
log is a callback of the Trainer: every N steps it makes a `LossPoint`, adds it to the `Curve` of the process, and on
rank 0 prints step, loss, learning rate, tokens/s and time left. On a terminal a progress bar stays below the lines.

A point is one JSON line, written as soon as it is known. Every checkpoint has a copy of the file, and a resumed run
continues from that copy: so every step occurs once, even if a killed process logged steps after its last checkpoint
that are then done again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from flyte_llama.config import Frozen, ResolvedTraining
from flyte_llama.plan import Flops, ModelShape, Throughput, corpus_flops
from flyte_llama.progress import duration, on_terminal, say

if TYPE_CHECKING:
    from transformers import TrainerCallback

METRICS = "metrics.jsonl"
VALIDATION_LOSS = "eval_loss"
"""The validation loss in the Trainer's logs, under transformers' name, by which trackers know it."""


class LossPoint(Frozen):
    """A logged step: one line of `metrics.jsonl`."""

    step: int
    loss: float
    """Nats per token, as the mean over the steps since the last point."""

    validation_loss: float | None = None
    """Nats per token on the validation rows after this step; None if it was not measured."""

    learning_rate: float

    grad_norm: float | None = None
    """Norm of the step's gradients before clipping."""

    num_tokens: int = 0
    """Tokens fed to the model so far, over all processes, without padding."""

    tokens_per_s: float | None = None
    """Since the last point, over all processes, without padding and without the time for saving and validation."""

    mfu: float | None = None
    """Model FLOPs utilisation since the last point: the model's FLOPs as a share of the dense peak of all GPUs. None if
    the peak is not known."""

    wall_s: float = 0.0
    """Seconds of training so far, over all starts of the run; steps that were lost and done again count once."""

    peak_memory_bytes: int | None = None
    """Peak memory of the first process so far: on a GPU as allocated by torch, on a CPU as resident."""

    time: str = ""
    """Time of logging: UTC, ISO 8601."""


class Curve:
    """The points of a run, and their file if this process is the one that writes it."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.points: list[LossPoint] = []

    def start(self) -> None:
        """Begin without points, and with an empty file."""
        self.points = []
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_bytes(b"")

    def resume_from(self, checkpoint: Path) -> None:
        """Replace all points with those in a checkpoint, here and in the file."""
        text = (checkpoint / METRICS).read_text(encoding="utf-8")
        self.points = [LossPoint.model_validate_json(line) for line in text.splitlines()]
        if self.file is not None:
            self.file.write_text(text, encoding="utf-8")

    def add(self, point: LossPoint) -> None:
        """Add a point, and append it to the file at once."""
        self.points.append(point)
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(point.model_dump_json() + "\n")

    def copy_into(self, folder: Path) -> None:
        """Copy the file to `folder`, if this process writes it."""
        if self.file is not None:
            shutil.copyfile(self.file, folder / METRICS)

    @property
    def best(self) -> LossPoint | None:
        """The point with the lowest validation loss, the first of several; None if none was measured."""
        measured = [(point.validation_loss, point) for point in self.points if point.validation_loss is not None]
        return min(measured, key=lambda pair: pair[0])[1] if measured else None

    @property
    def num_tokens(self) -> int:
        return self.points[-1].num_tokens if self.points else 0

    @property
    def wall_s(self) -> float:
        return self.points[-1].wall_s if self.points else 0.0


class StepTotals:
    """Total tokens and FLOPs after any number of steps, over all processes, without padding."""

    def __init__(
        self, rows: Any, order: np.ndarray, *, rows_per_step: int, shape: ModelShape | None, training: ResolvedTraining
    ) -> None:
        """Sum up the rows in reading order.

        Args:
            order: Indices of the rows, in the order that the run reads them.
            shape: None leaves the FLOPs unknown.
        """
        self._rows_per_step = rows_per_step
        lengths = rows.data.column("length").combine_chunks()
        ends = np.concatenate([[0], np.cumsum(lengths.flatten().to_numpy())])
        # `lengths` holds the lengths of each row's documents: sum them up to one number of tokens per row.
        tokens = np.diff(ends[np.concatenate([[0], np.cumsum(lengths.value_lengths().to_numpy())])])
        self._tokens = _totals(tokens[order])
        self._flops: np.ndarray | None = None
        if shape is not None:
            both_ways = rows.data.column("bidirectional").to_pylist()
            per_row = [
                corpus_flops(shape, training, [], bidirectional=row) if both else corpus_flops(shape, training, row)
                for row, both in zip(lengths.to_pylist(), both_ways, strict=True)
            ]
            self._flops = _totals(
                np.array([(flops.model, flops.recomputed) for flops in per_row], dtype=np.float64)[order]
            )

    def num_tokens(self, *, steps: int) -> int:
        """Tokens of the first `steps` steps."""
        return int(self._tokens[self._num_rows(steps)])

    def flops(self, *, steps: int) -> Flops | None:
        """FLOPs of the first `steps` steps; None if the model's shape is not known."""
        if self._flops is None:
            return None
        model, recomputed = self._flops[self._num_rows(steps)]
        return Flops(int(model), int(recomputed))

    def _num_rows(self, steps: int) -> int:
        return min(steps * self._rows_per_step, len(self._tokens) - 1)


def make_step_log(
    curve: Curve, totals: StepTotals, *, peak_flops: float | None = None, clock: Callable[[], float] = time.monotonic
) -> TrainerCallback:
    """A callback for the Trainer that adds every logged step to the curve, and prints it on rank 0.

    Args:
        peak_flops: Peak FLOP/s of all devices together; None leaves out the MFU.
    """
    from transformers import TrainerCallback

    class StepLog(TrainerCallback):
        """Counts training time: `wall_s` is the seconds over all starts of the run, up to the moment `mark`.

        Saving and validation move `mark` without adding to `wall_s`, so their seconds are left out.
        """

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.wall_s, self.first_step, self.first_s = curve.wall_s, state.global_step, curve.wall_s
            hidden = not state.is_world_process_zero or not on_terminal()
            self.bar = tqdm(desc="training", total=state.max_steps, initial=state.global_step, disable=hidden)
            self.mark = clock()

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.close()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            now = clock()
            self.wall_s, self.mark = self.wall_s + now - self.mark, now
            self.bar.update()
            # Log the last step too, so that the curve ends where the training ends.
            if state.global_step >= state.max_steps:
                control.should_log = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.mark = clock()

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            logs = kwargs["logs"]
            if "loss" not in logs:
                return
            if VALIDATION_LOSS in logs:
                self.mark = clock()
            # Tokens, FLOPs and seconds since the last point.
            step, last = state.global_step, curve.points[-1].step if curve.points else 0
            num_tokens, seconds = totals.num_tokens(steps=step), max(self.wall_s - curve.wall_s, 1e-9)
            flops, before = totals.flops(steps=step), totals.flops(steps=last)
            added = Flops(flops.model - before.model) if flops and before else Flops()
            throughput = Throughput(num_tokens - curve.num_tokens, added, seconds)

            # Add the point to the curve. `peak_flops` already sums all GPUs, so they count as one.
            point = LossPoint(
                step=step,
                loss=logs["loss"],
                validation_loss=logs.get(VALIDATION_LOSS),
                learning_rate=logs["learning_rate"],
                grad_norm=logs.get("grad_norm"),
                num_tokens=num_tokens,
                tokens_per_s=throughput.tokens_per_s,
                mfu=throughput.mfu(peak_flops, num_gpus=1) if peak_flops and flops else None,
                wall_s=self.wall_s,
                peak_memory_bytes=peak_memory_bytes(),
                time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
            curve.add(point)
            # The callbacks of trackers come after this one, and send what is in `logs`.
            logs |= {name: getattr(point, name) for name in ("tokens_per_s", "mfu") if getattr(point, name) is not None}
            if not state.is_world_process_zero:
                return

            # Print it, with the time left at the average speed since this start.
            seconds_left = (self.wall_s - self.first_s) / (step - self.first_step) * (state.max_steps - step)
            mfu = f"  {point.mfu:.1%} MFU" if point.mfu is not None else ""
            validation = "" if point.validation_loss is None else f"validation loss {point.validation_loss:.4f}  "
            say(
                f"step {step}/{state.max_steps}  loss {point.loss:.4f}  {validation}lr {point.learning_rate:.2e}  "
                f"{throughput.tokens_per_s:,.0f} tokens/s{mfu}  {duration(seconds_left)} left"
            )

    return StepLog()


def peak_memory_bytes() -> int | None:
    """Peak memory of this process: on a GPU as allocated by torch, on a CPU as resident; None without /proc."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        with open("/proc/self/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None


def _totals(values: np.ndarray) -> np.ndarray:
    """The sums of the first 0, 1, 2, … values."""
    return np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
