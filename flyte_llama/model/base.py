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

from flyte_llama.config import ModelConfig, ObjectiveConfig
from flyte_llama.errors import ModelError
from flyte_llama.manifest import sha256_folder
from flyte_llama.model.adapters import ADAPTER_CONFIG, ADAPTER_FOLDER, ADAPTER_WEIGHTS, check_adapter
from flyte_llama.model.architectures import check_architecture
from flyte_llama.objective import control_names
from flyte_llama.progress import quiet_libraries
from flyte_llama.tokens import TOKENIZER_FILE, DocumentTokenizer, add_control_tokens, train_tokenizer

BASE_FILE = "base.json"
CLM = ObjectiveConfig()
# Never pickles (*.bin, *.pt) and never code.
SMALL_FILES = ["config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json"]


class PinnedModel(BaseModel):
    """A base model at one revision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Hub id, absolute path, or `scratch`."""

    revision: str
    """The hub's 40-hex commit, `sha256:…` of a folder's files, or empty for a scratch model."""

    adapter: str = ""
    """Hub id or absolute path of the adapter that the base comes with; empty without one."""

    adapter_revision: str = ""
    """Like `revision`, of the adapter."""

    @property
    def is_local(self) -> bool:
        return Path(self.name).is_absolute()


def pin_model(config: ModelConfig) -> PinnedModel:
    """The model as it is now, and the adapter to go on from.

    Raises:
        ModelError: if the hub does not know one of them or cannot be reached, or a folder does not exist.
    """
    name, revision = "scratch", ""
    if not config.is_scratch:
        name, revision = _pin(config.name, config.revision, config.is_local, key="model.name", holding="config.json")
    if config.adapter is None:
        return PinnedModel(name=name, revision=revision)
    adapter, adapter_revision = _pin(
        config.adapter, config.adapter_revision, config.adapter_is_local, key="model.adapter", holding=ADAPTER_CONFIG
    )
    return PinnedModel(name=name, revision=revision, adapter=adapter, adapter_revision=adapter_revision)


def _pin(name: str, revision: str | None, is_local: bool, *, key: str, holding: str) -> tuple[str, str]:
    """Name and revision of a folder, which must hold the file `holding`, or of a hub repository."""
    if is_local:
        folder = Path(name).expanduser().resolve()
        if not (folder / holding).is_file():
            raise ModelError(f"{key} = {name}: {folder} holds no {holding}. Give a folder in hub format.")
        return str(folder), "sha256:" + sha256_folder(folder)
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return name, revision
    from huggingface_hub import HfApi

    try:
        found = HfApi().model_info(name, revision=revision)
    except Exception as error:  # the client raises its own, its transport's and the system's
        raise hub_failure(name, revision or "main", error) from None
    return name, str(found.sha)


def prepare_base(
    pinned: PinnedModel,
    config: ModelConfig,
    texts: Sequence[str],
    *,
    longest_input: int,
    folder: Path,
    objective: ObjectiveConfig = CLM,
    is_trained: bool = True,
) -> None:
    """Fill `folder` with the base's config, tokenizer and `base.json`; with weights too if it is a scratch model.

    Control tokens that the objective needs and the tokenizer lacks are added to it. A scratch model's embeddings have
    rows for them; another base's may have fewer rows than the tokenizer has ids.

    Args:
        texts: Train texts, on which a scratch model's tokenizer is trained.
        longest_input: Most tokens that training or evaluation will give the model at once.
        is_trained: Whether it is to be trained, for which not every architecture will do, or only measured.

    Raises:
        ModelError: if the base needs code of its own, lacks a fast tokenizer, or has too few positions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config.is_scratch:
        _make_scratch(config, texts, folder, objective)
    elif config.is_local:
        copy_small_files(Path(pinned.name), folder)
    else:
        copy_small_files(_download(pinned.name, pinned.revision, SMALL_FILES), folder)
    if pinned.adapter:
        _copy_adapter(pinned, folder / ADAPTER_FOLDER)
    (folder / BASE_FILE).write_text(pinned.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _check(folder, pinned, longest_input, is_trained=is_trained)
    add_control_tokens(folder, control_names(objective, DocumentTokenizer(folder)))


def read_base(folder: Path) -> PinnedModel:
    return PinnedModel.model_validate_json((folder / BASE_FILE).read_text(encoding="utf-8"))


def _make_scratch(config: ModelConfig, texts: Sequence[str], folder: Path, objective: ObjectiveConfig) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    quiet_libraries()
    shape = config.scratch
    train_tokenizer(texts, vocab_size=shape.vocab_size, max_positions=shape.max_positions, folder=folder)
    add_control_tokens(folder, control_names(objective, DocumentTokenizer(folder)))
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


def _download(name: str, revision: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the client raises its own, its transport's and the system's
        raise hub_failure(name, revision, error) from None


def _copy_adapter(pinned: PinnedModel, folder: Path) -> None:
    """Its two files and no others: what an adapter's folder also holds may be a pickle."""
    files = [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
    local = Path(pinned.adapter)
    source = local if local.is_absolute() else _download(pinned.adapter, pinned.adapter_revision, files)
    check_adapter(source, name=pinned.adapter, base=pinned.name)
    folder.mkdir()
    for file in files:
        shutil.copyfile(source / file, folder / file)


def copy_small_files(source: Path, folder: Path) -> None:
    """Copy config and tokenizer, but for what is in `folder` already."""
    for pattern in SMALL_FILES:
        for file in sorted(source.glob(pattern)):
            if not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)


# What architectures call the longest input that they can read.
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")


def _check(folder: Path, pinned: PinnedModel, longest_input: int, *, is_trained: bool) -> None:
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{pinned.name}: its config.json cannot be read ({error}). Save the model anew.") from None
    if not isinstance(config, dict):
        raise ModelError(f"{pinned.name}: its config.json holds no object. Save the model anew.")
    if "auto_map" in config:
        raise ModelError(f"{pinned.name}: its config.json asks to run code of its own (auto_map). Use another base.")
    if is_trained:
        check_architecture(str(config.get("model_type")), name=pinned.name)
    if not (folder / TOKENIZER_FILE).is_file():
        raise ModelError(f"{pinned.name}: has no {TOKENIZER_FILE}. Use a base with a fast tokenizer.")
    positions = next((config[name] for name in _POSITIONS if name in config), None)
    if positions is not None and longest_input > positions:
        raise ModelError(
            f"training.seq_len or evaluation.window = {longest_input}: exceeds the {positions} positions of "
            f"{pinned.name}. Use at most {positions}."
        )


def hub_failure(name: str, revision: str, error: Exception) -> ModelError:
    """What is raised in place of any exception of the hub's client; transient if a second try may succeed."""
    status = getattr(getattr(error, "response", None), "status_code", 500)
    return ModelError(
        f"{name} at {revision}: cannot be had from the hub ({type(error).__name__}). Check name, revision and network; "
        "a gated model needs a token (HF_TOKEN, on a cluster through FLYTE_LLAMA_SECRET_GROUP).",
        transient=status == 429 or status >= 500,
    )
