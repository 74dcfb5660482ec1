"""One line every N steps from rank 0: step, loss, learning rate, tokens/s, time left; and the points of the curve.

On a terminal there is a bar below the lines.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from flyte_llama.errors import TrainingError
from flyte_llama.progress import duration, on_terminal, say

if TYPE_CHECKING:
    from transformers import TrainerCallback


def step_log(points: list[dict[str, Any]]) -> TrainerCallback:
    """A callback for the Trainer that adds every logged step to `points` and says it.

    It stops the run at the first logged loss or gradient norm that is not finite: the Trainer by itself would log such
    a loss as 0 and go on, and DeepSpeed would skip the step and go on.
    """
    from transformers import TrainerCallback

    class StepLog(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.start, self.last, self.tokens = time.monotonic(), time.monotonic(), 0
            hidden = not state.is_world_process_zero or not on_terminal()
            self.bar = tqdm(desc="training", total=state.max_steps, leave=False, disable=hidden)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.close()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.update()
            # So that the curve ends where the training ends, and no loss goes unlooked at.
            if state.global_step >= state.max_steps:
                control.should_log = True

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            logs = kwargs["logs"]
            if "loss" not in logs:
                return
            loss, norm = float(logs["loss"]), float(logs.get("grad_norm") or 0.0)
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise TrainingError(
                    f"the loss is {loss} and the gradient norm {norm} at step {state.global_step}. Lower "
                    "training.learning_rate, or lengthen training.warmup_share; nothing was saved."
                )
            points.append({"step": state.global_step, "loss": loss, "learning_rate": float(logs["learning_rate"])})
            if not state.is_world_process_zero:
                return
            now = time.monotonic()
            tokens_per_s = (state.num_input_tokens_seen - self.tokens) / (now - self.last)
            left = (now - self.start) / state.global_step * (state.max_steps - state.global_step)
            self.last, self.tokens = now, state.num_input_tokens_seen
            say(
                f"step {state.global_step}/{state.max_steps}  loss {loss:.4f}  lr {logs['learning_rate']:.2e}  "
                f"{tokens_per_s:,.0f} tokens/s  {duration(left)} left"
            )

    return StepLog()
