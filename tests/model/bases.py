"""Bases made from the tiny Llama: a local folder, with untied embeddings, with added tokens or with an adapter."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer

from flyte_llama.config import ModelConfig, TrainingConfig
from flyte_llama.model import pin_model, prepare_base

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

NEW_TOKENS = ["<mask>", "<mask:0>", "<mask:1>"]


def hub_folder(tiny_base: Path, folder: Path, *, tied: bool = True) -> Path:
    """Copy the tiny Llama to a local folder in the hub's format; untied, it gets a separate output embedding."""
    from transformers import AutoModelForCausalLM

    shutil.copytree(tiny_base, folder)
    (folder / "base.json").unlink()
    if not tied:
        model = AutoModelForCausalLM.from_pretrained(folder)
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone() * 0.5 + 0.01)
        model.save_pretrained(folder)
    return folder


def prepare(model: Path, folder: Path, *, adapter: Path | None = None, tokens: list[str] | None = None) -> Path:
    """Prepare a base from the model folder, with an adapter to continue and tokens added to its tokenizer."""
    config = ModelConfig(name=str(model), adapter=str(adapter) if adapter else None)
    prepare_base(pin_model(config), config, [], longest_input=64, folder=folder)
    if tokens:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.add_special_tokens(tokens)
        tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def lora(method: str = "lora", **changes: object) -> TrainingConfig:
    """A float32 training configuration with adapters of rank 4."""
    fields = {"precision": "fp32", "activation_checkpointing": False, "lora": {"rank": 4, "dropout": 0.0}}
    return TrainingConfig(**{"method": method, **fields, **changes})


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
