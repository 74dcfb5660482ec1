"""A model is loaded only from the files that were sealed, pinned or downloaded; anything else is one message."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flyte_llama.config import ModelConfig
from flyte_llama.errors import DataError, FlyteLlamaError
from flyte_llama.model import ADAPTER_FOLDER, load_model, load_trainable_model, model_identity, pin_model, prepare_base
from flyte_llama.model.loading import open_model
from flyte_llama.storage import seal
from tests.model.bases import COMMIT, HUB_MODEL, hub_folder, lora, prepare, store_in_hub_cache


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def replace(file: Path) -> None:
    """Put another file in its place, not through a link."""
    data = bytearray(file.read_bytes())
    file.unlink()
    file.write_bytes(data[::-1])


DAMAGES = pytest.mark.parametrize("damage", [flip, truncate, replace, Path.unlink])
READERS: list[Callable[[Path], object]] = [
    lambda folder: load_model(folder, dtype=torch.float32),
    lambda folder: open_model(folder, precision="fp32"),
    lambda folder: load_trainable_model(folder, lora()),
    model_identity,
]


def refuse(folder: Path, match: str) -> None:
    """Check that nothing reads the model of a folder."""
    for read in READERS:
        with pytest.raises(DataError, match=match):
            read(folder)


@pytest.fixture
def model(tiny_base: Path, tmp_path: Path) -> Path:
    return hub_folder(tiny_base, tmp_path / "mine")


@pytest.fixture
def scratch_base(tiny_base: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_base, tmp_path / "base")


@DAMAGES
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "base.json", "manifest.json"])
def test_a_damaged_base_is_not_read(scratch_base: Path, damage: Callable[[Path], None], name: str):
    damage(scratch_base / name)
    lost_manifest = (name, damage) == ("manifest.json", Path.unlink)
    refuse(scratch_base, match="has no manifest" if lost_manifest else f"{name}: ")


def test_a_file_that_was_added_to_a_base_is_refused(scratch_base: Path):
    (scratch_base / "adapter_config.json").write_text("{}")
    refuse(scratch_base, match=r"adapter_config\.json: is not in the manifest")


@DAMAGES
def test_a_local_model_that_changed_after_it_was_pinned_is_neither_prepared_nor_loaded(
    model: Path, tmp_path: Path, damage: Callable[[Path], None]
):
    config = ModelConfig(name=str(model))
    pinned = pin_model(config)
    base = prepare(model, tmp_path / "base")
    damage(model / "model.safetensors")
    for read in READERS[:3]:
        with pytest.raises(DataError, match="has changed since this run pinned the folder"):
            read(base)
    with pytest.raises(DataError, match="has changed since this run pinned the folder"):
        prepare_base(pinned, config, [], longest_input=64, folder=tmp_path / "again")


@pytest.mark.parametrize("tree", [True, False])
@pytest.mark.parametrize("damage", [flip, truncate, replace])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_hub_model_whose_cache_is_damaged_is_not_loaded(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], name: str, tree: bool
):
    snapshot = store_in_hub_cache(model, tmp_path / "hub", monkeypatch, tree=tree)
    config = ModelConfig(name=HUB_MODEL, revision=COMMIT)
    base = tmp_path / "base"
    prepare_base(pin_model(config), config, [], longest_input=64, folder=base)
    load_model(base, dtype=torch.float32)
    damage(snapshot / name)
    for read in READERS[:3]:
        with pytest.raises(DataError, match=rf"{name}: is not the file that the hub has.*Remove .*downloaded again"):
            read(base)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_a_base_is_not_prepared_from_a_damaged_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    flip(store_in_hub_cache(model, tmp_path / "hub", monkeypatch) / name)
    config = ModelConfig(name=HUB_MODEL, revision=COMMIT)
    with pytest.raises(DataError, match=rf"{name}: is not the file that the hub has"):
        prepare_base(pin_model(config), config, [], longest_input=64, folder=tmp_path / "base")


def test_a_file_that_the_hub_does_not_have_is_not_preferred_to_its_shards(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = hub_folder(tiny_base, tmp_path / "mine")
    load_model(model, dtype=torch.float32).save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    single = (model / "model.safetensors").rename(tmp_path / "single")
    shutil.copytree(tmp_path / "sharded", model, dirs_exist_ok=True)
    snapshot = store_in_hub_cache(model, tmp_path / "hub", monkeypatch)
    config = ModelConfig(name=HUB_MODEL, revision=COMMIT)
    prepare_base(pin_model(config), config, [], longest_input=64, folder=tmp_path / "base")
    load_model(tmp_path / "base", dtype=torch.float32)
    shutil.copy(single, snapshot / "model.safetensors")
    with pytest.raises(DataError, match=r"model\.safetensors: is not the file that the hub has"):
        load_model(tmp_path / "base", dtype=torch.float32)


def test_a_link_to_another_blob_of_the_cache_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    snapshot = store_in_hub_cache(model, tmp_path / "hub", monkeypatch)
    other = (snapshot / "generation_config.json").readlink()
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(other)
    config = ModelConfig(name=HUB_MODEL, revision=COMMIT)
    with pytest.raises(DataError, match=r"config\.json: is not the file"):
        prepare_base(pin_model(config), config, [], longest_input=64, folder=tmp_path / "base")


def test_a_finished_model_is_pinned_by_its_manifest_and_not_at_all_if_damaged(model: Path):
    unsealed = pin_model(ModelConfig(name=str(model))).revision
    seal(model)
    pinned = pin_model(ModelConfig(name=str(model)))
    assert pinned.revision == model_identity(model) != unsealed
    flip(model / "model.safetensors")
    with pytest.raises(DataError, match=r"model\.safetensors: differs from its manifest"):
        pin_model(ModelConfig(name=str(model)))


def test_the_adapter_of_a_damaged_model_is_not_continued(model: Path, tmp_path: Path):
    finished = shutil.copytree(model, tmp_path / "finished")
    trained = load_trainable_model(prepare(model, tmp_path / "base"), lora())
    trained.save_pretrained(finished / ADAPTER_FOLDER, save_embedding_layers=False)
    seal(finished)
    prepare(model, tmp_path / "continued", adapter=finished / ADAPTER_FOLDER)
    flip(finished / ADAPTER_FOLDER / "adapter_model.safetensors")
    with pytest.raises(DataError, match=r"adapter_model\.safetensors: differs from its manifest"):
        prepare(model, tmp_path / "again", adapter=finished / ADAPTER_FOLDER)


@pytest.mark.parametrize("manifest", ['{"name": "app", "files": ["a"]}', "[]", '{"files": {"main.js": "main.1f.js"}}'])
def test_a_manifest_of_another_program_is_a_file_like_others(model: Path, manifest: str):
    before = model_identity(model)
    (model / "manifest.json").write_text(manifest)
    load_model(model, dtype=torch.float32)
    assert model_identity(model) != before


@pytest.mark.parametrize("manifest", ["{", "[" * 100_000, '{"files": {"config.json": {"sha256": "0"}}}'])
def test_a_damaged_manifest_of_this_package_is_refused(model: Path, manifest: str):
    (model / "manifest.json").write_text(manifest)
    with pytest.raises(DataError, match=r"manifest\.json"):
        model_identity(model)


def test_a_folder_of_another_program_needs_no_manifest(model: Path):
    load_model(model, dtype=torch.float32)
    assert model_identity(model) == pin_model(ModelConfig(name=str(model))).revision
    truncate(model / "model.safetensors")
    with pytest.raises(FlyteLlamaError, match="cannot be loaded"):
        load_model(model, dtype=torch.float32)
