"""Pin a base model, and prepare the folder in the hub's format that stands for it.

The folder of a hub model holds its config and tokenizer, some megabytes, and `base.json`, which says where the
weights are: a pod that tokenises does not download 13 GB, and the GPU pods load from the hub at the pinned commit.
A scratch model is small and wholly in the folder.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from flyte_llama.config import ModelConfig
from flyte_llama.errors import ModelError
from flyte_llama.manifest import sha256_folder
from flyte_llama.progress import quiet_libraries
from flyte_llama.tokens import TOKENIZER_FILE, DocumentTokenizer, train_tokenizer

BASE_FILE = "base.json"
# Never pickles (*.bin, *.pt) and never code.
SMALL_FILES = ["config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json"]


class PinnedModel(BaseModel):
    """A base model at one revision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Hub id, absolute path, or `scratch`."""

    revision: str
    """The hub's 40-hex commit, `sha256:…` of a folder's files, or empty for a scratch model."""


def pin_model(config: ModelConfig) -> PinnedModel:
    """The model as it is now.

    Raises:
        ModelError: if the hub does not know it or cannot be reached, or the folder does not exist.
    """
    if config.is_scratch:
        return PinnedModel(name="scratch", revision="")
    if config.is_local:
        folder = Path(config.name).expanduser().resolve()
        if not (folder / "config.json").is_file():
            raise ModelError(f"model.name = {config.name}: {folder} holds no config.json. Give a folder in hub format.")
        return PinnedModel(name=str(folder), revision="sha256:" + sha256_folder(folder))
    if config.revision and re.fullmatch(r"[0-9a-f]{40}", config.revision):
        return PinnedModel(name=config.name, revision=config.revision)
    from huggingface_hub import HfApi

    try:
        found = HfApi().model_info(config.name, revision=config.revision)
    except Exception as error:  # the client raises its own, its transport's and the system's
        raise _hub_failure(config.name, config.revision or "main", error) from None
    return PinnedModel(name=config.name, revision=str(found.sha))


def prepare_base(
    pinned: PinnedModel, config: ModelConfig, texts: Sequence[str], *, longest_input: int, folder: Path
) -> None:
    """Fill `folder` with the base's config, tokenizer and `base.json`; with weights too if it is a scratch model.

    Args:
        texts: Train texts, on which a scratch model's tokenizer is trained.
        longest_input: Most tokens that training or evaluation will give the model at once.

    Raises:
        ModelError: if the base needs code of its own, lacks a fast tokenizer, or has too few positions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config.is_scratch:
        _make_scratch(config, texts, folder)
    elif config.is_local:
        copy_small_files(Path(pinned.name), folder)
    else:
        copy_small_files(_download_small_files(pinned), folder)
    (folder / BASE_FILE).write_text(pinned.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _check(folder, pinned, longest_input)


def read_base(folder: Path) -> PinnedModel:
    return PinnedModel.model_validate_json((folder / BASE_FILE).read_text(encoding="utf-8"))


def _make_scratch(config: ModelConfig, texts: Sequence[str], folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    quiet_libraries()
    shape = config.scratch
    train_tokenizer(texts, vocab_size=shape.vocab_size, max_positions=shape.max_positions, folder=folder)
    tokenizer = DocumentTokenizer(folder)
    llama = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_positions,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        LlamaForCausalLM(llama).save_pretrained(folder)


def _download_small_files(pinned: PinnedModel) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(pinned.name, revision=pinned.revision, allow_patterns=SMALL_FILES))
    except Exception as error:  # the client raises its own, its transport's and the system's
        raise _hub_failure(pinned.name, pinned.revision, error) from None


def copy_small_files(source: Path, folder: Path) -> None:
    """Copy config and tokenizer, but for what is in `folder` already."""
    for pattern in SMALL_FILES:
        for file in sorted(source.glob(pattern)):
            if not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)


def _check(folder: Path, pinned: PinnedModel, longest_input: int) -> None:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "auto_map" in config:
        raise ModelError(f"{pinned.name}: its config.json asks to run code of its own (auto_map). Use another base.")
    if not (folder / TOKENIZER_FILE).is_file():
        raise ModelError(f"{pinned.name}: has no {TOKENIZER_FILE}. Use a base with a fast tokenizer.")
    positions = config.get("max_position_embeddings")
    if positions is not None and longest_input > positions:
        raise ModelError(
            f"training.seq_len or evaluation.window = {longest_input}: exceeds the {positions} positions of "
            f"{pinned.name}. Use at most {positions}."
        )


def _hub_failure(name: str, revision: str, error: Exception) -> ModelError:
    status = getattr(getattr(error, "response", None), "status_code", 500)
    return ModelError(
        f"{name} at {revision}: cannot be had from the hub ({type(error).__name__}). Check name, revision and network; "
        "a gated model needs a token (HF_TOKEN, on a cluster through FLYTE_LLAMA_SECRET_GROUP).",
        transient=status == 429 or status >= 500,
    )
