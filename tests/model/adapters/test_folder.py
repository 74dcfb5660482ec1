"""A written adapter loads with peft alone, on a base that lacks the rows of its tokens, and has a card of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from flyte_llama.config import ModelConfig, ObjectiveConfig
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.model import load_trainable_model, load_with_adapter, pin_model, prepare_base
from flyte_llama.model.adapters.folder import complete_adapter
from flyte_llama.model.base import PinnedModel
from flyte_llama.training.export import save_adapter
from tests.model.bases import hub_folder, learn, lora

FIM = ObjectiveConfig(kind="fim")
SETTINGS = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "use_dora": False}


def trained_adapter(model: Path, folder: Path, *, method: str = "lora") -> Path:
    """Train an adapter on the model with control tokens that it lacks, and save it; the folder of the prepared base."""
    base, config = folder / "base", ModelConfig(name=str(model))
    prepare_base(pin_model(config), config, [], longest_input=64, folder=base, objective=FIM)
    torch.manual_seed(0)
    trained = load_trainable_model(base, lora(method))
    num_ids = DocumentTokenizer(base).vocab_size
    learn(trained, torch.arange(num_ids - 40, num_ids)[None], steps=3)
    save_adapter(trained, base, folder / "adapter")
    return base


@pytest.mark.parametrize(
    ("tied", "spare_rows", "method"),
    [(True, 0, "lora"), (False, 0, "dora"), (True, 50, "dora"), (False, 50, "lora")],
)
def test_peft_alone_computes_the_same(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool, spare_rows: int, method: str
):
    model = hub_folder(tiny_base, tmp_path / "mine", tied=tied)
    if spare_rows:
        padded = AutoModelForCausalLM.from_pretrained(model)
        padded.resize_token_embeddings(padded.config.vocab_size + spare_rows, mean_resizing=False)
        padded.save_pretrained(model)
    base = trained_adapter(model, tmp_path, method=method)
    # The adapter names its base `mine`, a folder here.
    monkeypatch.chdir(tmp_path)
    alone = AutoPeftModelForCausalLM.from_pretrained("adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained("adapter")
    ids = torch.arange(len(tokenizer))[None, -64:]
    assert tokenizer.convert_tokens_to_ids("▁<EOT>") in ids
    here = load_with_adapter(base, tmp_path / "adapter", dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(alone(ids).logits, here(ids).logits)


def test_the_folder_names_the_class_of_its_tokenizer(tiny_base: Path, tmp_path: Path):
    model = hub_folder(tiny_base, tmp_path / "mine")
    config = json.loads((model / "tokenizer_config.json").read_text())
    del config["tokenizer_class"]
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    trained_adapter(model, tmp_path)
    assert not (tmp_path / "adapter/config.json").exists()
    assert AutoTokenizer.from_pretrained(tmp_path / "adapter")("a").input_ids


def card_of(folder: Path, pinned: PinnedModel | None, **settings: object) -> tuple[dict[str, object], str]:
    """The front matter and the text of an adapter's card."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(SETTINGS | settings))
    complete_adapter(folder, folder, pinned, in_4_bits=False)
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_card_of_an_adapter_on_a_hub_model_names_base_method_and_rank(tmp_path: Path):
    pinned = PinnedModel(name="owner/model", revision="0" * 40)
    front, text = card_of(tmp_path / "adapter", pinned, base_model_name_or_path="owner/model", use_dora=True)
    assert front == {"library_name": "peft", "base_model": "owner/model", "tags": ["code", "flyte", "dora"]}
    assert f"base:   owner/model at {'0' * 40}\nmethod: DoRA, rank 8, alpha 16\n" in text


def test_the_card_of_an_adapter_on_a_local_model_has_its_licence_but_not_its_path(tmp_path: Path):
    model = tmp_path / "my `model`"
    model.mkdir()
    (model / "README.md").write_text("---\nlicense: apache-2.0\ntags: [code]\n---\nlicense: mit\n")
    pinned = PinnedModel(name=str(model), revision="sha256:0")
    front, text = card_of(tmp_path / "adapter", pinned, base_model_name_or_path=model.name)
    expected = {"library_name": "peft", "base_model": "my `model`", "license": "apache-2.0"}
    assert front == expected | {"tags": ["code", "flyte", "lora"]}
    assert "base:   my `model` at sha256:0\n" in text
    assert str(tmp_path) not in text


def test_the_snippet_of_the_card_runs(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained_adapter(hub_folder(tiny_base, tmp_path / "mine"), tmp_path)
    monkeypatch.chdir(tmp_path)
    code = (tmp_path / "adapter/README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102  # the card's own code is what is tested
    assert {"model", "tokenizer"} <= names.keys()
