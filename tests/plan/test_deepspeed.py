"""The training configuration as DeepSpeed's dictionary."""

import pytest

from flyte_llama.config import TrainingConfig
from flyte_llama.config.training import DeepSpeedConfig
from flyte_llama.plan.deepspeed import make_deepspeed_config


def make_config(**settings) -> dict:
    return make_deepspeed_config(TrainingConfig(deepspeed=DeepSpeedConfig(**settings)))


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
    config = make_deepspeed_config(TrainingConfig(precision="fp32", max_grad_norm=0.5))
    assert config["bf16"] == {"enabled": False}
    assert config["gradient_clipping"] == 0.5
