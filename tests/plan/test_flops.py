"""FLOPs against torch's own counter on a real tiny Llama, and against the published formulae."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from flyte_llama.config import TrainingConfig
from flyte_llama.plan import Flops, Throughput, read_shape, row_flops
from tests.conftest import CODE_LLAMA_7B

TOKENS = 48
CONFIG = LlamaConfig(
    vocab_size=100,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    intermediate_size=56,
    attn_implementation="eager",  # two products that the counter sees; of sdpa on a CPU it sees nothing
)
SHAPE = read_shape(CONFIG.to_dict())


def training(method: str, *, checkpointing: bool = False, targets: str = "all-linear") -> TrainingConfig:
    lora = {"rank": 3, "dropout": 0.0, "target_modules": [targets]}
    return TrainingConfig(method=method, lora=lora, activation_checkpointing=checkpointing)


def counted(config: TrainingConfig, tokens: int = TOKENS) -> dict[str, int]:
    """torch's count of one document's forward and backward pass: `mm` of weights, `bmm` of attention."""
    model = LlamaForCausalLM(CONFIG).train()
    if config.method != "full":
        named = config.lora.target_modules
        targets = "all-linear" if named == ["all-linear"] else named
        model = get_peft_model(model, LoraConfig(r=3, target_modules=targets, task_type="CAUSAL_LM"))
        model.enable_input_require_grads()  # else the first layer's inputs would have no gradient
    if config.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.arange(tokens)[None]
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    found = {str(kernel).removeprefix("aten."): count for kernel, count in counter.get_flop_counts()["Global"].items()}
    return {"linear": sum(count for name, count in found.items() if name != "bmm"), "attention": found["bmm"]}


def planned_attention(tokens: int) -> int:
    """Model FLOPs of attention over one causal document, written out: 3 passes of 2 products over half the pairs."""
    heads = CONFIG.num_attention_heads * CONFIG.head_dim
    return CONFIG.num_hidden_layers * 3 * 2 * 2 * heads * tokens * tokens // 2


@pytest.mark.parametrize("method", ["full", "lora"])
def test_flops_are_torchs_count_but_for_the_half_of_attention_that_a_causal_mask_hides(method: str):
    config = training(method)
    count, flops = counted(config), row_flops(SHAPE, [TOKENS], training=config)
    # Eager attention computes the whole square and masks half of it.
    assert count["attention"] == 2 * planned_attention(TOKENS)
    assert flops.model == count["linear"] + planned_attention(TOKENS)
    assert flops.recomputed == 0


@pytest.mark.parametrize(("method", "targets"), [("full", "all-linear"), ("lora", "all-linear"), ("lora", "q_proj")])
def test_recomputed_flops_are_what_checkpointing_adds_to_torchs_count(method: str, targets: str):
    plain, again = (training(method, checkpointing=on, targets=targets) for on in (False, True))
    without, with_it = counted(plain), counted(again)
    flops = row_flops(SHAPE, [TOKENS], training=again)
    attention = (with_it["attention"] - without["attention"]) // 2
    assert flops.model == row_flops(SHAPE, [TOKENS], training=plain).model
    assert flops.recomputed == with_it["linear"] - without["linear"] + attention
    assert flops.hardware == flops.model + flops.recomputed


def test_a_row_of_documents_costs_what_they_cost_alone():
    config = training("lora", checkpointing=True)
    alone = [row_flops(SHAPE, [length], training=config) for length in (5, 17, 26)]
    assert row_flops(SHAPE, [5, 17, 26], training=config) == alone[0] + alone[1] + alone[2]
    assert row_flops(SHAPE, [48], training=config).model > row_flops(SHAPE, [5, 17, 26], training=config).model


def test_attention_in_both_directions_costs_twice_as_much():
    config = training("full")
    more = row_flops(SHAPE, [], bidirectional=[TOKENS], training=config).model
    assert more - row_flops(SHAPE, [TOKENS], training=config).model == planned_attention(TOKENS)


def test_the_head_costs_only_where_it_is_applied_and_what_is_done_again_is_told_apart():
    config = training("full")
    all_of_it = row_flops(SHAPE, [TOKENS], training=config)
    some = row_flops(SHAPE, [TOKENS], training=config, num_labels=10, recomputed_labels=5)
    assert all_of_it.model - some.model == 6 * SHAPE.num_head * (TOKENS - 10)
    assert some.recomputed == 2 * SHAPE.num_head * 5


@pytest.mark.parametrize(("method", "gflop"), [("full", 42.9), ("lora", 29.7)])
def test_code_llama_7b_costs_what_the_published_formulae_say(method: str, gflop: float):
    shape = read_shape(CODE_LLAMA_7B)
    config = TrainingConfig(method=method, lora={"rank": 1})
    assert row_flops(shape, [4096], training=config).model / 4096 / 1e9 == pytest.approx(gflop, abs=0.06)


def test_throughput_divides_sums_once():
    fast, slow = Throughput(100, Flops(400, 100), 1.0), Throughput(100, Flops(400, 100), 3.0)
    both = fast + slow
    assert both.tokens_per_s == 50
    assert both.mfu(peak_flops=100, num_gpus=2) == 1.0
    assert both.flops.hardware == 1000
    assert Throughput().tokens_per_s == 0
