"""The update of the weights at ZeRO stage 0 in bf16, in place of DeepSpeed's.

There DeepSpeed checks every gradient by itself, waits for the GPU each time, and holds float32 copies of all gradients
at once. Here the gradient norm stays on the GPU, and the weights are updated in parts. A gradient that is not finite
makes the norm so, and the trainer then ends the run.

Imports torch, so import this inside the function that needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from flyte_llama.plan.deepspeed import UPDATE_ELEMENTS


def use_update_in_parts() -> None:
    """Replace the update of DeepSpeed's optimizer for stage 0 in bf16, for all that are made in this process."""
    from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer

    FP16_UnfusedOptimizer.step = _step
    FP16_UnfusedOptimizer.initialize_optimizer_states = _initialize_nothing


def _initialize_nothing(optimizer: Any) -> None:
    """AdamW makes its moments at the first step. DeepSpeed's way takes 4 bytes more for each weight."""


def _step(optimizer: Any, closure: Any = None) -> bool:
    """Clip the gradients, update the float32 weights, and round them to the model's weights."""
    pairs = [
        pair
        for masters, weights in zip(optimizer.fp32_groups, optimizer.fp16_groups, strict=True)
        for pair in zip(masters, weights, strict=True)
    ]
    gradients = [weight.grad for _, weight in pairs if weight.grad is not None]
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    optimizer._global_grad_norm, optimizer.overflow = norm, False
    clip = (optimizer.clip_grad / (norm + 1e-6)).clamp(max=1.0) if optimizer.clip_grad > 0 else None

    for part in _parts(pairs):
        for master, weight in part:
            master.grad = torch.zeros_like(master) if weight.grad is None else weight.grad.float()
            weight.grad = None
            if clip is not None:
                master.grad.mul_(clip)
        optimizer.optimizer.step()  # leaves out the weights without a gradient, which are those of other parts
        for master, weight in part:
            master.grad = None
            weight.data.copy_(master.data)
    return False


def _parts(pairs: list[tuple[Any, Any]]) -> Iterator[list[tuple[Any, Any]]]:
    """The pairs in order, cut into parts of at most `UPDATE_ELEMENTS`, unless a single weight has more."""
    part: list[tuple[Any, Any]] = []
    num_elements = 0
    for master, weight in pairs:
        if part and num_elements + master.numel() > UPDATE_ELEMENTS:
            yield part
            part, num_elements = [], 0
        part.append((master, weight))
        num_elements += master.numel()
    yield part
