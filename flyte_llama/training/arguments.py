"""Configuration → the arguments of transformers' Trainer."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flyte_llama.config import TrainingConfig
from flyte_llama.deepspeed_config import deepspeed_config
from flyte_llama.errors import TrainingError
from flyte_llama.plan import batch_problems

_REPORTERS = {"tensorboard": ("tensorboard", "tensorboardX")}


def trainer_arguments(training: TrainingConfig, *, num_steps: int, work: Path) -> dict[str, Any]:
    """The keyword arguments of `TrainingArguments` for one pass over the rows of a run, in their order.

    Raises:
        TrainingError: if the batch cannot be shared out over the processes, bf16 is asked of a GPU that has none, or
            the curves are to go where no installed package brings them.
    """
    import torch

    on_gpu, world_size = torch.cuda.is_available(), torch.distributed.get_world_size()
    for problem in batch_problems(training, world_size):
        raise TrainingError(problem)
    if training.precision == "bf16" and on_gpu and not torch.cuda.is_bf16_supported():
        raise TrainingError("training.precision = 'bf16': this GPU has none. Use fp32, or an A10G or newer.")
    for name in training.report_to:
        if not any(find_spec(package) for package in _REPORTERS.get(name, (name,))):
            raise TrainingError(f"training.report_to = '{name}': the package is not installed. pip install {name}")
    return {
        "output_dir": str(work),
        "save_on_each_node": True,  # as DeepSpeed's part of a checkpoint is
        "deepspeed": deepspeed_config(training),
        "use_cpu": not on_gpu,
        "bf16": training.precision == "bf16",
        "per_device_train_batch_size": training.micro_batch_size,
        "gradient_accumulation_steps": training.global_batch_size // (training.micro_batch_size * world_size),
        "max_steps": num_steps,
        "train_sampling_strategy": "sequential",
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": training.warmup_share,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "activation_checkpointing": training.activation_checkpointing,
        "logging_steps": training.log_every_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "save_strategy": "no",  # the trainer says when
        "report_to": list(training.report_to) or "none",
        "remove_unused_columns": False,
        "seed": training.seed,
    }
