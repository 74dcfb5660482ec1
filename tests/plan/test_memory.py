"""The memory of a plan, part by part, against the tensors of real runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from flyte_llama.config import ResolvedTraining
from flyte_llama.model.kernels import fuse_adapter_kernels
from flyte_llama.plan.activations import bytes_per_number, layer_activation_bytes, logit_bytes
from flyte_llama.plan.memory import NF4_BYTES, estimate_memory, frozen_bytes, state_bytes
from flyte_llama.plan.shape import read_shape

STATE = Path(__file__).with_name("state.py")
TOKENS = 40


def config(num_layers: int, attention: str) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=56,
        attn_implementation=attention,
    )


def measure_saved_bytes(num_layers: int, training: ResolvedTraining, num_tokens: int) -> int:
    """Bytes that autograd saves in a forward pass, each storage once, without weights and buffers."""
    model = LlamaForCausalLM(config(num_layers, training.attention)).train()
    if training.method != "full":
        lora, names = training.lora, training.lora.target_modules
        adapters = LoraConfig(
            r=lora.rank,
            lora_dropout=lora.dropout,
            target_modules="all-linear" if names == ["all-linear"] else names,
            use_dora=training.method == "dora",
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, adapters)
        fuse_adapter_kernels(model, training)
        model.enable_input_require_grads()
    if training.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    # DeepSpeed casts adapters with the rest.
    model = model.to(torch.bfloat16 if training.precision == "bf16" else torch.float32)
    excluded = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=torch.zeros(1, num_tokens, dtype=torch.long), use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for address, tensor in saved.items() if address not in excluded)


def measure_layer_bytes(training: ResolvedTraining, num_tokens: int) -> int:
    """Bytes that autograd saves for one decoder layer: the difference between three layers and two."""
    return measure_saved_bytes(3, training, num_tokens) - measure_saved_bytes(2, training, num_tokens)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "method",
    [
        {"method": "full"},
        {"method": "lora", "lora": {"rank": 3, "dropout": 0.0}},
        {"method": "lora", "lora": {"rank": 3, "dropout": 0.05}},
        {"method": "lora", "lora": {"rank": 3, "dropout": 0.0, "target_modules": ["q_proj"]}},
        {"method": "lora", "lora": {"rank": 3, "dropout": 0.05, "target_modules": ["down_proj"]}},
    ],
    ids=str,
)
def test_a_layer_keeps_the_bytes_that_autograd_saves_for_it(precision: str, attention: str, method: dict):
    training = ResolvedTraining(
        **method, precision=precision, attention=attention, activation_checkpointing=False, seq_len=TOKENS
    )
    planned = layer_activation_bytes(
        read_shape(config(1, attention).to_dict()), training, num_rows=1, mask_bytes=bytes_per_number(precision)
    )
    assert planned == measure_layer_bytes(training, TOKENS)


@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_a_layer_with_dora_keeps_the_bytes_that_autograd_saves_for_each_token(dropout: float):
    training = ResolvedTraining(
        method="dora",
        lora={"rank": 3, "dropout": dropout},
        attention="sdpa",
        activation_checkpointing=False,
        seq_len=TOKENS,
    )
    planned = layer_activation_bytes(read_shape(config(1, "sdpa").to_dict()), training, num_rows=1, mask_bytes=2)
    # DoRA also saves whole weight matrices, but only until the layer has run. The difference cancels them, because they
    # do not grow with the number of tokens.
    assert planned == measure_layer_bytes(training, 2 * TOKENS) - measure_layer_bytes(training, TOKENS)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_checkpointed_layer_keeps_only_its_input(precision: str):
    training = ResolvedTraining(method="full", precision=precision, attention="sdpa", activation_checkpointing=True)
    assert measure_layer_bytes(training, TOKENS) == bytes_per_number(precision) * 32 * TOKENS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "precision", "processes"), [(0, "bf16", 1), (1, "fp32", 2), (2, "bf16", 2), (3, "bf16", 2)]
)
def test_weights_gradients_and_state_have_the_size_that_deepspeed_holds(
    stage: int, precision: str, processes: int, tmp_path: Path
):
    from tests.plan.state import BUCKET, MODEL

    training = ResolvedTraining(method="full", precision=precision, deepspeed={"zero_stage": stage})
    out = tmp_path / "held.json"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launcher, str(STATE), str(out), training.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    held = json.loads(out.read_text())
    shape = read_shape(MODEL.to_dict())
    planned = state_bytes(shape.num_parameters, 0, training, num_processes=processes)
    # DeepSpeed pads partitions, per tensor at stage 3 and in total before, and a few tensors are scalars.
    assert held["weights"] == pytest.approx(planned.weights, rel=0.01)
    assert held["optimizer"] == pytest.approx(planned.optimizer, rel=0.01)
    size, largest = bytes_per_number(precision), shape.num_head_weights
    # At stage 2 a process keeps the whole gradient of a parameter that lies only partly in its share.
    assert planned.gradients <= held["gradients"] <= planned.gradients + size * largest * (stage == 2)
    # Nothing else is held, apart from two buckets and one tensor that is larger than a bucket.
    assert held["other"] <= size * (2 * BUCKET + largest) + 4096


def test_a_weight_in_4_bits_takes_0_516_bytes():
    assert f"{NF4_BYTES:.3f}" == "0.516"
    shape = read_shape(config(2, "sdpa").to_dict())
    assert frozen_bytes(shape, ResolvedTraining(method="qlora")) == pytest.approx(
        NF4_BYTES * shape.num_linear_weights + 2 * (shape.num_parameters - shape.num_linear_weights), abs=1
    )


def test_offloading_moves_state_from_the_gpu_to_the_host():
    shape = read_shape(config(2, "sdpa").to_dict())
    plain, moved = (
        estimate_memory(
            shape,
            ResolvedTraining(
                method="full", deepspeed={"zero_stage": 3, "offload_optimizer": on, "offload_parameters": on}
            ),
            num_processes=4,
            processes_per_node=2,
        )
        for on in (False, True)
    )
    assert moved.gpu["optimizer state"] == moved.gpu["gradients"] == moved.gpu["weights"] == 0
    gone = sum(plain.gpu[name] for name in ("weights", "gradients", "optimizer state"))
    assert moved.host["offloaded"] >= 2 * gone > plain.host["offloaded"] == 0


def test_with_more_processes_each_holds_less_of_whatever_its_stage_splits():
    shape = read_shape(config(2, "sdpa").to_dict())
    parts = {
        stage: [
            estimate_memory(
                shape,
                ResolvedTraining(method="full", deepspeed={"zero_stage": stage}),
                num_processes=num_processes,
                processes_per_node=num_processes,
            ).gpu
            for num_processes in (1, 8)
        ]
        for stage in (0, 1, 2, 3)
    }
    split = {
        stage: {name for name in ("weights", "gradients", "optimizer state") if by_eight[name] < by_one[name]}
        for stage, (by_one, by_eight) in parts.items()
    }
    everything = {"weights", "gradients", "optimizer state"}
    assert split == {0: set(), 1: {"optimizer state"}, 2: {"gradients", "optimizer state"}, 3: everything}


def test_logits_are_held_for_a_chunk_however_long_the_rows_are():
    shape = read_shape(config(2, "sdpa").to_dict())
    for precision, num_bytes in {"bf16": 2 * 2, "fp32": 3 * 4}.items():
        short, long = (
            logit_bytes(shape, ResolvedTraining(seq_len=length, precision=precision), chunk=100)
            for length in (100, 4096)
        )
        assert short == long == 100 * shape.vocab_size * num_bytes
