"""Adapters as peft, axolotl, LLaMA-Factory and unsloth make and save them: taken whole, or refused before a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from flyte_llama.config import ModelConfig, ObjectiveConfig, TrainingConfig
from flyte_llama.errors import ModelError
from flyte_llama.model import (
    ADAPTER_FOLDER,
    load_model,
    load_trainable_model,
    load_with_adapter,
    merge_adapter,
    pin_model,
    prepare_base,
)
from flyte_llama.training.export import save_adapter
from tests.model.bases import TINY_SHAPE, hub_folder, learn, lora

IDS = torch.tensor([[5, 80, 7, 90, 11, 60] * 4, [8, 33, 21, 70, 15, 99] * 4])
BASES = {
    "untied": ("llama", {"tie_word_embeddings": False}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "biases": ("qwen2", {"tie_word_embeddings": False}),
}

# name → base, settings of peft's LoraConfig
TAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "rank-stabilised": ("untied", {"use_rslora": True}),
    "ranks and alphas by layer": ("untied", {"rank_pattern": {"layers.0.*q_proj": 2}, "alpha_pattern": {"v_proj": 3}}),
    "one layer": ("untied", {"layers_to_transform": [1]}),
    "excluded modules": ("untied", {"target_modules": "all-linear", "exclude_modules": ["o_proj"]}),
    "a pattern": ("untied", {"target_modules": r".*\.layers\.\d+\.self_attn\.[qv]_proj"}),
    "pissa": ("untied", {"init_lora_weights": "pissa"}),
    "olora": ("untied", {"init_lora_weights": "olora"}),
    "orthogonal": ("untied", {"init_lora_weights": "orthogonal"}),
    "mica": ("untied", {"init_lora_weights": "mica"}),
    "dora": ("untied", {"use_dora": True}),
    "dora on embeddings": ("untied", {"use_dora": True, "target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "token rows": ("untied", {"trainable_token_indices": [5, 7, 80]}),
    "token rows, tied": ("tied", {"trainable_token_indices": {"embed_tokens": [5, 7, 80]}}),
    "whole embeddings": ("untied", {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "whole embeddings, tied": ("tied", {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "whole embeddings, kept tied": ("tied", {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}),
    "whole input embedding, tied": ("tied", {"modules_to_save": ["embed_tokens"]}),
    "whole output embedding, tied": ("tied", {"modules_to_save": ["lm_head"]}),
    "whole norms and embedding": ("untied", {"modules_to_save": ["norm", "embed_tokens"], "use_rslora": True}),
    "biases of adapted layers": ("biases", {"bias": "lora_only"}),
    "all biases": ("biases", {"bias": "all"}),
    "biases of B": ("biases", {"lora_bias": True}),
    "output embedding": ("untied", {"target_modules": ["q_proj", "lm_head"]}),
    "output embedding, tied": ("tied", {"target_modules": ["q_proj", "lm_head"]}),
    "input embedding, tied": ("tied", {"target_modules": ["q_proj", "embed_tokens"]}),
    "both embeddings, tied": ("tied", {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "both embeddings by dora, tied": (
        "tied",
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"], "use_dora": True},
    ),
}


@pytest.fixture(scope="module")
def bases(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bases of random weights, among them biases that are not zero."""
    folders = {}
    for name, (architecture, settings) in BASES.items():
        folders[name] = hub_folder(tiny_base, tmp_path_factory.mktemp("hub") / name)
        torch.manual_seed(0)
        config = AutoConfig.for_model(architecture, **{**TINY_SHAPE, "vocab_size": vocab_size(tiny_base), **settings})
        model = AutoModelForCausalLM.from_config(config)
        for parameter, weight in model.named_parameters():
            if parameter.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.1)
        model.save_pretrained(folders[name])
    return folders


def vocab_size(folder: Path) -> int:
    return json.loads((folder / "config.json").read_text())["vocab_size"]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def load_base(model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)


