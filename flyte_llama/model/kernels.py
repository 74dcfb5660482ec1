"""The kernels of a run: attention, Liger's, adapters, loss. One that fails on this GPU is named and replaced."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flyte_llama.config import ResolvedTraining
from flyte_llama.errors import TrainingError
from flyte_llama.model.attention import SDPA_BY_PIECE, VARLEN, attend_varlen, register_kernels
from flyte_llama.model.loss import compiled_cross_entropy_sum, cross_entropy_sum
from flyte_llama.progress import say_once

if TYPE_CHECKING:
    from flyte_llama.model.loss import CrossEntropy


def choose_attention(attention: str, *, on_gpu: bool, precision: str) -> str:
    """The name of the `training.attention` kernel in transformers.

    Raises:
        TrainingError: if the kernel cannot train on this device, or its package is missing.
    """
    if attention == "auto":
        register_kernels()
        if not on_gpu or precision != "bf16":
            return SDPA_BY_PIECE
        return VARLEN if _works(_try_varlen, "torch's varlen attention", "attending piece by piece") else SDPA_BY_PIECE
    if attention in ("flex_attention", "flash_attention_2") and not on_gpu:
        raise TrainingError(
            f"training.attention = '{attention}': has no backward pass on a CPU. Use auto, sdpa or eager, or a GPU."
        )
    if attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise TrainingError(
            "training.attention = 'flash_attention_2': needs the package flash-attn. Install it, or use auto."
        )
    return attention


def choose_cross_entropy(*, on_gpu: bool, precision: str) -> CrossEntropy:
    """The cross entropy of the loss: compiled on a GPU in bf16, if torch can compile for it."""
    if on_gpu and precision == "bf16" and _works(_try_cross_entropy, "torch's compiler", "using a plain loss"):
        return compiled_cross_entropy_sum()
    return cross_entropy_sum


def check_liger(*, on_gpu: bool) -> None:
    """Check that this machine can run Liger's kernels.

    Raises:
        TrainingError: if there is no GPU, or the package is not installed.
    """
    if not on_gpu or importlib.util.find_spec("liger_kernel") is None:
        lacking = (
            "the package liger-kernel (pip install -r requirements-gpu.txt)"
            if on_gpu
            else "a GPU, and this machine has none"
        )
        raise TrainingError(f"training.liger = true: needs {lacking}. Otherwise set it to auto or false.")


def use_liger(model: Any, *, on_gpu: bool) -> None:
    """Use Liger's kernels for the model's norms, rotary embedding and SwiGLU, if they work on this GPU.

    Raises:
        TrainingError: if there is no GPU, or the package is not installed.
    """
    check_liger(on_gpu=on_gpu)
    if liger_works():
        from flyte_llama.model.liger import use_liger_layers

        use_liger_layers(model)


@functools.cache
def liger_works() -> bool:
    """Whether Liger is installed and its kernels run on this process's GPU. If they fail, a message says why."""
    if importlib.util.find_spec("liger_kernel") is None:
        return False
    return _works(_try_liger, "Liger's kernels", "using torch's")


def fuse_adapter_kernels(model: Any, training: ResolvedTraining) -> None:
    """Let adapters compute with fewer kernels, where their weights are whole: ZeRO-3 splits them."""
    from flyte_llama.model.adapters.adapted_linear import fuse_adapters

    if training.deepspeed.zero_stage < 3:
        fuse_adapters(model)


def _works(attempt: Callable[[], None], kernel: str, instead: str) -> bool:
    """Whether a kernel runs on this GPU; if not, a message says what is used instead."""
    try:
        attempt()
    except Exception as error:  # compilers and drivers raise what they like
        if type(error).__name__ == "OutOfMemoryError":
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        say_once(f"{kernel} does not work on this GPU ({lines[0][:200]}); {instead}, which is slower")
        return False
    return True


def _try_varlen() -> None:
    import torch

    query, key, value = (
        torch.randn(1, heads, 16, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for heads in (4, 2, 2)
    )
    positions = torch.arange(16, device="cuda")[None] % 8
    out, _ = attend_varlen(torch.nn.Identity(), query, key, value, None, position_ids=positions)
    out.sum().backward()
    torch.cuda.synchronize()


def _try_cross_entropy() -> None:
    import torch

    logits = torch.randn(4, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    compiled_cross_entropy_sum()(logits, torch.arange(4, device="cuda")).backward()
    torch.cuda.synchronize()


def _try_liger() -> None:
    from flyte_llama.model.liger import try_liger

    try_liger()
