"""This machine's GPUs, and the settings that need one, or a package for it, checked without loading a model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from flyte_llama.config import TrainingConfig, batch_problems
from flyte_llama.errors import FlyteLlamaError
from flyte_llama.model.kernels import check_liger, choose_attention, liger_works
from flyte_llama.plan import Devices, ModelShape, choose_settings, recognise, refuse_if_too_large


def machine_problems(training: TrainingConfig) -> list[str]:
    """Return a line for each setting that this machine's devices, or the packages for them, cannot run."""
    problems = []
    if training.method == "qlora" and find_spec("bitsandbytes") is None:
        problems.append("training.method = 'qlora': needs bitsandbytes. pip install -r requirements-gpu.txt")
    if _may_have_gpu():
        import torch

        problems += precision_problems(training)
        # A local run starts one process for each GPU.
        problems += batch_problems(training, max(1, torch.cuda.device_count()))
    try:
        if training.attention in ("flex_attention", "flash_attention_2"):
            choose_attention(training.attention, on_gpu=_on_gpu(), precision=training.precision)
    except FlyteLlamaError as error:
        problems.append(error.message)
    try:
        if training.liger is True:
            check_liger(on_gpu=_on_gpu())
    except FlyteLlamaError as error:
        problems.append(error.message)
    return problems


def precision_problems(training: TrainingConfig) -> list[str]:
    """Return a line if there is a GPU that does not support the precision."""
    import torch

    if training.precision != "bf16" or not torch.cuda.is_available() or torch.cuda.is_bf16_supported():
        return []
    return ["training.precision = 'bf16': this GPU does not support it. Use fp32, or an A10G or newer."]


def memory_problems(shape: ModelShape, training: TrainingConfig) -> list[str]:
    """Return a line if the run cannot fit the GPUs of this machine; a CPU is not checked."""
    if not _on_gpu():
        return []
    import torch

    devices = find_devices(training, num_processes=torch.cuda.device_count())
    if devices is None or devices.memory_bytes is None:
        return []
    resolved = choose_settings(shape, training, devices).training
    try:
        refuse_if_too_large(shape, resolved, device_bytes=devices.memory_bytes, num_processes=devices.num_processes)
    except FlyteLlamaError as error:
        return [error.message]
    return []


def find_devices(training: TrainingConfig, *, num_processes: int, try_kernels: bool = False) -> Devices | None:
    """Return the GPUs of a run in which each process has one like this process's; None on a CPU.

    Args:
        try_kernels: Run Liger's kernels once, to see whether they work. This takes memory of the GPU until the process
            ends, so only a process that trains should do it.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    gpu = recognise(device_name())
    return Devices(
        name=device_name(),
        num_processes=num_processes,
        memory_bytes=torch.cuda.get_device_properties().total_memory,
        peak_flops=gpu.peak_flops(training.precision) if gpu else None,
        has_liger=liger_works() if try_kernels and training.liger else find_spec("liger_kernel") is not None,
    )


def device_name() -> str:
    """Return the name of this process's GPU, or `CPU`."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def _on_gpu() -> bool:
    if not _may_have_gpu():
        return False
    import torch

    return torch.cuda.is_available()


def _may_have_gpu() -> bool:
    """Whether the system has a device file of a GPU. Without one, torch need not be imported, which takes seconds."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists() or Path("/dev/kfd").exists()
