"""Liger's fused kernels in the layers of a model: norms, rotary embedding and SwiGLU.

Its cross entropy is not used: it rounds each position's loss to the precision of the logits, and waits for the GPU. The
package liger_kernel need not be installed until a function is called.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

_ROPE = "apply_rotary_pos_emb"


def use_liger_layers(model: Any) -> None:
    """Replace the arithmetic of this model's norms, rotary embedding and SwiGLU, on a GPU.

    Liger also changes transformers' module, and so every model of this process. That is undone, except for the rotary
    embedding, which layers look up there: it uses Liger's on a GPU only, and not in float64.
    """
    # It warns of every backend that it has and this machine lacks.
    logging.getLogger("liger_kernel").setLevel(logging.ERROR)
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    module = sys.modules[type(model).__module__]
    before = dict(vars(module))
    _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
    for name, value in before.items():
        changed = getattr(module, name)
        if changed is not value:
            setattr(module, name, _choose_rope(value, changed) if name == _ROPE else value)


def try_liger() -> None:
    """Run each kernel forward and backward on a few numbers. Raises whatever its compiler or the driver raises."""
    import torch
    from liger_kernel.transformers import functional

    x, gate = (torch.randn(2, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
    weight = torch.ones(64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    functional.liger_swiglu(functional.liger_rms_norm(x, weight, 1e-5), gate).sum().backward()
    query, key = (torch.randn(1, 2, 4, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
    cos, sin = (torch.randn(1, 4, 64, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    # Not leaves: the kernel writes into its inputs.
    turned, _ = functional.liger_rope(query * 1, key * 1, cos, sin)
    turned.sum().backward()
    torch.cuda.synchronize()


def _choose_rope(plain: Callable[..., Any], fused: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    @functools.wraps(plain)
    def rotate(q: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return (fused if q.is_cuda and q.dtype != torch.float64 else plain)(q, *args, **kwargs)

    return rotate
