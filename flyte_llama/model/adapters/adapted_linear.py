"""The arithmetic of a linear layer with a LoRA adapter, in as few GPU kernels as its matrix products need.

    y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ        W: the base's weight, frozen; A and B: the adapter; s: alpha / rank

In peft the scaling and the sum, and in autograd the sum of the two gradients of x, are kernels of their own, which read
and write tensors as large as the activations. Here the matrix products scale and add, and x is kept once. In bf16 the
sum is rounded once instead of three times.

Imports torch, so import this inside the function that needs it.
"""

from __future__ import annotations

import functools
from typing import Any

import torch


def fuse_adapters(model: Any) -> int:
    """Let the LoRA layers of a peft model compute by this module, and return how many do.

    The other adapted layers stay as they are: those with dropout, DoRA, several adapters, or a bias that is trained,
    and those that are not linear. Do not call this under ZeRO-3, which gathers the weights of A and B only when they
    are called as modules. `plan.flops` counts by the same rule.
    """
    from peft.tuners.lora.layer import LoraLayer

    num_fused = 0
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and type(layer).__name__ in ("Linear", "Linear4bit") and _is_plain(layer):
            (adapter,) = layer.lora_A
            vars(layer)["forward"] = functools.partial(_forward, layer, adapter=adapter)
            num_fused += 1
    return num_fused


class AdaptedLinear(torch.autograd.Function):
    """The whole layer: (tokens, inputs) → (tokens, outputs)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        low = x @ a.t()
        ctx.save_for_backward(x, weight, a, b, low)
        ctx.scaling = scaling
        return torch.nn.functional.linear(x, weight, bias).addmm_(low, b.t(), alpha=scaling)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        x, weight, a, b, low = ctx.saved_tensors
        low_grad, a_grad, b_grad = _adapter_grads(grad, x, b, low, ctx.scaling)
        x_grad = (grad @ weight).addmm_(low_grad, a) if ctx.needs_input_grad[0] else None
        return x_grad, None, None, a_grad, b_grad, None


class AddedAdapter(torch.autograd.Function):
    """The output of the base → the same with the adapter's added. For bases with a product of their own: 4 bits."""

    @staticmethod
    def forward(
        ctx: Any, y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        low = x @ a.t()
        ctx.save_for_backward(x, a, b, low)
        ctx.scaling = scaling
        return torch.addmm(y, low, b.t(), alpha=scaling)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        x, a, b, low = ctx.saved_tensors
        low_grad, a_grad, b_grad = _adapter_grads(grad, x, b, low, ctx.scaling)
        x_grad = low_grad @ a if ctx.needs_input_grad[1] else None
        return grad, x_grad, a_grad, b_grad, None


def _is_plain(layer: Any) -> bool:
    """Whether a LoRA layer is one product of its base and one of its only adapter, without anything else."""
    base = layer.base_layer
    if not isinstance(base, torch.nn.Linear) or len(layer.lora_A) != 1 or layer.lora_variant:
        return False
    (b,), (dropout,) = layer.lora_B.values(), layer.lora_dropout.values()
    has_trained_base = any(weight.requires_grad for weight in base.parameters())
    return b.bias is None and isinstance(dropout, torch.nn.Identity) and not has_trained_base


def _forward(layer: Any, x: torch.Tensor, *args: Any, adapter: str, **kwargs: Any) -> torch.Tensor:
    """The forward method of a fused layer; in every case that training does not have, that of peft."""
    base, a, b = layer.base_layer, layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    if args or kwargs or layer.disable_adapters or layer.merged or x.dtype != a.dtype:
        unfused: torch.Tensor = type(layer).forward(layer, x, *args, **kwargs)
        return unfused
    flat, scaling = x.reshape(-1, x.shape[-1]), float(layer.scaling[adapter])
    if type(base) is torch.nn.Linear and base.weight.dtype == x.dtype:
        y: torch.Tensor = AdaptedLinear.apply(flat, base.weight, base.bias, a, b, scaling)
    else:
        y = AddedAdapter.apply(base(flat), flat, a, b, scaling)
    return y.reshape(*x.shape[:-1], -1)


def _adapter_grads(
    grad: torch.Tensor, x: torch.Tensor, b: torch.Tensor, low: torch.Tensor, scaling: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of `low` = x·Aᵀ, of A and of B."""
    low_grad = _scaled_product(grad, b, scaling)
    return low_grad, low_grad.t() @ x, _scaled_product(grad.t(), low, scaling)


def _scaled_product(left: torch.Tensor, right: torch.Tensor, scaling: float) -> torch.Tensor:
    """`scaling` times the product of two matrices, in one kernel; with beta = 0 the first argument is not read."""
    return torch.addmm(left.new_empty(()), left, right, beta=0, alpha=scaling)
