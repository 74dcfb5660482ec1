"""Fused adapters compute what peft's adapters compute, and only where they can."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from flyte_llama.model.adapters.adapted_linear import fuse_adapters

IDS = torch.randint(0, 100, (2, 20), generator=torch.Generator().manual_seed(1))
SHAPE = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
NUM_LINEARS = 2 * 7


def adapted(dtype: torch.dtype = torch.float32, *, with_bias: bool = False, **options: Any) -> Any:
    """A small Llama with adapters whose B is not zero, as after some training."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(**SHAPE, num_attention_heads=4, num_key_value_heads=2, attention_bias=with_bias)
    )
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", **options))
    for name, weight in model.named_parameters():
        if "lora_B" in name or name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1)
    return model.to(dtype)


def loss_and_gradients(model: Any) -> list[torch.Tensor]:
    model.zero_grad()
    loss = model(input_ids=IDS, labels=IDS, use_cache=False).loss
    loss.backward()
    return [loss.detach(), *(weight.grad for weight in model.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_loss_and_gradients_are_those_of_peft(bias: bool, recompute: bool):
    model = adapted(with_bias=bias)
    if recompute:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    expected = [tensor.clone() for tensor in loss_and_gradients(model)]
    assert fuse_adapters(model) == NUM_LINEARS
    found = loss_and_gradients(model)
    assert len(found) == 1 + 2 * NUM_LINEARS
    for fused, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-6)


def test_in_bf16_the_gradients_are_no_further_from_the_exact_ones_than_those_of_peft():
    model = adapted(torch.bfloat16)
    exact = loss_and_gradients(copy.deepcopy(model).double())
    plain = [tensor.clone() for tensor in loss_and_gradients(model)]
    fuse_adapters(model)
    fused = loss_and_gradients(model)

    def error(tensors: list[torch.Tensor]) -> float:
        pairs = list(zip(tensors[1:], exact[1:], strict=True))
        return sum(((tensor - reference).norm() / reference.norm()).item() for tensor, reference in pairs) / len(pairs)

    assert error(fused) < 1.05 * error(plain)


@pytest.mark.parametrize(
    "options",
    [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True, "bias": "none"}, {"bias": "all"}],
    ids=str,
)
def test_layers_with_dropout_dora_or_trained_biases_stay_as_they_are(options: dict):
    assert fuse_adapters(adapted(with_bias="bias" in options, **options)) < NUM_LINEARS
    plain = adapted(with_bias="bias" in options, **options).eval()
    expected = [tensor.clone() for tensor in loss_and_gradients(plain)]
    fuse_adapters(plain)
    for fused, unfused in zip(loss_and_gradients(plain), expected, strict=True):
        torch.testing.assert_close(fused, unfused, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 5}},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"trainable_token_indices": [5, 7]},
        {"init_lora_weights": "pissa"},
    ],
    ids=str,
)
def test_what_changes_the_scaling_or_other_layers_is_computed_as_in_peft(options: dict):
    model = adapted(**options)
    expected = [tensor.clone() for tensor in loss_and_gradients(model)]
    assert fuse_adapters(model) == NUM_LINEARS
    for fused, plain in zip(loss_and_gradients(model), expected, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-6)


def test_layers_with_several_adapters_or_another_kind_of_adapter_stay_as_they_are():
    several = adapted()
    several.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    assert fuse_adapters(several) == NUM_LINEARS - several.config.num_hidden_layers
    assert fuse_adapters(adapted(init_lora_weights="mica")) == 0


def test_adapters_on_a_base_in_4_bits_are_those_of_peft():
    bnb = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    for name in ("first", "second"):
        layer = bnb.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4")
        layer.weight = bnb.nn.Params4bit(torch.randn(64, 64), requires_grad=False, quant_type="nf4")
        model.add_module(name, layer.to("cpu"))
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, target_modules=["first", "second"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)

    def run() -> list[torch.Tensor]:
        model.zero_grad()
        x = torch.randn(5, 64, generator=torch.Generator().manual_seed(2), requires_grad=True)
        y = model(x)
        y.square().sum().backward()
        return [y.detach(), x.grad, *(weight.grad for weight in model.parameters() if weight.grad is not None)]

    expected = [tensor.clone() for tensor in run()]
    assert fuse_adapters(model) == 2
    for fused, plain in zip(run(), expected, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-3)


def test_switched_off_and_merged_adapters_work_as_in_peft():
    model = adapted().eval()
    with torch.no_grad():
        with model.disable_adapter():
            without = model(IDS).logits
        with_it = model(IDS).logits
    fuse_adapters(model)
    with torch.no_grad():
        with model.disable_adapter():
            torch.testing.assert_close(model(IDS).logits, without, rtol=0, atol=0)
        torch.testing.assert_close(model(IDS).logits, with_it)
        torch.testing.assert_close(model.merge_and_unload()(IDS).logits, with_it, rtol=1e-4, atol=1e-5)
