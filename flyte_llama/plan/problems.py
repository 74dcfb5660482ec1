"""The problems of a run on its GPUs, one line each, and the settings that would make a model fit.

Problems of the configuration alone are in `config.checks`.
"""

from __future__ import annotations

from typing import Any

from flyte_llama.config import ResolvedTraining, TrainingConfig
from flyte_llama.errors import OutOfMemoryError
from flyte_llama.plan.flops import ACCELERATORS, Accelerator
from flyte_llama.plan.memory import Memory, estimate_memory
from flyte_llama.plan.shape import ModelShape
from flyte_llama.progress import bytes_text


def device_problems(training: TrainingConfig, gpu: Accelerator) -> list[str]:
    """Return a line if the GPU does not support the precision."""
    if gpu.peak_flops(training.precision) is not None:
        return []
    return [
        f"training.precision = '{training.precision}': {gpu.name} does not support it. Use fp32, or an A10G or newer."
    ]


def gpu_problems(
    needed: Memory,
    shape: ModelShape,
    training: ResolvedTraining,
    capacity: int,
    num_processes: int,
    processes_per_node: int,
) -> list[str]:
    """Return a line if a GPU of `capacity` bytes is too small, with the settings that would fit."""
    if needed.gpu_bytes <= capacity:
        return []
    fixes = _settings_that_fit(shape, training, capacity, num_processes, processes_per_node)
    return [_too_large_message(needed.gpu_bytes, capacity, fixes)]


def refuse_if_too_large(
    shape: ModelShape,
    training: ResolvedTraining,
    *,
    device_bytes: int,
    num_processes: int,
    processes_per_node: int | None = None,
) -> None:
    """Raise if a run does not fit its GPUs. Each training process calls this before it loads anything.

    Args:
        device_bytes: Total memory of the process's GPU.
        processes_per_node: None means that all processes run on one node.

    Raises:
        OutOfMemoryError: with the memory that is needed, the memory of the GPU, and the settings that would fit.
    """
    per_node = processes_per_node or num_processes
    needed = estimate_memory(shape, training, num_processes=num_processes, processes_per_node=per_node)
    for problem in gpu_problems(needed, shape, training, device_bytes, num_processes, per_node):
        raise OutOfMemoryError(problem)


def _too_large_message(needed: int, capacity: int, fixes: list[str]) -> str:
    """The message about a GPU with too little memory, with the settings or GPUs that would fit."""
    gpus = [gpu.name for gpu in ACCELERATORS.values() if gpu.memory_bytes >= needed and gpu.bf16_flops]
    if fixes:
        end = " ".join(f"Fits with {fix}." for fix in fixes)
    elif gpus:
        end = f"No setting makes it fit; use {' or '.join(gpus)} (FLYTE_LLAMA_GPU), or more GPUs with zero_stage: 3."
    else:
        end = (
            "No setting makes it fit; use more GPUs with zero_stage: 3, a shorter training.seq_len, or a smaller model."
        )
    return f"memory of a GPU: needs {bytes_text(needed)}, has {bytes_text(capacity)}. {end}"


def _settings_that_fit(
    shape: ModelShape, training: ResolvedTraining, capacity: int, num_processes: int, processes_per_node: int
) -> list[str]:
    """Settings that would make the run fit, the least intrusive first, as text for a message.

    Every single change that is enough is listed. If none is, the changes are added up in order until the run fits, and
    that sum is the only entry; if it never fits, the list is empty.
    """
    changes = _changes(training, num_processes)

    def fits(settings: dict[str, Any]) -> bool:
        changed = _apply(training, settings)
        needed = estimate_memory(shape, changed, num_processes=num_processes, processes_per_node=processes_per_node)
        return needed.gpu_bytes <= capacity

    if alone := [_settings_text(change) for change in changes if fits(change)]:
        return alone
    together: dict[str, Any] = {}
    for change in changes:
        together |= change
        if fits(together):
            return [_settings_text(together)]
    return []


def _changes(training: ResolvedTraining, num_processes: int) -> list[dict[str, Any]]:
    """Changes to try, in this order: those that leave the result of training alone come first."""
    zero = training.deepspeed
    changes: list[dict[str, Any]] = []
    if training.micro_batch_size > 1:
        changes.append({"micro_batch_size": 1})
    if not training.activation_checkpointing:
        changes.append({"activation_checkpointing": True})
    if training.attention in ("sdpa", "eager"):
        changes.append({"attention": "auto"})
    # transformers does not split 4-bit weights over processes.
    highest = 2 if training.method == "qlora" else 3
    if num_processes > 1:
        changes += [{"zero_stage": stage} for stage in range(zero.zero_stage + 1, highest + 1)]
    elif (
        zero.zero_stage > 0 and training.precision == "bf16" and not (zero.offload_optimizer or zero.offload_parameters)
    ):
        # Alone, a process shards nothing, and at stage 0 it updates the weights in parts.
        changes.append({"zero_stage": 0})
    if not zero.offload_optimizer and zero.zero_stage > 0:
        # With the stage, since the changes are added up, and stage 0 offloads nothing.
        changes.append({"offload_optimizer": True, "zero_stage": zero.zero_stage})
    if training.method == "full":
        changes.append({"method": "lora"})
    if training.method != "qlora" and training.precision == "bf16":
        changes.append({"method": "qlora", "zero_stage": min(2, zero.zero_stage)})
    return changes


def _apply(training: ResolvedTraining, settings: dict[str, Any]) -> ResolvedTraining:
    """The configuration with the changed settings, each put into `training` or `training.deepspeed`."""
    zero_settings = {name: value for name, value in settings.items() if name in type(training.deepspeed).model_fields}
    if settings.get("method") == "qlora":
        zero_settings["offload_parameters"] = False
    others = {name: value for name, value in settings.items() if name not in zero_settings}
    return training.model_copy(update={**others, "deepspeed": training.deepspeed.model_copy(update=zero_settings)})


def _settings_text(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {str(value).lower()}" for name, value in settings.items())
