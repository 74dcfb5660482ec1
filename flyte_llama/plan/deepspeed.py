"""Configuration → DeepSpeed's dictionary. The Trainer replaces the values `auto`."""

from __future__ import annotations

from typing import Any

from flyte_llama.config import TrainingConfig

BUCKET_ELEMENTS = 200_000_000
"""Gradients reduced at once at stages 1 and 2; DeepSpeed holds two buffers of this many elements."""

LIVE_ELEMENTS = 1_000_000_000
"""The most weights that stage 3 keeps gathered. DeepSpeed's default, written out because memory depends on it."""

UPDATE_ELEMENTS = 250_000_000
"""Parameters that `training.update` updates at once, at stage 0 in bf16."""

STEP_ELEMENTS = 1_000_000_000
"""Parameters of a process that stage 3 updates at once. DeepSpeed's default, written out for the same reason."""


def stage_3_bucket_elements(hidden_size: int) -> tuple[int, int]:
    """The values that the Trainer puts for `auto` at stage 3: gradients reduced and weights prefetched at once."""
    return hidden_size * hidden_size, int(0.9 * hidden_size * hidden_size)


def make_deepspeed_config(training: TrainingConfig, *, num_processes: int) -> dict[str, Any]:
    """The `deepspeed` argument of `transformers.TrainingArguments`.

    In bf16, DeepSpeed keeps and updates float32 master weights and optimizer state. Stage 3 gathers the whole model to
    save it; otherwise no weights would be written. The optimizer is the Trainer's AdamW, or DeepSpeed's if its state
    is offloaded. A single process has no communication to overlap, and overlapping waits for the GPU in every
    micro-batch; so do DeepSpeed's timers, which are off.
    """
    deepspeed = training.deepspeed
    zero: dict[str, Any] = {"stage": deepspeed.zero_stage}
    optimizer: dict[str, Any] = {}
    if deepspeed.zero_stage >= 1:
        zero |= {"overlap_comm": num_processes > 1, "contiguous_gradients": True, "reduce_scatter": True}
        zero |= {"reduce_bucket_size": BUCKET_ELEMENTS, "allgather_bucket_size": BUCKET_ELEMENTS}
    if deepspeed.zero_stage == 3:
        zero |= {"stage3_gather_16bit_weights_on_model_save": True, "stage3_prefetch_bucket_size": "auto"}
        zero |= {"reduce_bucket_size": "auto", "stage3_param_persistence_threshold": "auto"}
        zero |= {"stage3_max_live_parameters": LIVE_ELEMENTS, "sub_group_size": STEP_ELEMENTS}
    if deepspeed.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        # State in host memory is updated there too, by DeepSpeed's CPU Adam, which the container image has compiled.
        names = ("lr", "betas", "eps", "weight_decay")
        optimizer = {"optimizer": {"type": "AdamW", "params": dict.fromkeys(names, "auto")}}
    if deepspeed.offload_parameters:
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    return {
        **optimizer,
        "bf16": {"enabled": training.precision == "bf16"},
        "zero_optimization": zero,
        "gradient_clipping": training.max_grad_norm,
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": "auto",
        "zero_allow_untested_optimizer": True,
        # Each node writes its part of a checkpoint to its local disk. On a single node this changes nothing.
        "checkpoint": {"use_node_local_storage": True},
        "wall_clock_breakdown": False,
        "timers": {"throughput": {"enabled": False}},
        "steps_per_print": 10_000_000,
    }
