"""What stands against a plan, one line each, and which changes would make a model fit."""

from __future__ import annotations

from typing import Any

from flyte_llama.config import ExperimentConfig, TrainingConfig
from flyte_llama.plan.accelerators import ACCELERATORS, GIB, Accelerator
from flyte_llama.plan.memory import Memory, memory
from flyte_llama.plan.shape import ModelShape


def batch_problems(training: TrainingConfig, num_processes: int) -> list[str]:
    at_once = training.micro_batch_size * num_processes
    if training.global_batch_size % at_once == 0:
        return []
    return [
        f"training.global_batch_size = {training.global_batch_size}: cannot be shared out over {num_processes} "
        f"processes of micro_batch_size = {training.micro_batch_size}. Use a multiple of {at_once}."
    ]


def length_problems(config: ExperimentConfig, shape: ModelShape) -> list[str]:
    lengths = {"training.seq_len": config.training.seq_len, "evaluation.window": config.evaluation.window}
    longest = shape.max_positions
    return [
        f"{key} = {tokens}: exceeds the {longest} positions of the model. Use at most {longest}."
        for key, tokens in lengths.items()
        if longest is not None and tokens > longest
    ]


def device_problems(training: TrainingConfig, gpu: Accelerator) -> list[str]:
    if gpu.peak_flops(training.precision) is not None:
        return []
    return [f"training.precision = '{training.precision}': {gpu.name} has none. Use fp32, or an A10G or newer."]


def gpu_problems(
    needed: Memory,
    shape: ModelShape,
    training: TrainingConfig,
    capacity: int,
    num_processes: int,
    processes_a_node: int,
) -> list[str]:
    """Whether a GPU of `capacity` bytes is too small, and what would fit."""
    if needed.gpu_bytes <= capacity:
        return []
    fixes = mends(shape, training, capacity, num_processes, processes_a_node)
    return [too_large(needed.gpu_bytes, capacity, fixes)]


def too_large(needed: int, there: int, fixes: list[str]) -> str:
    """The problem of a GPU's memory, and what would mend it."""
    others = [gpu.name for gpu in ACCELERATORS.values() if gpu.memory_bytes >= needed and gpu.bf16_flops]
    if fixes:
        end = " ".join(f"Fits with {fix}." for fix in fixes)
    elif others:
        end = f"No setting makes it fit; use {' or '.join(others)} (FLYTE_LLAMA_GPU), or more GPUs with zero_stage: 3."
    else:
        end = (
            "No setting makes it fit; use more GPUs with zero_stage: 3, a shorter training.seq_len, or a smaller model."
        )
    return f"memory of a GPU: {needed / GIB:.1f} GiB are needed, {there / GIB:.1f} are there. {end}"


def mends(
    shape: ModelShape, training: TrainingConfig, capacity: int, num_processes: int, processes_a_node: int
) -> list[str]:
    """Settings under which it would fit, from what changes the run least: each change alone; if none is enough, the
    changes one upon another until it fits, or nothing.
    """
    changes = _changes(training, num_processes)

    def fits(settings: dict[str, Any]) -> bool:
        changed = _changed(training, settings)
        needed = memory(shape, changed, num_processes=num_processes, processes_a_node=processes_a_node)
        return needed.gpu_bytes <= capacity

    if alone := [_words(change) for change in changes if fits(change)]:
        return alone
    together: dict[str, Any] = {}
    for change in changes:
        together |= change
        if fits(together):
            return [_words(together)]
    return []


def _changes(training: TrainingConfig, num_processes: int) -> list[dict[str, Any]]:
    """In the order in which to try them: first those that change nothing of what is learned."""
    zero = training.deepspeed
    changes: list[dict[str, Any]] = []
    if training.micro_batch_size > 1:
        changes.append({"micro_batch_size": 1})
    if not training.activation_checkpointing:
        changes.append({"activation_checkpointing": True})
    if training.attention in ("sdpa", "eager"):
        changes.append({"attention": "auto"})
    # Transformers does not split weights in 4 bits over processes.
    highest = 2 if training.method == "qlora" else 3
    if num_processes > 1:
        changes += [{"zero_stage": stage} for stage in range(zero.zero_stage + 1, highest + 1)]
    if not zero.offload_optimizer and zero.zero_stage > 0:
        changes.append({"offload_optimizer": True})
    if training.method == "full":
        changes.append({"method": "lora"})
    if training.method != "qlora" and training.precision == "bf16":
        changes.append({"method": "qlora", "zero_stage": min(2, zero.zero_stage)})
    return changes


def _changed(training: TrainingConfig, settings: dict[str, Any]) -> TrainingConfig:
    of_zero = {name: value for name, value in settings.items() if name in type(training.deepspeed).model_fields}
    if settings.get("method") == "qlora":
        of_zero["offload_parameters"] = False
    others = {name: value for name, value in settings.items() if name not in of_zero}
    return training.model_copy(update={**others, "deepspeed": training.deepspeed.model_copy(update=of_zero)})


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {str(value).lower()}" for name, value in settings.items())
