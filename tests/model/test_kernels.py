"""On a GPU: the fast kernels of a run against the plain ones. Every test here is skipped without a CUDA device.

A bf16 kernel is judged by its distance from float64: it may be at most half as far again as the plain bf16 path.
"""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from flyte_llama.config import ResolvedTraining
from flyte_llama.model.attention import SDPA_BY_PIECE, VARLEN, attend_by_piece, attend_varlen, piece_bounds
from flyte_llama.model.kernels import (
    choose_attention,
    choose_cross_entropy,
    fuse_adapter_kernels,
    liger_works,
    use_liger,
)
from flyte_llama.model.loss import cross_entropy_sum, use_lean_loss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
LENGTHS = [[700, 5, 1, 290, 28], [1024], [1, 1000, 20]]
SEQ_LEN = 1024
HEADS = pytest.mark.parametrize("num_kv_heads", [8, 2], ids=["as many key-value heads", "grouped heads"])
SHAPE = {"vocab_size": 1000, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 3}


def positions() -> torch.Tensor:
    rows = [[*row, SEQ_LEN - sum(row)] for row in LENGTHS]
    return torch.stack([torch.cat([torch.arange(length) for length in row]) for row in rows]).cuda()


def on_gpu(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}


def attend(kernel: Any, states: list[torch.Tensor], **inputs: Any) -> list[torch.Tensor]:
    """The output of an attention kernel, and the gradients of queries, keys and values."""
    leaves = [state.detach().requires_grad_() for state in states]
    module = torch.nn.Identity()
    module.num_key_value_groups = leaves[0].shape[1] // leaves[1].shape[1]
    out, _ = kernel(module, *leaves, None, scaling=0.1, position_ids=positions(), **inputs)
    weights = torch.sin(torch.arange(out.numel(), device="cuda", dtype=torch.float64)).view(out.shape)
    (out * weights.to(out.dtype)).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def distance(found: list[torch.Tensor], exact: list[torch.Tensor]) -> float:
    """The length of the difference of all tensors together, over that of the exact ones."""
    squares = [
        ((a.double() - b.double()).square().sum(), b.double().square().sum()) for a, b in zip(found, exact, strict=True)
    ]
    difference, whole = (sum(column) for column in zip(*squares, strict=True))
    return (difference / whole).sqrt().item()


def assert_as_near(fast: list[torch.Tensor], plain: list[torch.Tensor], exact: list[torch.Tensor]) -> None:
    assert 0 < distance(fast, exact) < 1.5 * distance(plain, exact)


@HEADS
@pytest.mark.parametrize("bounds_are_known", [True, False])
def test_varlen_attention_is_as_near_to_the_exact_one_as_attention_by_piece(num_kv_heads: int, bounds_are_known: bool):
    torch.manual_seed(0)
    states = [torch.randn(3, heads, SEQ_LEN, 64, device="cuda") for heads in (8, num_kv_heads, num_kv_heads)]
    rounded = [state.bfloat16() for state in states]
    exact = attend(attend_by_piece, [state.double() for state in rounded])
    inputs = on_gpu(piece_bounds(LENGTHS, seq_len=SEQ_LEN)) if bounds_are_known else {}
    assert_as_near(attend(attend_varlen, rounded, **inputs), attend(attend_by_piece, rounded), exact)


def test_a_document_in_varlen_attention_does_not_depend_on_others_to_the_bit():
    torch.manual_seed(0)
    states = [torch.randn(3, 8, SEQ_LEN, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    changed = [state.clone() for state in states]
    for state in changed:
        state[0, :, :700] = 1.0
    first, second = (attend(attend_varlen, some)[0] for some in (states, changed))
    assert torch.equal(first[0, 700:], second[0, 700:])
    assert torch.equal(first[1:], second[1:])


def model_like(num_kv_heads: int, attention: str) -> Any:
    choose_attention("auto", on_gpu=True, precision="bf16")
    torch.manual_seed(0)
    heads = {"num_attention_heads": 8, "num_key_value_heads": num_kv_heads}
    return LlamaForCausalLM(LlamaConfig(**SHAPE, **heads, attn_implementation=attention))


def loss_and_gradients(model: Any, cross_entropy: Any = cross_entropy_sum) -> tuple[float, list[torch.Tensor]]:
    """By the lean loss, whose chunks are shorter than the batch."""
    lean = model.get_base_model() if hasattr(model, "get_base_model") else model
    use_lean_loss(lean, cross_entropy=cross_entropy)
    ids = torch.randint(0, 1000, (3, SEQ_LEN), generator=torch.Generator().manual_seed(3)).cuda()
    loss = model(input_ids=ids, labels=ids, position_ids=positions(), num_items_in_batch=ids.numel()).loss
    loss.backward()
    return loss.item(), [weight.grad for weight in model.parameters() if weight.grad is not None]


def assert_gradients_as_near(fast: Any, plain: Any, exact: Any) -> None:
    assert fast[0] == pytest.approx(exact[0], rel=1e-3)
    assert_as_near(fast[1], plain[1], exact[1])


@pytest.mark.skipif(importlib.util.find_spec("liger_kernel") is None, reason="needs liger-kernel")
@HEADS
def test_ligers_kernels_and_varlen_attention_are_as_near_to_the_exact_gradients_as_torchs(num_kv_heads: int):
    plain = model_like(num_kv_heads, SDPA_BY_PIECE).bfloat16()
    slow = loss_and_gradients(copy.deepcopy(plain).cuda())
    fast_model = model_like(num_kv_heads, VARLEN).bfloat16()
    assert liger_works()
    use_liger(fast_model, on_gpu=True)
    fast = loss_and_gradients(fast_model.cuda())
    # Models of the same process that do not use Liger are not changed by it.
    exact = loss_and_gradients(copy.deepcopy(plain).double().cuda())
    assert_gradients_as_near(fast, slow, exact)


def test_fused_adapters_are_as_near_to_the_exact_gradients_as_those_of_peft():
    model = get_peft_model(
        model_like(2, VARLEN), LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    model = model.bfloat16()
    slow = loss_and_gradients(copy.deepcopy(model).cuda())
    exact_model = copy.deepcopy(model).double()
    exact_model.set_attn_implementation(SDPA_BY_PIECE)
    exact = loss_and_gradients(exact_model.cuda())
    fuse_adapter_kernels(model, ResolvedTraining())
    assert_gradients_as_near(loss_and_gradients(model.cuda()), slow, exact)


def test_the_compiled_loss_is_as_near_to_the_exact_gradients_as_torchs():
    plain = model_like(2, SDPA_BY_PIECE).bfloat16()
    slow = loss_and_gradients(copy.deepcopy(plain).cuda())
    compiled = choose_cross_entropy(on_gpu=True, precision="bf16")
    assert compiled is not cross_entropy_sum
    fast = loss_and_gradients(copy.deepcopy(plain).cuda(), compiled)
    assert_gradients_as_near(fast, slow, loss_and_gradients(plain.double().cuda()))
