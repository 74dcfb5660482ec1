"""Adapters have the right kind and precision, can be continued and merged, and are refused if they do not fit."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from flyte_llama.config import ModelConfig
from flyte_llama.errors import ModelError, TrainingError
from flyte_llama.model import (
    ADAPTER_FOLDER,
    load_model,
    load_trainable_model,
    merge_adapter,
    pin_model,
    prepare_base,
)
from flyte_llama.model.adapters.files import ADAPTER_WEIGHTS
from flyte_llama.model.adapters.lora import load_adapter
from flyte_llama.training.export import save_adapter
from tests.model.bases import hub_folder, learn, lora, prepare

IDS = torch.tensor([[5, 80, 7, 90, 11, 60] * 8, [8, 33, 21, 70, 15, 99] * 8])


@pytest.fixture(scope="module")
def model(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hub_folder(tiny_base, tmp_path_factory.mktemp("hub") / "mine", tied=False)


class Earlier:
    """An adapter saved after six steps of training."""

    def __init__(self, model: Path, folder: Path) -> None:
        trained = load_trainable_model(prepare(model, folder / "base"), lora())
        self.losses = learn(trained, IDS, steps=6, learning_rate=3e-3)
        self.folder = folder / ADAPTER_FOLDER
        trained.save_pretrained(self.folder, save_embedding_layers=False)
        self.logits = logits(trained)


@pytest.fixture(scope="module")
def earlier(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Earlier:
    return Earlier(model, tmp_path_factory.mktemp("earlier"))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_are_float32_on_a_bf16_base_and_learn_alone(model: Path, tmp_path: Path, method: str):
    trained = load_trainable_model(prepare(model, tmp_path / "base"), lora(method, precision="bf16"))
    learning = {name: p.dtype for name, p in trained.named_parameters() if p.requires_grad}
    frozen = {p.dtype for p in trained.parameters() if not p.requires_grad}
    assert set(learning.values()) == {torch.float32}
    assert frozen == {torch.bfloat16}
    assert all("lora_" in name for name in learning)
    assert any("magnitude" in name for name in learning) == (method == "dora")


def test_training_continues_an_earlier_adapter(model: Path, earlier: Earlier, tmp_path: Path):
    base = prepare(model, tmp_path / "base", adapter=earlier.folder)
    assert sorted(path.name for path in (base / ADAPTER_FOLDER).iterdir()) == ["adapter_config.json", ADAPTER_WEIGHTS]
    torch.testing.assert_close(logits(load_model(base, dtype=torch.float32)), earlier.logits, rtol=0, atol=1e-4)
    trained = load_trainable_model(base, lora())
    torch.testing.assert_close(logits(trained), earlier.logits, rtol=0, atol=1e-5)
    losses = learn(trained, IDS, steps=6, learning_rate=3e-3)
    assert losses[0] < earlier.losses[-1]
    assert losses[-1] < losses[0] - 0.02
    trained.save_pretrained(tmp_path / "later", save_embedding_layers=False)
    original = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    reloaded = PeftModel.from_pretrained(original, str(tmp_path / "later"))
    torch.testing.assert_close(logits(reloaded), logits(trained), rtol=0, atol=1e-5)


def test_full_training_starts_from_the_merged_adapter(model: Path, earlier: Earlier, tmp_path: Path):
    trained = load_trainable_model(prepare(model, tmp_path / "base", adapter=earlier.folder), lora("full"))
    torch.testing.assert_close(logits(trained), earlier.logits, rtol=0, atol=1e-4)
    assert all(p.requires_grad for p in trained.parameters())
    assert not any("lora" in name for name, _ in trained.named_parameters())


def test_an_earlier_adapter_keeps_its_shape_and_a_message_reports_it(
    model: Path, earlier: Earlier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    base = prepare(model, tmp_path / "base", adapter=earlier.folder)
    capsys.readouterr()
    trained = load_trainable_model(base, lora("dora", lora={"rank": 8, "dropout": 0.0}))
    assert trained.peft_config["default"].r == 4
    (message,) = capsys.readouterr().err.splitlines()
    assert message == "model.adapter: keeps the settings that it was trained with: rank 4, not 8; dora False, not True"


def test_an_adapter_is_pinned_by_content(model: Path, earlier: Earlier):
    pinned = pin_model(ModelConfig(name=str(model), adapter=str(earlier.folder)))
    assert pinned.adapter == str(earlier.folder)
    assert pinned.adapter_revision.startswith("sha256:")
    assert pin_model(ModelConfig(name=str(model))).adapter == ""


def write_damaged(earlier: Earlier, folder: Path, how: str) -> Path:
    folder.mkdir()
    for file in earlier.folder.glob("adapter_*"):
        (folder / file.name).write_bytes(file.read_bytes())
    weights, config = folder / ADAPTER_WEIGHTS, folder / "adapter_config.json"
    tensors, settings = load_file(weights), json.loads(config.read_text())
    first = min(tensors)
    if how == "pickled":
        weights.rename(folder / "adapter_model.bin")
    elif how == "other type":
        config.write_text(json.dumps(settings | {"peft_type": "IA3"}))
    elif how == "lacks a tensor":
        save_file({name: tensor for name, tensor in tensors.items() if name != first}, weights)
    elif how == "misshapen":
        save_file(tensors | {first: torch.zeros(4, 7)}, weights)
    elif how == "of another base":
        save_file({name.replace("layers.1.", "layers.7."): tensor for name, tensor in tensors.items()}, weights)
    elif how == "three bytes":
        weights.write_bytes(b"abc")
    elif how == "deep":
        config.write_text("[" * 100_000)
    return folder


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("pickled", "holds no adapter_model.safetensors"),
        ("other type", "is of type IA3"),
        ("lacks a tensor", "this adapter lacks the tensor base_model"),
        ("misshapen", "does not fit the base"),
        ("of another base", "this adapter lacks the tensor base_model"),
        ("three bytes", "adapter_model.safetensors is damaged or cut off"),
        ("deep", "its adapter_config.json cannot be read"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(model: Path, earlier: Earlier, tmp_path: Path, how: str, message: str):
    with pytest.raises(ModelError, match=message):
        load_trainable_model(
            prepare(model, tmp_path / "base", adapter=write_damaged(earlier, tmp_path / "bad", how)), lora()
        )


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_adapter_on_an_embedding_that_the_base_uses_twice_is_merged_into_that_one_alone(
    tiny_base: Path, tmp_path: Path, target: str, method: str
):
    base = prepare(hub_folder(tiny_base, tmp_path / "tied"), tmp_path / "base")
    on_embedding = {"rank": 4, "dropout": 0.0, "target_modules": ["q_proj", target]}
    trained = load_trainable_model(base, lora(method, lora=on_embedding))
    learn(trained, IDS, steps=4)
    save_adapter(trained, base, tmp_path / "adapter")
    merged = merge_adapter(base, tmp_path / "adapter", dtype=torch.float32)
    merged.save_pretrained(tmp_path / "merged")
    assert json.loads((tmp_path / "merged/config.json").read_text())["tie_word_embeddings"] is False
    for model in (merged, AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)):
        torch.testing.assert_close(logits(model), logits(trained), rtol=0, atol=1e-4)


def test_two_embeddings_that_the_config_calls_one_stay_two(model: Path, tmp_path: Path):
    folder = shutil.copytree(model, tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    base = prepare(folder, tmp_path / "base")
    trained = load_trainable_model(
        base, lora(lora={"rank": 4, "dropout": 0.0, "target_modules": ["q_proj", "lm_head"]})
    )
    learn(trained, IDS, steps=4)
    save_adapter(trained, base, tmp_path / "adapter")
    merged = merge_adapter(base, tmp_path / "adapter", dtype=torch.float32)
    torch.testing.assert_close(logits(merged), logits(trained), rtol=0, atol=1e-4)
    assert merged.config.tie_word_embeddings is False


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_proj", "v_porj"], r"v_porj matches no module of this base\. Did you mean v_proj\?"),
        (["xyz"], r"xyz matches no module of this base\. Linear layers: down_proj, gate_proj, k_proj, lm_head, "),
        (["q_proj", "norm"], r"norm matches model\.norm, a LlamaRMSNorm, which has no matrix"),
        (["layers"], r"layers matches model\.layers, a ModuleList, which has no matrix"),
    ],
)
def test_a_target_that_cannot_be_adapted_is_refused_when_the_base_is_prepared(
    model: Path, tmp_path: Path, targets: list[str], message: str
):
    config, training = ModelConfig(name=str(model)), lora(lora={"rank": 4, "target_modules": targets})
    with pytest.raises(ModelError, match=rf"^training\.lora\.target_modules: {message}"):
        prepare_base(pin_model(config), config, [], longest_input=64, folder=tmp_path / "base", training=training)


@pytest.fixture
def with_zero_rows(model: Path, tmp_path: Path) -> Path:
    """A base with rows of zeros: five in a layer, two in another."""
    folder = shutil.copytree(model, tmp_path / "zeros")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.self_attn.o_proj.weight"][3:8] = 0
    tensors["model.layers.1.mlp.down_proj.weight"][:2] = 0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_dora_on_rows_of_zeros_names_the_layer_before_and_in_training(with_zero_rows: Path, tmp_path: Path):
    message = (
        r"training\.method = 'dora': 5 rows of model\.layers\.1\.self_attn\.o_proj\.weight, and rows of 1 other layer, "
        r"have only zeros, and DoRA divides by the norm of each row\. Use method: lora, or leave"
    )
    config = ModelConfig(name=str(with_zero_rows))
    with pytest.raises(ModelError, match=message):
        prepare_base(pin_model(config), config, [], longest_input=64, folder=tmp_path / "base", training=lora("dora"))
    base = prepare(with_zero_rows, tmp_path / "other")
    with pytest.raises(ModelError, match=message):
        load_trainable_model(base, lora("dora"))
    targets = {"rank": 4, "target_modules": ["q_proj", "v_proj"]}
    learning = lora("dora", lora=targets)
    prepare_base(pin_model(config), config, [], longest_input=64, folder=tmp_path / "q_v", training=learning)
    assert all(map(math.isfinite, learn(load_trainable_model(base, learning), IDS, steps=2)))


def test_a_dora_adapter_that_was_not_trained_on_rows_of_zeros_is_refused(with_zero_rows: Path, tmp_path: Path):
    original = AutoModelForCausalLM.from_pretrained(with_zero_rows)
    config = LoraConfig(r=4, target_modules=["q_proj", "o_proj"], use_dora=True, task_type="CAUSAL_LM")
    get_peft_model(original, config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"5 rows of model\.layers\.1\.self_attn\.o_proj\.weight have only zeros"):
        prepare(with_zero_rows, tmp_path / "base", adapter=tmp_path / "adapter")


def test_an_adapter_that_is_damaged_after_it_was_checked_is_one_message(model: Path, earlier: Earlier, tmp_path: Path):
    adapter = write_damaged(earlier, tmp_path / "bad", "three bytes")
    with pytest.raises(ModelError, match="this adapter does not fit the base"):
        load_adapter(load_model(model, dtype=torch.float32), adapter)


def test_a_saved_adapter_names_its_base_without_the_path_of_a_folder(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    base = prepare(model, tmp_path / "base")
    save_adapter(load_trainable_model(base, lora()), base, tmp_path / "adapter")
    saved = [file.read_text() for file in (tmp_path / "adapter").iterdir() if file.suffix == ".json"]
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["base_model_name_or_path"] == model.name
    assert not [text for text in saved if str(model.parent) in text]
    prepare(model, tmp_path / "continued", adapter=tmp_path / "adapter")
    assert "was made for" not in capsys.readouterr().err


def test_an_adapter_made_for_another_base_causes_a_warning(
    model: Path, earlier: Earlier, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = hub_folder(tiny_base, tmp_path / "other", tied=False)
    config = ModelConfig(name=str(other), adapter=str(earlier.folder))
    prepare_base(pin_model(config), config, [], longest_input=64, folder=tmp_path / "base")
    assert f"was made for {model}, but the base is {other}" in capsys.readouterr().err


def test_a_base_that_lacks_a_weight_is_refused_and_not_filled_with_random_numbers(model: Path, tmp_path: Path):
    partial = shutil.copytree(model, tmp_path / "partial")
    tensors = load_file(partial / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing or misshapen, such as model\.layers\.1\.mlp\.up_proj"):
        load_model(partial, dtype=torch.float32)


def test_liger_is_refused_without_a_gpu(model: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match=r"training\.liger = true: needs a GPU"):
        load_trainable_model(prepare(model, tmp_path / "base"), lora(liger=True))
