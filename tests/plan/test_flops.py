"""FLOPs against torch's counter on a real tiny Llama and against the published formulae; and the table of GPUs."""

from __future__ import annotations

import pytest
import torch
from flytekit.extras import accelerators
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from flyte_llama.config import ResolvedTraining
from flyte_llama.model.kernels import fuse_adapter_kernels
from flyte_llama.plan import ACCELERATORS, Flops, Throughput, recognise
from flyte_llama.plan.flops import row_flops
from flyte_llama.plan.shape import read_shape
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
    attn_implementation="eager",  # the counter sees its two products, but nothing of sdpa on a CPU
)
SHAPE = read_shape(CONFIG.to_dict())


def training(
    method: str, *, checkpointing: bool = False, targets: str = "all-linear", dropout: float = 0.0
) -> ResolvedTraining:
    lora = {"rank": 3, "dropout": dropout, "target_modules": [targets]}
    return ResolvedTraining(method=method, lora=lora, activation_checkpointing=checkpointing)


def count_addmm(_: torch.Size, left: torch.Size, right: torch.Size, **options: object) -> int:
    return 2 * left[0] * left[1] * right[1]


def count_flops(config: ResolvedTraining, tokens: int = TOKENS) -> dict[str, int]:
    """torch's count for the forward and backward pass of one document: weights use `mm`, attention uses `bmm`."""
    model = LlamaForCausalLM(CONFIG).train()
    if config.method != "full":
        names = config.lora.target_modules
        targets = "all-linear" if names == ["all-linear"] else names
        options = {"lora_dropout": config.lora.dropout, "target_modules": targets, "task_type": "CAUSAL_LM"}
        model = get_peft_model(model, LoraConfig(r=3, **options))
        fuse_adapter_kernels(model, config)
        model.enable_input_require_grads()  # otherwise the inputs of the first layer have no gradient
    if config.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.arange(tokens)[None]
    # The counter knows `addmm`, but not the same product in place.
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: count_addmm}) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    counts = {str(kernel).removeprefix("aten."): count for kernel, count in counter.get_flop_counts()["Global"].items()}
    return {"linear": sum(count for name, count in counts.items() if name != "bmm"), "attention": counts["bmm"]}


def attention_flops(tokens: int) -> int:
    """Model FLOPs of attention in one causal document, written out: 3 passes with 2 products over half of the pairs."""
    heads = CONFIG.num_attention_heads * CONFIG.head_dim
    return CONFIG.num_hidden_layers * 3 * 2 * 2 * heads * tokens * tokens // 2


@pytest.mark.parametrize("method", ["full", "lora"])
def test_flops_are_torchs_count_without_the_half_of_attention_that_a_causal_mask_hides(method: str):
    config = training(method)
    count, flops = count_flops(config), row_flops(SHAPE, [TOKENS], training=config)
    # Eager attention computes the whole square and masks half of it.
    assert count["attention"] == 2 * attention_flops(TOKENS)
    assert flops.model == count["linear"] + attention_flops(TOKENS)
    assert flops.recomputed == 0


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("method", "targets"), [("full", "all-linear"), ("lora", "all-linear"), ("lora", "q_proj")])
def test_recomputed_flops_are_what_checkpointing_adds_to_torchs_count(method: str, targets: str, dropout: float):
    plain, again = (training(method, checkpointing=on, targets=targets, dropout=dropout) for on in (False, True))
    without, with_it = count_flops(plain), count_flops(again)
    flops = row_flops(SHAPE, [TOKENS], training=again)
    attention = (with_it["attention"] - without["attention"]) // 2
    assert flops.model == row_flops(SHAPE, [TOKENS], training=plain).model
    assert flops.recomputed == with_it["linear"] - without["linear"] + attention
    assert flops.hardware == flops.model + flops.recomputed


def test_a_row_costs_as_much_as_its_documents_cost_alone():
    config = training("lora", checkpointing=True)
    alone = [row_flops(SHAPE, [length], training=config) for length in (5, 17, 26)]
    assert row_flops(SHAPE, [5, 17, 26], training=config) == alone[0] + alone[1] + alone[2]
    assert row_flops(SHAPE, [48], training=config).model > row_flops(SHAPE, [5, 17, 26], training=config).model


def test_attention_in_both_directions_costs_twice_as_much():
    config = training("full")
    more = row_flops(SHAPE, [], bidirectional=[TOKENS], training=config).model
    assert more - row_flops(SHAPE, [TOKENS], training=config).model == attention_flops(TOKENS)


def test_the_head_costs_only_where_it_is_applied_and_recomputation_is_counted_separately():
    config = training("full")
    full = row_flops(SHAPE, [TOKENS], training=config)
    some = row_flops(SHAPE, [TOKENS], training=config, num_labels=10, recomputed_labels=5)
    assert full.model - some.model == 6 * SHAPE.num_head_weights * (TOKENS - 10)
    assert some.recomputed == 2 * SHAPE.num_head_weights * 5


@pytest.mark.parametrize(("method", "gflop"), [("full", 42.9), ("lora", 29.7)])
def test_code_llama_7b_costs_what_the_published_formulae_say(method: str, gflop: float):
    shape = read_shape(CODE_LLAMA_7B)
    config = ResolvedTraining(method=method, lora={"rank": 1})
    assert row_flops(shape, [4096], training=config).model / 4096 / 1e9 == pytest.approx(gflop, abs=0.06)


def test_throughput_divides_sums_once():
    fast, slow = Throughput(100, Flops(400, 100), 1.0), Throughput(100, Flops(400, 100), 3.0)
    both = fast + slow
    assert both.tokens_per_s == 50
    assert both.mfu(peak_flops=100, num_gpus=2) == 1.0
    assert both.flops.hardware == 1000
    assert Throughput().tokens_per_s == 0


def test_every_name_is_one_of_flytekits():
    assert all(hasattr(accelerators, name) for name in ACCELERATORS)


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("A100-PCIE-40GB", "A100"),
        ("NVIDIA A100-SXM4-80GB", "A100_80GB"),
        ("NVIDIA A100 80GB PCIe", "A100_80GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
    ],
)
def test_a_device_is_recognised_by_torchs_name_for_it(device: str, name: str):
    accelerator = recognise(device)
    assert accelerator is not None
    assert accelerator.name == name


@pytest.mark.parametrize("device", ["NVIDIA GH200 480GB", "NVIDIA H100 PCIe", "NVIDIA H200 NVL", "NVIDIA L40", "CPU"])
def test_a_device_with_another_rate_is_not_mistaken_for_a_known_one(device: str):
    assert recognise(device) is None


def test_bf16_has_a_separate_peak_that_a_t4_lacks():
    assert ACCELERATORS["T4"].peak_flops("bf16") is None
    assert ACCELERATORS["H200"].peak_flops("bf16") == 989e12
    assert ACCELERATORS["A100"].peak_flops("fp32") == 19.5e12
