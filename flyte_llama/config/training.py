"""The training: its method, length, precision and memory, and how it is spread over devices."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from pydantic import Field, field_validator

from flyte_llama.config.stage import MAX_SEED, MAX_TOKENS, Auto, StageConfig

LOSS_CHUNK = 2048
"""The largest number of positions with logits in memory at once. Not a setting: the plan and the loss share it."""


@dataclass(frozen=True, kw_only=True)
class RunLength:
    """For how long a run trains, in whole optimizer steps."""

    epochs: float
    max_steps: int
    """0 means as many steps as `epochs` take; otherwise `epochs` has no effect."""

    global_batch_size: int
    """Rows in an optimizer step, over all processes."""

    def num_steps(self, rows_in_epoch: int, *, rows_before: int = 0) -> int:
        """The number of optimizer steps: `max_steps`, or enough to read `epochs` epochs. The last batch is full too.

        Args:
            rows_before: Rows that are read before the first epoch.

        For example, 2.5 epochs of 10 rows are 25 rows, which take 7 steps of 4 rows.
        """
        # Exact fractions: in floats, 0.1 · 30 rows is a little more than 3, which would round up to 4.
        num_rows = rows_before + Fraction(str(self.epochs)) * rows_in_epoch
        return self.max_steps or math.ceil(num_rows / self.global_batch_size)

    def most_rows_before(self, rows_in_epoch: int) -> int:
        """The most rows to read before the first epoch: half of the rows that the run reads in all."""
        return self.num_steps(rows_in_epoch) * self.global_batch_size // (2 if self.max_steps else 1)

    def reads_more_than(self, *, num_epochs: int, num_rows: int) -> bool:
        """Whether the run reads more than `num_epochs` whole epochs, which together have `num_rows` rows.

        A last batch that is not full does not count: it is filled from the first row on.
        """
        if self.max_steps:
            return num_rows < self.max_steps * self.global_batch_size
        return num_epochs < self.epochs


class LoraConfig(StageConfig):
    """The low-rank adapters."""

    rank: int = Field(16, ge=1, le=65_536)
    alpha: int = Field(32, ge=1, le=1_000_000)
    """The update is scaled by alpha / rank."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of an adapter's inputs that each step leaves out. Above 0 it costs about 7 % of the speed, and memory."""

    target_modules: list[str] = Field(["all-linear"], min_length=1)
    """Module names, or `all-linear` alone: every linear layer except the output head."""

    @field_validator("target_modules")
    @classmethod
    def _all_linear_alone(cls, names: list[str]) -> list[str]:
        if "all-linear" in names and len(names) > 1:
            raise ValueError(
                "lists all-linear together with other names. Write all-linear alone, or only names of modules"
            )
        return names


class DeepSpeedConfig(StageConfig):
    """How DeepSpeed spreads training over devices and host memory."""

    zero_stage: Literal[0, 1, 2, 3] = 2
    """Sharded over the processes: 0 nothing, 1 the optimizer state, 2 also the gradients, 3 also the weights."""

    offload_optimizer: bool = False
    """Keep the optimizer state in host memory (stages 1 to 3)."""

    offload_parameters: bool = False
    """Keep the weights in host memory (stage 3)."""


