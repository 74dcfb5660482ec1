"""A written config.json has each value under the keys of transformers 4 and 5, and says if embeddings are tied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from flyte_llama.model import load_model
from flyte_llama.model.config_json import complete_config, complete_tokenizer_config
from tests.model.bases import NEW_TOKENS, hub_folder, prepare
from tests.model.positions import SCALINGS, write_model


def read(folder: Path, name: str = "config.json") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return content


def change(folder: Path, name: str = "config.json", **values: object) -> None:
    (folder / name).write_text(json.dumps(read(folder, name) | values), encoding="utf-8")


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("llama", {"rope_theta": 1e6, "rope_scaling": None, "head_dim": 16, "torch_dtype": "float32"}),
        ("gpt_neox", {"rotary_emb_base": 1e6, "rotary_pct": 0.5, "rope_scaling": None, "torch_dtype": "float32"}),
    ],
)
def test_what_transformers_4_reads_is_under_its_keys(tmp_path: Path, architecture: str, expected: dict[str, Any]):
    config = read(write_model(tmp_path / "model", architecture, "default"))
    assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize("scaling", SCALINGS)
def test_transformers_5_computes_the_same_before_and_after(tmp_path: Path, scaling: str):
    folder = write_model(tmp_path / "model", "llama", scaling)
    old_keys = ("rope_theta", "rope_scaling", "torch_dtype", "original_max_position_embeddings")
    completed = read(folder)
    logits = []
    for config in (completed, {key: value for key, value in completed.items() if key not in old_keys}):
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        model = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            logits += [[model(torch.arange(length)[None]).logits for length in (24, 60, 100)]]
    assert all(torch.equal(*pair) for pair in zip(*logits, strict=True))


@pytest.mark.parametrize("is_said", [True, False])
@pytest.mark.parametrize(("tied", "with_copy"), [(True, False), (True, True), (False, False)])
def test_tied_is_said_of_weights_with_one_embedding(
    tiny_base: Path, tmp_path: Path, is_said: bool, tied: bool, with_copy: bool
):
    folder = hub_folder(tiny_base, tmp_path / "model", tied=tied)
    if with_copy:
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    change(folder, tie_word_embeddings=is_said)
    complete_config(folder)
    # Two equal embeddings compute the same either way.
    assert read(folder)["tie_word_embeddings"] is (is_said if with_copy else tied)


def test_an_output_embedding_that_the_config_denies_is_kept_when_rows_are_added(tiny_base: Path, tmp_path: Path):
    folder = hub_folder(tiny_base, tmp_path / "model", tied=False)
    change(folder, tie_word_embeddings=True)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        plain = load_model(prepare(folder, tmp_path / "base"), dtype=torch.float32)(ids).logits
        grown = load_model(prepare(folder, tmp_path / "grown", tokens=NEW_TOKENS), dtype=torch.float32)(ids).logits
    assert grown.shape[-1] == plain.shape[-1] + len(NEW_TOKENS)
    torch.testing.assert_close(grown[..., : plain.shape[-1]], plain)


def test_a_tokenizer_of_transformers_5_gets_names_that_4_knows(tiny_base: Path, tmp_path: Path):
    folder, name = hub_folder(tiny_base, tmp_path / "model"), "tokenizer_config.json"
    change(folder, name, tokenizer_class="TokenizersBackend", extra_special_tokens=["<a>", "<b>"])
    complete_tokenizer_config(folder)
    config = read(folder, name)
    assert (config["tokenizer_class"], config["additional_special_tokens"]) == (
        "PreTrainedTokenizerFast",
        ["<a>", "<b>"],
    )
    assert "extra_special_tokens" not in config


def test_a_chat_template_is_where_each_version_looks(tiny_base: Path, tmp_path: Path):
    folder = hub_folder(tiny_base, tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    complete_tokenizer_config(folder)
    assert read(folder, "tokenizer_config.json")["chat_template"] == "{{ messages }}"
    assert (folder / "chat_template.jinja").read_text() == "{{ messages }}"


def test_a_tokenizer_config_that_every_version_reads_stays_as_it_is(tiny_base: Path, tmp_path: Path):
    folder = hub_folder(tiny_base, tmp_path / "model")
    before = (folder / "tokenizer_config.json").read_bytes()
    complete_tokenizer_config(folder)
    assert (folder / "tokenizer_config.json").read_bytes() == before
