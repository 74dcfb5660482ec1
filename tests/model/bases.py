"""Bases made from the tiny Llama: a local folder, with untied embeddings, with added tokens or with an adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from flyte_llama.config import ModelConfig, ObjectiveConfig, ResolvedTraining
from flyte_llama.model import pin_model, prepare_base
from flyte_llama.sources.entry import git_blob_id
from flyte_llama.storage import seal, sha256_file

TINY_SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
"""The sizes of a tiny model, as every architecture's config.json names them."""

HUB_MODEL, COMMIT = "owner/tiny", "0123456789abcdef0123456789abcdef01234567"

NEW_TOKENS = ["<mask>", "<mask:0>", "<mask:1>"]


def hub_folder(tiny_base: Path, folder: Path, *, tied: bool = True, spare_rows: int = 0) -> Path:
    """Copy the tiny Llama to a local folder in the hub's format; untied, it gets a separate output embedding.

    Args:
        spare_rows: Rows of zeros after the last id, as padded tables have them.
    """
    from transformers import AutoModelForCausalLM

    shutil.copytree(tiny_base, folder)
    for name in ("base.json", "manifest.json", "control_tokens.json"):
        (folder / name).unlink()
    if not tied:
        model = AutoModelForCausalLM.from_pretrained(folder)
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone() * 0.5 + 0.01)
        model.save_pretrained(folder)
    if spare_rows:
        model = AutoModelForCausalLM.from_pretrained(folder)
        num_rows = model.get_input_embeddings().num_embeddings
        model.resize_token_embeddings(num_rows + spare_rows, mean_resizing=False)
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight.data[num_rows:] = 0
        model.save_pretrained(folder)
    return folder


def store_in_hub_cache(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, *, tree: bool = True) -> Path:
    """Store a model folder as the hub's client does: blobs, a snapshot of links to them, and the tree of the commit.

    The client is then offline, and the path of the snapshot is returned.
    """
    import huggingface_hub.constants

    repository = cache / f"models--{HUB_MODEL.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    for folder in ("blobs", "trees", f"snapshots/{COMMIT}"):
        (repository / folder).mkdir(parents=True)
    files = {}
    for file in sorted(model.iterdir()):
        data = file.read_bytes()
        entry = {"size": len(data), "blob_id": git_blob_id(data)}
        if file.suffix in (".safetensors", ".bin"):
            entry |= {"lfs_sha256": sha256_file(file), "lfs_size": len(data)}
        digest = str(entry.get("lfs_sha256") or entry["blob_id"])
        (repository / "blobs" / digest).write_bytes(data)
        (snapshot / file.name).symlink_to(f"../../blobs/{digest}")
        files[file.name] = entry
    if tree:
        (repository / "trees" / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": files}))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


def prepare(
    model: Path,
    folder: Path,
    *,
    adapter: Path | None = None,
    tokens: list[str] | None = None,
    objective: ObjectiveConfig = ObjectiveConfig(),  # noqa: B008  # frozen
) -> Path:
    """Prepare a base from the model folder, with an adapter to continue and tokens added to its tokenizer."""
    config = ModelConfig(name=str(model), adapter=str(adapter) if adapter else None)
    prepare_base(pin_model(config), config, [], longest_input=64, folder=folder, objective=objective)
    if tokens:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.add_special_tokens(tokens)
        tokenizer.save(str(folder / "tokenizer.json"))
        seal(folder)
    return folder


def lora(method: str = "lora", **changes: object) -> ResolvedTraining:
    """A float32 training configuration with adapters of rank 4."""
    fields = {"precision": "fp32", "activation_checkpointing": False, "lora": {"rank": 4, "dropout": 0.0}}
    return ResolvedTraining(**{"method": method, **fields, **changes})


def learn(model: torch.nn.Module, ids: torch.Tensor, *, steps: int, learning_rate: float = 1e-2) -> list[float]:
    """Take AdamW steps on the same ids; the loss before each step."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    losses = []
    for _ in range(steps):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses
