"""The training configuration as DeepSpeed's dictionary."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyte_llama.config import ResolvedTraining, batch_problems
from flyte_llama.config.training import DeepSpeedConfig
from flyte_llama.plan.deepspeed import make_deepspeed_config


def make_config(**settings) -> dict:
    return make_deepspeed_config(ResolvedTraining(deepspeed=DeepSpeedConfig(**settings)), num_processes=1)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_stage_is_as_configured(stage: int):
    assert make_config(zero_stage=stage)["zero_optimization"]["stage"] == stage


def test_stage_3_gathers_its_weights_when_saving():
    assert make_config(zero_stage=3)["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True


def test_nothing_is_offloaded_unless_asked():
    assert not any(key.startswith("offload") for key in make_config(zero_stage=3)["zero_optimization"])
    assert "optimizer" not in make_config(zero_stage=3)
    both = make_config(zero_stage=3, offload_optimizer=True, offload_parameters=True)["zero_optimization"]
    assert both["offload_optimizer"]["device"] == both["offload_param"]["device"] == "cpu"


def test_offloaded_state_is_updated_by_deepspeeds_adam():
    assert make_config(zero_stage=2, offload_optimizer=True)["optimizer"]["type"] == "AdamW"


def test_precision_and_clipping_are_passed_on():
    config = make_deepspeed_config(ResolvedTraining(precision="fp32", max_grad_norm=0.5), num_processes=1)
    assert config["bf16"] == {"enabled": False}
    assert config["gradient_clipping"] == 0.5


@st.composite
def runs(draw: st.DrawFn) -> tuple[ResolvedTraining, int]:
    """Any training that the configuration allows, and a number of processes that its batch can be split over."""
    stage = draw(st.sampled_from([0, 1, 2, 3]))
    deepspeed = {
        "zero_stage": stage,
        "offload_optimizer": stage > 0 and draw(st.booleans()),
        "offload_parameters": stage == 3 and draw(st.booleans()),
    }
    micro, accumulation, num_processes = (draw(st.integers(1, 64)) for _ in range(3))
    training = ResolvedTraining(
        micro_batch_size=micro,
        global_batch_size=micro * accumulation * num_processes,
        precision=draw(st.sampled_from(["bf16", "fp32"])),
        max_grad_norm=draw(st.floats(1e-6, 1e6)),
        learning_rate=draw(st.floats(1e-9, 10)),
        weight_decay=draw(st.floats(0, 100)),
        deepspeed=deepspeed,
    )
    return training, num_processes


def fill_in(value: Any, filled: dict[str, Any]) -> Any:
    """The configuration with each `auto` replaced, as the Trainer does it."""
    if isinstance(value, dict):
        return {key: filled[key] if inner == "auto" else fill_in(inner, filled) for key, inner in value.items()}
    return value


@settings(max_examples=60, deadline=None)
@given(run=runs())
def test_deepspeed_reads_every_configuration_as_it_is_meant(run: tuple[ResolvedTraining, int]):
    from deepspeed.runtime.config import DeepSpeedConfig as ParsedConfig

    training, num_processes = run
    assert not batch_problems(training, num_processes)
    accumulation = training.global_batch_size // (training.micro_batch_size * num_processes)
    filled = {
        # The parser multiplies by the processes that it sees, and without a launcher it sees one.
        "train_batch_size": training.global_batch_size // num_processes,
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "reduce_bucket_size": 4096,
        "stage3_prefetch_bucket_size": 3686,
        "stage3_param_persistence_threshold": 640,
        "lr": training.learning_rate,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": training.weight_decay,
    }
    parsed = ParsedConfig(fill_in(make_deepspeed_config(training, num_processes=num_processes), filled))
    zero = parsed.zero_config
    assert (zero.stage, parsed.bfloat16_config.enabled) == (training.deepspeed.zero_stage, training.precision == "bf16")
    assert (zero.offload_optimizer is not None) == training.deepspeed.offload_optimizer
    assert (zero.offload_param is not None) == training.deepspeed.offload_parameters
    assert parsed.gradient_clipping == training.max_grad_norm
    assert parsed.train_batch_size * num_processes == training.global_batch_size
    assert parsed.gradient_accumulation_steps == accumulation
