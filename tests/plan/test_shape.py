"""Parameters counted from a config, against real models and against peft's count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from flyte_llama.config import ModelConfig, TrainingConfig
from flyte_llama.errors import ModelError
from flyte_llama.plan import base_shape, model_shape
from flyte_llama.plan.shape import read_shape
from tests.conftest import TINY

SIZES_7B = {"vocab_size": 32016, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
SIZES_34B = {"vocab_size": 32000, "hidden_size": 8192, "num_hidden_layers": 48, "num_attention_heads": 64}
SMALL = {"vocab_size": 300, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
CONFIGS = {
    "code_llama_7b": LlamaConfig(**SIZES_7B, intermediate_size=11008),
    "code_llama_34b": LlamaConfig(**SIZES_34B, intermediate_size=22016, num_key_value_heads=8),
    "biases": LlamaConfig(**SMALL, intermediate_size=80, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "wide_heads": LlamaConfig(**SMALL, intermediate_size=80, num_key_value_heads=2, head_dim=16),
    "mistral": MistralConfig(**SMALL, intermediate_size=80, num_key_value_heads=1),
    "qwen2": Qwen2Config(**SMALL, intermediate_size=80, num_key_value_heads=2, tie_word_embeddings=True),
}


def build_model(config: LlamaConfig) -> torch.nn.Module:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_match_the_model_built_from_the_config(name: str):
    model, shape = build_model(CONFIGS[name]), read_shape(CONFIGS[name].to_dict())
    assert shape.num_parameters == sum(p.numel() for p in model.parameters())
    linear = [m for key, m in model.named_modules() if isinstance(m, torch.nn.Linear) and key != "lm_head"]
    assert shape.num_linear_weights == sum(m.weight.numel() for m in linear)
    assert shape.num_head_weights == model.get_output_embeddings().weight.numel()


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("targets", [["all-linear"], ["q_proj", "v_proj"], ["self_attn.o_proj", "down_proj"]])
@pytest.mark.parametrize("name", ["wide_heads", "qwen2"])
def test_adapters_match_the_ones_that_peft_makes(name: str, targets: list[str], dora: bool):
    peft_targets = "all-linear" if targets == ["all-linear"] else targets
    lora = LoraConfig(r=5, target_modules=peft_targets, use_dora=dora, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_config(CONFIGS[name]), lora)
    trainable, _ = model.get_nb_trainable_parameters()
    assert read_shape(CONFIGS[name].to_dict()).num_adapter_parameters(targets, 5, dora=dora) == trainable


def test_code_llama_7b_without_its_input_embedding_has_6_607_billion_parameters():
    shape = read_shape(CONFIGS["code_llama_7b"].to_dict())
    assert f"{(shape.num_parameters - shape.num_embedding_weights // 2) / 1e9:.3f}" == "6.607"


def test_a_scratch_model_has_the_shape_that_prepare_base_gives_it(tiny_base: Path):
    made = read_shape(json.loads((tiny_base / "config.json").read_text()))
    planned = model_shape(TINY)
    assert made.vocab_size <= planned.vocab_size
    assert {**vars(made), "vocab_size": 0} == {**vars(planned), "vocab_size": 0}


@pytest.mark.parametrize(
    ("adapter", "is_covered"),
    [
        ({"target_modules": ["q_proj", "down_proj"]}, True),
        ({"target_modules": ["q_proj", "lm_head"]}, False),
        ({"target_modules": ".*q_proj"}, False),
        ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, False),
        ({"target_modules": ["q_proj"], "bias": "all"}, False),
    ],
)
def test_a_plan_covers_an_earlier_adapter_on_linear_layers_alone(tmp_path: Path, adapter: dict, is_covered: bool):
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["qwen2"].to_dict()))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(adapter))
    assert (base_shape(tmp_path, TrainingConfig()) is not None) == is_covered


def test_an_unknown_model_type_or_a_missing_size_is_refused():
    with pytest.raises(
        ModelError, match=r"model_type = 'mixtral': not supported by the plan. Supported: llama, mistral, qwen2"
    ):
        read_shape({"model_type": "mixtral"})
    with pytest.raises(ModelError, match="num_hidden_layers, num_attention_heads, intermediate_size"):
        read_shape({"model_type": "llama", "vocab_size": 10, "hidden_size": 8})
    with pytest.raises(ModelError, match="above 0 for num_attention_heads, head_dim"):
        read_shape(
            CONFIGS["qwen2"].to_dict() | {"num_attention_heads": 0, "head_dim": "64", "num_key_value_heads": None}
        )


def test_a_target_that_matches_no_layer_is_refused():
    with pytest.raises(ModelError, match=r"\['c_attn'\]: not linear layers of the model. Known: q_proj"):
        read_shape(CONFIGS["qwen2"].to_dict()).adapter_layers(["c_attn", "q_proj"])


def test_a_folder_without_a_readable_config_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        model_shape(ModelConfig(name=str(tmp_path)))
    for text in ("[]", "[" * 100_000):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelError, match=r"config\.json cannot be read"):
            model_shape(ModelConfig(name=str(tmp_path)))
