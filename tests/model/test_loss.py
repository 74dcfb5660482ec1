"""The lean loss equals the plain loss in value and gradients, and the head sees only labelled positions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from flyte_llama.encoding import IGNORED
from flyte_llama.model import loss
from flyte_llama.model.adapters.lora import add_adapters
from flyte_llama.model.attention import SDPA_BY_PIECE
from flyte_llama.model.kernels import choose_attention, choose_cross_entropy
from flyte_llama.model.loading import load_weights
from flyte_llama.model.loss import causal_loss, cross_entropy_sum, use_lean_loss
from tests.model.bases import hub_folder, lora

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
IDS = torch.randint(2, 300, (2, 64), generator=torch.Generator().manual_seed(0))
LABELS = IDS.clone()
LABELS[0, :40] = LABELS[1, 10:20] = IGNORED


@pytest.fixture(autouse=True)
def _several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "LOSS_CHUNK", 16)


def make_model(architecture: str, *, tied: bool = True) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **SHAPE, tie_word_embeddings=tied))


def run_both(model: Any, **inputs: Any) -> tuple[Any, Any]:
    """The model with the plain and with the lean loss, after a backward pass each; the losses must be equal."""
    plain, lean = model, copy.deepcopy(model)
    use_lean_loss(lean)
    losses = [model(**inputs, use_cache=False).loss for model in (plain, lean)]
    for value in losses:
        value.backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-6)
    return plain, lean


def assert_same_gradients(plain: Any, lean: Any) -> None:
    for (name, expected), (_, weight) in zip(plain.named_parameters(), lean.named_parameters(), strict=True):
        assert (expected.grad is None) == (weight.grad is None), name
        if expected.grad is not None:
            torch.testing.assert_close(weight.grad, expected.grad, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral", "starcoder2", "gpt_neox"])
def test_value_and_gradients_equal_the_plain_loss(architecture: str, tied: bool):
    assert_same_gradients(*run_both(make_model(architecture, tied=tied), input_ids=IDS, labels=LABELS))


@pytest.mark.parametrize("num_items", [7, torch.tensor(93)])
def test_the_sum_is_divided_by_the_labels_of_the_whole_step_if_they_are_given(num_items: Any):
    assert_same_gradients(*run_both(make_model("llama"), input_ids=IDS, labels=LABELS, num_items_in_batch=num_items))


def test_it_is_the_same_under_adapters_on_the_output_head_with_recomputed_activations(tiny_base: Path, tmp_path: Path):
    adapted = []
    base = hub_folder(tiny_base, tmp_path / "untied", tied=False)
    training = lora(lora={"rank": 4, "dropout": 0.0, "target_modules": ["q_proj", "lm_head"]})
    for lean in (False, True):
        model: Any = load_weights(base, dtype=torch.float32)
        if lean:
            use_lean_loss(model)
        torch.manual_seed(1)
        model = add_adapters(model, training)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.1)
        model.train()
        model.enable_input_require_grads()
        if lean:
            model.gradient_checkpointing_enable()
        model(input_ids=IDS, labels=LABELS).loss.backward()
        adapted.append(model)
    assert any(p.grad is not None and "lm_head" in name for name, p in adapted[1].named_parameters())
    assert_same_gradients(*adapted)


def test_rows_without_any_label_cost_nothing_and_move_nothing():
    model = make_model("llama")
    use_lean_loss(model)
    value = model(input_ids=IDS, labels=torch.full_like(IDS, IGNORED), num_items_in_batch=torch.tensor(0)).loss
    value.backward()
    assert value.item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    assert model.lm_head.weight.grad is not None


def test_the_head_sees_only_labelled_positions_in_the_same_number_of_calls_however_many_there_are():
    head_calls: list[int] = []
    head = torch.nn.Linear(8, 50)
    head.register_forward_hook(lambda module, inputs, logits: head_calls.append(len(logits)))
    hidden = torch.randn(2, 33, 8)
    for num_labels in (0, 5, 33):
        labels = torch.full((2, 33), IGNORED)
        labels[:, :num_labels] = 3
        causal_loss(head, hidden, labels)
        assert len(head_calls) == 4
        assert (sum(head_calls), max(head_calls) <= 16) == (2 * max(num_labels - 1, 0), True)
        head_calls.clear()


def test_without_labels_the_forward_pass_is_unchanged():
    plain = make_model("llama")
    lean = copy.deepcopy(plain)
    use_lean_loss(lean)
    cached = lean(input_ids=IDS, use_cache=True)
    torch.testing.assert_close(cached.logits, plain(input_ids=IDS).logits, rtol=0, atol=0)
    assert cached.past_key_values is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels work here")
def test_a_kernel_that_does_not_work_is_named_and_replaced(capfd: pytest.CaptureFixture[str]):
    assert choose_cross_entropy(on_gpu=True, precision="bf16") is cross_entropy_sum
    assert choose_attention("auto", on_gpu=True, precision="bf16") == SDPA_BY_PIECE
    compiled, attention = capfd.readouterr().err.strip().splitlines()
    assert compiled.startswith("torch's compiler does not work on this GPU (")
    assert compiled.endswith("); using a plain loss, which is slower")
    assert attention.endswith("); attending piece by piece, which is slower")