class TrainingConfig(StageConfig):
    """How the model is fine-tuned."""

    method: Literal["full", "lora", "dora", "qlora"] = "lora"
    """`full` trains every weight; `lora` trains low-rank adapters; `dora` also trains the norms of the adapted weights'
    columns (arXiv 2402.09353); `qlora` is `lora` on a base in 4 bits (GPU)."""

    lora: LoraConfig = LoraConfig()

    seq_len: int = Field(4096, ge=2, le=MAX_TOKENS)
    """Tokens in a packed row."""

    epochs: float = Field(1.0, gt=0, le=10_000, allow_inf_nan=False)
    max_steps: int = Field(0, ge=0, le=100_000_000)
    """Stop after this many optimizer steps; 0 trains for `epochs`."""

    validation_share: float = Field(0.0, ge=0, le=0.5, allow_inf_nan=False)
    """Share of the train files that are not trained on. The model's loss on them is measured in the course of training;
    0 measures none."""

    validate_every_steps: int = Field(100, ge=0, le=100_000_000)
    """Optimizer steps between measurements of the validation loss; 0 measures it only after the last step."""

    keep_best: bool = False
    """Write the model of the step with the lowest validation loss, not of the last step."""

    learning_rate: float = Field(2e-4, gt=0, le=10, allow_inf_nan=False)
    warmup_share: float = Field(0.03, ge=0, lt=1)
    """Share of all steps over which the learning rate rises to its peak; it then falls as a cosine."""

    weight_decay: float = Field(0.0, ge=0, le=100, allow_inf_nan=False)
    max_grad_norm: float = Field(1.0, gt=0, le=1_000_000, allow_inf_nan=False)
    global_batch_size: int = Field(32, ge=1, le=1_000_000)
    """Rows in an optimizer step, over all processes."""

    micro_batch_size: int | Auto = Field("auto", ge=1, le=1_000_000)
    """Rows in one forward pass of a process; changes speed and memory, and the result by rounding only. `auto` is the
    fastest that fits the GPU, and 1 on a CPU."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """Precision of the forward and backward pass. Master weights and optimizer state are always float32."""

    activation_checkpointing: bool | Auto = "auto"
    """Recompute activations in the backward pass: less memory, about a third more arithmetic. `auto` keeps
    them if the plan shows room for them on the GPU."""

    attention: Literal["auto", "sdpa", "eager", "flex_attention", "flash_attention_2"] = "auto"
    """How attention is computed. `auto` attends within each document of a row: on a GPU in bf16 by torch's varlen
    attention over all documents of a micro-batch at once, elsewhere by sdpa on one document after the other. `sdpa` and
    `eager` mask the whole row; `flex_attention` and `flash_attention_2` (`pip install flash-attn`) need a GPU."""

    liger: bool | Auto = "auto"
    """Use Liger's fused kernels (GPU, `pip install liger-kernel`). `auto` uses them on a GPU if they are installed."""

    checkpoint_every_steps: int = Field(100, ge=0, le=100_000_000)
    """Optimizer steps between checkpoints; 0 writes one only after the last step, or when the run is interrupted."""

    keep_checkpoints: int = Field(2, ge=1, le=1_000)
    """How many of the newest checkpoints to keep."""

    log_every_steps: int = Field(10, ge=1, le=100_000_000)
    report_to: list[Literal["wandb", "mlflow", "tensorboard"]] = Field(default_factory=list)
    """Trackers that receive the training curve, and after the evaluation the held-out figures. Each needs its package
    and environment variables."""

    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seed of the row order, of dropout and of the initial weights of new adapters."""

    deepspeed: DeepSpeedConfig = DeepSpeedConfig()

    @field_validator("report_to")
    @classmethod
    def _each_once(cls, trackers: list[str]) -> list[str]:
        twice = [name for name, count in Counter(trackers).items() if count > 1]
        if twice:
            raise ValueError(f"lists {' and '.join(twice)} more than once. Keep one of each")
        return trackers

    @property
    def run_length(self) -> RunLength:
        """Epochs, steps and rows per step together."""
        return RunLength(epochs=self.epochs, max_steps=self.max_steps, global_batch_size=self.global_batch_size)

    @property
    def num_kept(self) -> int:
        """Checkpoints that are kept at once: the newest, and the best."""
        return self.keep_checkpoints + self.keep_best

    def resolved(
        self, *, micro_batch_size: int = 1, activation_checkpointing: bool = True, liger: bool = False
    ) -> ResolvedTraining:
        """Return the same settings with these values wherever the setting is `auto`; pinned values stay."""
        chosen = {
            "micro_batch_size": micro_batch_size,
            "activation_checkpointing": activation_checkpointing,
            "liger": liger,
        }
        values = dict(self) | {name: value for name, value in chosen.items() if getattr(self, name) == "auto"}
        return ResolvedTraining.model_validate(values)


class ResolvedTraining(TrainingConfig):
    """The settings of a run on its device: nothing is `auto` any more, except the attention kernel."""

    micro_batch_size: int = Field(1, ge=1, le=1_000_000)
    """Rows in one forward pass of a process."""

    activation_checkpointing: bool = True
    """Recompute activations in the backward pass."""

    liger: bool = False
    """Use Liger's fused kernels."""
