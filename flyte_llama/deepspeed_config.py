"""Configuration → DeepSpeed's dictionary. A pure function; values that say `auto` are the Trainer's to fill in."""

from __future__ import annotations

from typing import Any

from flyte_llama.config import TrainingConfig

BUCKET_ELEMENTS = 200_000_000
"""Gradients reduced at once at stages 1 and 2; DeepSpeed holds two buffers of that many."""

LIVE_ELEMENTS = 1_000_000_000
"""Weights that stage 3 keeps gathered at most; the default of DeepSpeed, stated because memory goes by it."""

STEP_ELEMENTS = 1_000_000_000
"""Parameters of a process that stage 3 updates at once; the default of DeepSpeed, likewise."""


def stage_3_bucket_elements(hidden_size: int) -> tuple[int, int]:
    """Gradients reduced and weights prefetched at once at stage 3: what the Trainer makes of `auto`."""
    return hidden_size * hidden_size, int(0.9 * hidden_size * hidden_size)


def deepspeed_config(training: TrainingConfig) -> dict[str, Any]:
    """The `deepspeed` argument of `transformers.TrainingArguments`.

    In bf16 DeepSpeed keeps float32 master weights and optimizer state and updates those; with stage 3 the whole
    model is gathered when it is saved, without which no weights would be written. The optimizer is the Trainer's
    AdamW, but for offloaded state.
    """
    chosen = training.deepspeed
    zero: dict[str, Any] = {"stage": chosen.zero_stage}
    optimizer: dict[str, Any] = {}
    if chosen.zero_stage >= 1:
        zero |= {"overlap_comm": True, "contiguous_gradients": True, "reduce_scatter": True}
        zero |= {"reduce_bucket_size": BUCKET_ELEMENTS, "allgather_bucket_size": BUCKET_ELEMENTS}
    if chosen.zero_stage == 3:
        zero |= {"stage3_gather_16bit_weights_on_model_save": True, "stage3_prefetch_bucket_size": "auto"}
        zero |= {"reduce_bucket_size": "auto", "stage3_param_persistence_threshold": "auto"}
        zero |= {"stage3_max_live_parameters": LIVE_ELEMENTS, "sub_group_size": STEP_ELEMENTS}
    if chosen.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        # Where the state is in host memory, so is the update: DeepSpeed's CPU Adam, which the image has compiled.
        names = ("lr", "betas", "eps", "weight_decay")
        optimizer = {"optimizer": {"type": "AdamW", "params": dict.fromkeys(names, "auto")}}
    if chosen.offload_parameters:
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
        # Each node keeps its part of a checkpoint on its own disk; on one node that changes nothing.
        "checkpoint": {"use_node_local_storage": True},
        "wall_clock_breakdown": False,
        "steps_per_print": 10_000_000,
    }
