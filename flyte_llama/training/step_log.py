"""One line every N steps from rank 0: step, loss, learning rate, tokens/s, time left; and the points of the curve.

On a terminal there is a bar below the lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from flyte_llama.plan import Flops, Throughput
from flyte_llama.progress import duration, on_terminal, say
from flyte_llama.training.metrics import Curve, LossPoint
from flyte_llama.training.work import Work

if TYPE_CHECKING:
    from transformers import TrainerCallback


def step_log(
    curve: Curve, work: Work, *, peak_flops: float | None = None, clock: Callable[[], float] = time.monotonic
) -> TrainerCallback:
    """A callback for the Trainer that adds every logged step to the curve and says it.

    Args:
        peak_flops: FLOP/s of all devices together; None leaves the MFU out.
    """
    from transformers import TrainerCallback

    class StepLog(TrainerCallback):
        """`wall_s` is the training so far, over all starts of the run; `mark` is the moment up to which it counts."""

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
            # So that the curve ends where the training ends.
            if state.global_step >= state.max_steps:
                control.should_log = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.mark = clock()

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            logs = kwargs["logs"]
            if "loss" not in logs:
                return
            step, last = state.global_step, curve.points[-1].step if curve.points else 0
            num_tokens, seconds = work.num_tokens(steps=step), max(self.wall_s - curve.wall_s, 1e-9)
            flops, before = work.flops(steps=step), work.flops(steps=last)
            made = Flops(flops.model - before.model) if flops and before else Flops()
            done = Throughput(num_tokens - curve.num_tokens, made, seconds)
            point = LossPoint(
                step=step,
                loss=logs["loss"],
                learning_rate=logs["learning_rate"],
                grad_norm=logs.get("grad_norm"),
                num_tokens=num_tokens,
                tokens_per_s=done.tokens_per_s,
                mfu=done.mfu(peak_flops, 1) if peak_flops and flops else None,
                wall_s=self.wall_s,
                peak_memory_bytes=peak_memory_bytes(),
                time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
            curve.add(point)
            if not state.is_world_process_zero:
                return
            left = (self.wall_s - self.first_s) / (step - self.first_step) * (state.max_steps - step)
            mfu = f"  {point.mfu:.1%} MFU" if point.mfu is not None else ""
            say(
                f"step {step}/{state.max_steps}  loss {point.loss:.4f}  lr {point.learning_rate:.2e}  "
                f"{done.tokens_per_s:,.0f} tokens/s{mfu}  {duration(left)} left"
            )

    return StepLog()


def peak_memory_bytes() -> int | None:
    """Most that this process has held: on a GPU what torch allocated, else what was resident, where /proc says it."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        with open("/proc/self/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None