def train_with_peft(model: Any, **settings: Any) -> Any:
    """An adapter of peft after a few steps, all of its weights changed."""
    torch.manual_seed(1)
    adapted = get_peft_model(
        model, LoraConfig(**{"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **settings})
    )
    learn(adapted, IDS, steps=5)
    return adapted


def make_adapter(base: Path, folder: Path, **settings: Any) -> Path:
    train_with_peft(load_base(base), **settings).save_pretrained(folder)
    return folder


def prepare(
    model: Path,
    folder: Path,
    *,
    adapter: Path | None = None,
    training: TrainingConfig | None = None,
    objective: ObjectiveConfig | None = None,
) -> Path:
    config = ModelConfig(name=str(model), adapter=str(adapter) if adapter else None)
    options = {"objective": objective} if objective else {}
    prepare_base(pin_model(config), config, [], longest_input=64, folder=folder, training=training, **options)
    return folder


def assert_goes_on(base: Path, expected: torch.Tensor, folder: Path) -> None:
    """Check that a prepared base with an adapter is the model that was trained, before and after more training.

    Args:
        expected: Logits of the model that was trained.
        folder: For the adapter that is trained here.
    """
    model = Path(json.loads((base / "base.json").read_text())["name"])
    torch.testing.assert_close(logits(load_model(base, dtype=torch.float32)), expected, rtol=0, atol=1e-4)
    trained = load_trainable_model(base, lora())
    torch.testing.assert_close(logits(trained), expected, rtol=0, atol=1e-4)

    learn(trained.train(), IDS, steps=3)
    later = logits(trained)
    assert not torch.allclose(later, expected, rtol=0, atol=1e-2)
    save_adapter(trained, base, folder)
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(load_base(model), str(folder))), later, rtol=0, atol=1e-4
    )
    torch.testing.assert_close(logits(load_with_adapter(base, folder, dtype=torch.float32)), later, rtol=0, atol=1e-4)
    merged = merge_adapter(base, folder, dtype=torch.float32)
    torch.testing.assert_close(logits(merged), later, rtol=0, atol=1e-4)
    merged.save_pretrained(folder / "merged")
    torch.testing.assert_close(logits(load_base(folder / "merged")), later, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", TAKEN)
def test_an_adapter_is_the_model_that_was_trained_and_goes_on(bases: dict[str, Path], tmp_path: Path, kind: str):
    name, settings = TAKEN[kind]
    trained = train_with_peft(load_base(bases[name]), **settings)
    trained.save_pretrained(tmp_path / "theirs")
    base = prepare(bases[name], tmp_path / "base", adapter=tmp_path / "theirs", training=lora())
    assert_goes_on(base, logits(trained), tmp_path / ADAPTER_FOLDER)


@pytest.mark.parametrize("name", ["untied", "tied"])
def test_embeddings_that_were_saved_along_replace_those_of_the_base(bases: dict[str, Path], tmp_path: Path, name: str):
    # unsloth changes rows that were never trained before it adds its adapters.
    model = load_base(bases[name])
    with torch.no_grad():
        model.get_input_embeddings().weight[5:9] += 0.5
    trained = train_with_peft(model)
    trained.save_pretrained(tmp_path / "theirs", save_embedding_layers=True)
    base = prepare(bases[name], tmp_path / "base", adapter=tmp_path / "theirs", training=lora())
    assert_goes_on(base, logits(trained), tmp_path / ADAPTER_FOLDER)


def test_a_model_merged_from_an_adapter_is_the_same_for_full_training(bases: dict[str, Path], tmp_path: Path):
    trained = train_with_peft(load_base(bases["tied"]), target_modules=["q_proj", "embed_tokens"], use_rslora=True)
    trained.save_pretrained(tmp_path / "theirs")
    base = prepare(bases["tied"], tmp_path / "base", adapter=tmp_path / "theirs", training=lora("full"))
    model = load_trainable_model(base, lora("full"))
    torch.testing.assert_close(logits(model), logits(trained), rtol=0, atol=1e-4)
    assert all(weight.requires_grad for weight in model.parameters())
    assert model.config.tie_word_embeddings is False


def change_settings(adapter: Path, **changes: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_tensor(adapter: Path, name: str, change: Any) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    (key,) = (key for key in tensors if name in key)
    save_file(tensors | {key: change(tensors[key])}, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def plain(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The tensors of a plain LoRA adapter on the untied base."""
    return load_file(
        make_adapter(bases["untied"], tmp_path_factory.mktemp("plain") / "a") / "adapter_model.safetensors"
    )


SETTINGS_REFUSED = {
    "layer_replication": ([[0, 2], [1, 2]], "it repeats layers of the base"),
    "target_parameters": (["q_proj.weight"], "it adapts parameters that are not the weight of"),
    "alora_invocation_tokens": ([5, 7], "it acts only after some tokens"),
    "init_lora_weights": (
        "pissa_niter_16",
        "init_lora_weights = pissa_niter_16: its base is less a random approximation",
    ),
    "velora_config": ({"num_groups": 1}, "its gradients are compressed"),
    "use_new_variant": (True, "sets use_new_variant, which the installed peft does not know"),
    "target_modules": (["q_proj", "v_proj", "norm"], "Target module LlamaRMSNorm"),
    "bias": ("some", "does not fit the base: Requested bias: some, is not implemented"),
    "r": ("four", "does not fit the base: TypeError: "),
    "rank_pattern": (5, "does not fit the base: AttributeError: "),
    "lora_bias": (True, "this adapter lacks the tensor .*lora_B.bias"),
}


@pytest.mark.parametrize("setting", SETTINGS_REFUSED)
def test_an_adapter_of_a_kind_that_is_not_taken_is_refused_when_the_base_is_prepared(
    bases: dict[str, Path], tmp_path: Path, setting: str
):
    value, message = SETTINGS_REFUSED[setting]
    adapter = make_adapter(bases["untied"], tmp_path / "theirs")
    change_settings(adapter, **{setting: value})
    with pytest.raises(ModelError, match=f"^model.adapter = {adapter}: .*{message}"):
        prepare(bases["untied"], tmp_path / "base", adapter=adapter)


def test_a_bias_of_b_is_refused_where_the_base_has_none_to_merge_it_into(bases: dict[str, Path], tmp_path: Path):
    adapter = make_adapter(bases["untied"], tmp_path / "theirs", lora_bias=True)
    with pytest.raises(ModelError, match=r"its B has a bias \(lora_bias\) for model\.layers\.0\.self_attn\.q_proj"):
        prepare(bases["untied"], tmp_path / "base", adapter=adapter)


def test_one_adapter_on_two_embeddings_is_refused(bases: dict[str, Path], tmp_path: Path):
    settings = {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}
    adapter = make_adapter(bases["tied"], tmp_path / "theirs", **settings)
    with pytest.raises(ModelError, match="one A and B for the input and the output embedding"):
        prepare(bases["tied"], tmp_path / "base", adapter=adapter)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensor: tensor.fill_(torch.nan), "has values that are not finite"),
        (lambda tensor: tensor[:, :7].clone(), r"lora_A\.weight is 4 x 7, and the base needs 4 x 32"),
    ],
)
def test_a_tensor_that_is_damaged_or_misshapen_is_named(
    bases: dict[str, Path], tmp_path: Path, damage: Any, message: str
):
    adapter = make_adapter(bases["untied"], tmp_path / "theirs")
    change_tensor(adapter, "layers.1.self_attn.q_proj.lora_A", damage)
    with pytest.raises(ModelError, match=rf"^model\.adapter = {adapter}: .*layers\.1\.self_attn\.q_proj.*{message}"):
        prepare(bases["untied"], tmp_path / "base", adapter=adapter)


@pytest.mark.parametrize(
    "settings", [{"modules_to_save": ["embed_tokens", "lm_head"]}, {}], ids=["whole", "saved along"]
)
def test_embeddings_with_rows_that_the_base_lacks_are_refused(bases: dict[str, Path], tmp_path: Path, settings: dict):
    model = load_base(bases["untied"])
    num_rows = model.config.vocab_size
    model.resize_token_embeddings(num_rows + 3, mean_resizing=False)
    train_with_peft(model, **settings).save_pretrained(tmp_path / "theirs", save_embedding_layers=not settings)
    message = rf"weight is {num_rows + 3} x 32, and the base needs {num_rows} x 32\. It was trained on .* other tokens"
    with pytest.raises(ModelError, match=message):
        prepare(bases["untied"], tmp_path / "base", adapter=tmp_path / "theirs")


def test_two_embeddings_are_kept_apart_on_a_base_with_one(bases: dict[str, Path], tmp_path: Path):
    model = load_base(bases["tied"])
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 0.5 + 0.01)
    model.config.tie_word_embeddings = False
    trained = train_with_peft(model)
    trained.save_pretrained(tmp_path / "theirs", save_embedding_layers=True)
    base = prepare(bases["tied"], tmp_path / "base", adapter=tmp_path / "theirs", training=lora())
    torch.testing.assert_close(logits(load_model(base, dtype=torch.float32)), logits(trained), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("num_spare", "message"), [(0, "does not fit the base"), (8, "changes model.embed_tokens, so")]
)
def test_new_tokens_beside_a_whole_embedding_are_refused(
    bases: dict[str, Path], tmp_path: Path, num_spare: int, message: str
):
    padded, model = shutil.copytree(bases["untied"], tmp_path / "padded"), load_base(bases["untied"])
    model.resize_token_embeddings(model.config.vocab_size + num_spare, mean_resizing=False)
    model.save_pretrained(padded)
    adapter = make_adapter(padded, tmp_path / "theirs", modules_to_save=["embed_tokens"])
    prepare(padded, tmp_path / "no tokens", adapter=adapter, training=lora())
    fim = ObjectiveConfig(kind="fim")
    with pytest.raises(ModelError, match=f"^model.adapter = {adapter}: .*{message}"):
        prepare(padded, tmp_path / "base", adapter=adapter, training=lora(), objective=fim)


@pytest.mark.parametrize(
    ("settings", "training", "message"),
    [
        ({"bias": "all"}, {"deepspeed": {"zero_stage": 3}}, "has bias: all, which cannot be loaded or saved"),
        ({"init_lora_weights": "pissa"}, {"method": "qlora"}, "init_lora_weights = pissa: it changes the weights"),
        ({"modules_to_save": ["o_proj"]}, {"method": "qlora"}, r"trains all of model\.layers\.0\.self_attn\.o_proj"),
    ],
)
def test_an_adapter_that_the_method_or_stage_cannot_train_is_refused_but_can_be_measured(
    bases: dict[str, Path], tmp_path: Path, settings: dict, training: dict, message: str
):
    adapter = make_adapter(bases["biases"], tmp_path / "theirs", **settings)
    with pytest.raises(ModelError, match=message):
        prepare(bases["biases"], tmp_path / "base", adapter=adapter, training=TrainingConfig(**training))
    prepare(bases["biases"], tmp_path / "measured", adapter=adapter)
