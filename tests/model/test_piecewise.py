"""Attention piece by piece equals the mask's, and never lets a document see another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from flyte_llama.model.piecewise import SDPA_BY_PIECE, attend, register_sdpa_by_piece

IDS = torch.randint(0, 100, (2, 40), generator=torch.Generator().manual_seed(7))
POSITIONS = torch.tensor([[*range(25), *range(15)], [*range(5), *range(20), *range(15)]])


def made(config: type, model: type, **changes: Any) -> PreTrainedModel:
    register_sdpa_by_piece()
    torch.manual_seed(0)
    shape = {"vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    return model(config(**shape, **heads, **changes))


MODELS = [
    pytest.param(LlamaConfig, LlamaForCausalLM, {}, id="llama"),
    pytest.param(Qwen2Config, Qwen2ForCausalLM, {}, id="qwen2"),
    pytest.param(MistralConfig, MistralForCausalLM, {"sliding_window": 10}, id="mistral with a window"),
]


@pytest.mark.parametrize(("config", "kind", "changes"), MODELS)
def test_logits_and_gradients_are_those_of_the_mask(config: type, kind: type, changes: dict):
    model = made(config, kind, **changes)
    found = {}
    for name in ("sdpa", SDPA_BY_PIECE):
        model.set_attn_implementation(name)
        model.zero_grad()
        output = model(input_ids=IDS, position_ids=POSITIONS, labels=IDS, use_cache=False)
        output.loss.backward()
        found[name] = [output.logits.detach(), *(p.grad.clone() for p in model.parameters())]
    for masked, by_piece in zip(found["sdpa"], found[SDPA_BY_PIECE], strict=True):
        torch.testing.assert_close(by_piece, masked, rtol=1e-5, atol=1e-6)


def test_a_piece_is_to_the_bit_the_document_alone():
    model = made(LlamaConfig, LlamaForCausalLM).eval()
    model.set_attn_implementation(SDPA_BY_PIECE)
    changed = IDS.clone()
    changed[0, :25] = 1
    with torch.no_grad():
        before, after = (
            model(input_ids=ids, position_ids=POSITIONS, use_cache=False).logits[0, 25:] for ids in (IDS, changed)
        )
    assert torch.equal(before, after)


def test_padding_and_a_cache_work_as_with_sdpa():
    model = made(LlamaConfig, LlamaForCausalLM).eval()
    mask = (torch.arange(40) < 30).long()[None].expand(2, -1)
    found = []
    for name in ("sdpa", SDPA_BY_PIECE):
        model.set_attn_implementation(name)
        with torch.no_grad():
            logits = model(input_ids=IDS, attention_mask=mask).logits[:, :30]
            found.append((logits, model.generate(IDS[:1, :10], max_new_tokens=5, do_sample=False)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_an_architecture_that_hides_its_positions_is_refused():
    states = torch.zeros(1, 2, 4, 8)
    with pytest.raises(ValueError, match="passes no position_ids on"):
        attend(torch.nn.Identity(), states, states, states, None)
