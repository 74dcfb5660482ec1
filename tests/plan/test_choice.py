"""The choice of micro-batch and recomputation: it fits, is fast, and says why."""

from __future__ import annotations

from typing import Any

import pytest

from flyte_llama.config import ResolvedTraining, TrainingConfig
from flyte_llama.plan import ACCELERATORS, Devices, choose_settings
from flyte_llama.plan.choice import MARGIN, SMALLER, choose_smaller, fits
from flyte_llama.plan.memory import estimate_memory
from flyte_llama.plan.shape import read_shape
from tests.conftest import CODE_LLAMA_7B

SHAPE = read_shape(CODE_LLAMA_7B)
SMALL = read_shape(CODE_LLAMA_7B | {"hidden_size": 576, "num_attention_heads": 9, "intermediate_size": 1536})


def gpus(name: str = "H200", *, num_processes: int = 1, **changes: Any) -> Devices:
    gpu = ACCELERATORS[name]
    figures = {"memory_bytes": gpu.memory_bytes, "peak_flops": gpu.peak_flops("bf16"), "has_liger": True} | changes
    return Devices(name, num_processes, **figures)


def training(**settings: Any) -> TrainingConfig:
    return TrainingConfig(**{"method": "lora", "global_batch_size": 32, **settings})


def pair(chosen: ResolvedTraining) -> tuple[int, bool]:
    return chosen.micro_batch_size, chosen.activation_checkpointing


def gpu_bytes(chosen: ResolvedTraining, num_processes: int = 1) -> int:
    return estimate_memory(SHAPE, chosen, num_processes=num_processes, processes_per_node=num_processes).gpu_bytes


def test_activations_are_kept_where_the_gpu_has_room_for_them():
    assert choose_settings(SHAPE, training(), gpus("H200")).training.activation_checkpointing is False
    assert pair(choose_settings(SHAPE, training(), gpus("L4")).training) == (1, True)


def test_a_gpu_that_outruns_its_host_gets_more_rows_at_once_and_a_slow_one_does_not():
    assert choose_settings(SHAPE, training(), gpus("H200")).training.micro_batch_size > 1
    assert choose_settings(SHAPE, training(), gpus("A100_80GB")).training.micro_batch_size == 1
    assert choose_settings(SMALL, training(), gpus("H200")).training.micro_batch_size >= 8


@pytest.mark.parametrize("gib", [19, 24, 40, 50, 80, 100, 140])
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_what_is_chosen_leaves_a_margin_of_the_memory(gib: int, method: str):
    devices = gpus(memory_bytes=gib * 2**30)
    chosen = choose_settings(SHAPE, training(method=method), devices).training
    assert gpu_bytes(chosen) <= gib * 2**30 * (1 - MARGIN) or pair(chosen) == (1, True)
    assert fits(SHAPE, chosen, devices) == (gpu_bytes(chosen) <= gib * 2**30 * (1 - MARGIN))


@pytest.mark.parametrize(("batch", "num_processes"), [(24, 3), (32, 8), (7, 1), (6, 2)])
def test_the_micro_batch_divides_the_rows_of_a_process(batch: int, num_processes: int):
    devices = gpus(num_processes=num_processes)
    chosen = choose_settings(SMALL, training(global_batch_size=batch), devices).training
    assert batch // num_processes % chosen.micro_batch_size == 0


def test_pinned_settings_stay_and_only_the_others_are_chosen():
    def chosen(**settings: Any) -> tuple[int, bool]:
        return pair(choose_settings(SHAPE, training(**settings), gpus()).training)

    assert chosen(micro_batch_size=8, activation_checkpointing=True) == (8, True)
    assert chosen(micro_batch_size=1) == (1, False)
    assert chosen(micro_batch_size=32) == (32, True)
    assert chosen(activation_checkpointing=True)[1] is True
    assert choose_settings(SHAPE, training(liger=False), gpus()).training.liger is False
    assert choose_settings(SHAPE, training(micro_batch_size=1, activation_checkpointing=False), gpus()).reason == ""


def test_the_reason_names_the_pair_and_its_memory():
    choice = choose_settings(SHAPE, training(), gpus("L4"))
    assert choice.reason.startswith("chose micro-batch 1, activations recomputed: the fastest that fits, ")
    assert choice.reason.endswith(" GiB of 22.0 GiB by the plan")


@pytest.mark.parametrize(
    ("shape", "devices", "why"),
    [
        (SHAPE, None, "the default on a CPU"),
        (SHAPE, gpus(memory_bytes=None), "the memory of H200 is not known"),
        (None, gpus(), "the plan does not cover model_type qwen3"),
    ],
)
def test_where_memory_is_not_known_the_least_is_taken_and_the_reason_says_so(shape: Any, devices: Any, why: str):
    choice = choose_settings(shape, training(), devices, model_name="model_type qwen3")
    assert pair(choice.training) == (1, True)
    assert choice.training.liger == (devices is not None)
    assert f"chose micro-batch 1, activations recomputed: {why}" in choice.reason


def test_after_memory_ran_out_each_choice_takes_less_until_none_is_left():
    def batch_bytes(chosen: ResolvedTraining) -> int:
        memory = estimate_memory(SHAPE, chosen, num_processes=1, processes_per_node=1).gpu
        return memory["activations"] + memory["logits"]

    failed = [choose_settings(SHAPE, training(), gpus()).training]
    while (smaller := choose_smaller(failed, SHAPE, training(), gpus())) is not None:
        assert batch_bytes(smaller.training) <= SMALLER * batch_bytes(failed[-1])
        assert f"the GPU ran out of memory with micro-batch {failed[-1].micro_batch_size}, " in smaller.reason
        failed.append(smaller.training)
    assert pair(failed[-1]) == (1, True)
    assert len(failed) >= 3


def test_pinned_settings_have_no_smaller_choice():
    pinned = training(micro_batch_size=4, activation_checkpointing=False)
    assert choose_smaller([pinned.resolved()], SHAPE, pinned, gpus()) is None
    kept = training(micro_batch_size=4)
    smaller = choose_smaller([kept.resolved(activation_checkpointing=False)], SHAPE, kept, gpus())
    assert smaller is not None
    assert pair(smaller.training) == (4, True)
