"""Pin a base model, and prepare a small folder in the hub's format that later steps use in its place.

For a hub model the folder holds its config and tokenizer, a few megabytes, and `base.json`, which names where the
weights are. So a pod that only tokenises does not download 13 GB, and GPU pods load the weights from the hub at the
pinned commit. For a scratch model, which is small, the folder holds the weights too. Does not load a model.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flyte_llama.config import Frozen, ModelConfig, ObjectiveConfig, positions_problems
from flyte_llama.encoding import TOKENIZER_FILE, DocumentTokenizer, add_control_tokens, control_names, train_tokenizer
from flyte_llama.errors import ModelError, hub_error
from flyte_llama.model.adapters import ADAPTER_CONFIG, ADAPTER_FOLDER, ADAPTER_WEIGHTS, check_adapter
from flyte_llama.progress import quiet_libraries
from flyte_llama.storage import sha256_folder

BASE_FILE = "base.json"
# No pickles (*.bin, *.pt) and no code.
SMALL_FILES = ["config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json"]
CLM = ObjectiveConfig()

TESTED_ARCHITECTURES = ("gpt_neox", "llama", "mistral", "qwen2", "qwen3", "starcoder2")
"""The architectures that can be trained on packed rows, as `model_type` names them in config.json.

Tests show that each keeps the documents of a row apart. In Jamba, Mamba, Falcon or OPT, documents of a row see each
other without any error, because some layers are not attention, or the attention does not receive the positions. Gemma 2
and Granite change the logits after the output head, which the lean loss would leave out. Both faults are silent, so
all other architectures are refused."""

# The names that architectures use for their longest input, in tokens.
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")


class PinnedModel(Frozen):
    """A base model at one revision."""

    name: str
    """Hub id, absolute path, or `scratch`."""

    revision: str
    """The 40-hex commit on the hub, `sha256:…` of a folder's files, or empty for a scratch model."""

    adapter: str = ""
    """Hub id or absolute path of the adapter on the base; empty without one."""

    adapter_revision: str = ""
    """Like `revision`, for the adapter."""

    @property
    def is_local(self) -> bool:
        """Whether the weights are in a local folder."""
        return Path(self.name).is_absolute()


def pin_model(config: ModelConfig) -> PinnedModel:
    """Pin the model, and the adapter to continue if there is one, to their present revisions.

    Raises:
        ModelError: if the hub cannot be reached or does not have one of them, or a local folder does not exist.
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


def prepare_base(
    pinned: PinnedModel,
    config: ModelConfig,
    texts: Sequence[str],
    *,
    longest_input: int,
    folder: Path,
    objective: ObjectiveConfig = CLM,
    for_training: bool = True,
) -> None:
    """Write the base's config, tokenizer, adapter and `base.json` to `folder`, and the weights of a scratch model.

    Control tokens that the objective needs and the tokenizer lacks are added to the tokenizer. A scratch model gets
    embedding rows for them. Other bases get these rows only when they are loaded.

    Args:
        texts: Training texts; the tokenizer of a scratch model is trained on them.
        longest_input: The largest number of tokens that the model is given at once in training or evaluation.
        for_training: Whether the model will be trained, which not every architecture supports, or only evaluated.

    Raises:
        ModelError: if the base asks to run code, lacks a fast tokenizer, or has too few positions; if its architecture
            cannot be trained on packed rows; or if the adapter is not a LoRA adapter in safetensors.
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
    _check_base(folder, pinned, longest_input, for_training=for_training)
    add_control_tokens(folder, control_names(objective, DocumentTokenizer(folder)))


def read_base(folder: Path) -> PinnedModel:
    """Read from a prepared base which model and revision it was made from."""
    return PinnedModel.model_validate_json((folder / BASE_FILE).read_text(encoding="utf-8"))


def copy_small_files(source: Path, folder: Path) -> None:
    """Copy the config and tokenizer files that `folder` does not have yet."""
    for pattern in SMALL_FILES:
        for file in sorted(source.glob(pattern)):
            if not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)


def check_architecture(model_type: str, *, name: str) -> None:
    """Check that the architecture is tested on packed rows.

    Raises:
        ModelError: if it is not in `TESTED_ARCHITECTURES`.
    """
    if model_type not in TESTED_ARCHITECTURES:
        raise ModelError(
            f"model.name = {name}: is a {model_type}, an architecture not tested to keep the documents of a packed row "
            f"apart. Use one of {', '.join(TESTED_ARCHITECTURES)}."
        )


def _pin(name: str, revision: str | None, is_local: bool, *, key: str, holding: str) -> tuple[str, str]:
    """The name and revision of a hub repository, or of a folder, which must hold the file `holding`."""
    if is_local:
        folder = Path(name).expanduser().resolve()
        if not (folder / holding).is_file():
            raise ModelError(f"{key} = {name}: {folder} holds no {holding}. Give a folder in hub format.")
        return str(folder), "sha256:" + sha256_folder(folder)
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return name, revision
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(name, revision=revision)
    except Exception as error:  # raised by the client, its transport or the system
        raise hub_error(name, revision or "main", error) from None
    return name, str(info.sha)


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
    except Exception as error:  # raised by the client, its transport or the system
        raise hub_error(name, revision, error) from None


def _copy_adapter(pinned: PinnedModel, folder: Path) -> None:
    """Copy the two files of the adapter and no others, since the rest of its folder may hold pickles."""
    files = [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
    local = Path(pinned.adapter)
    source = local if local.is_absolute() else _download(pinned.adapter, pinned.adapter_revision, files)
    check_adapter(source, name=pinned.adapter, base=pinned.name)
    folder.mkdir()
    for file in files:
        shutil.copyfile(source / file, folder / file)


def _check_base(folder: Path, pinned: PinnedModel, longest_input: int, *, for_training: bool) -> None:
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{pinned.name}: its config.json cannot be read ({error}). Save the model again.") from None
    if not isinstance(config, dict):
        raise ModelError(f"{pinned.name}: its config.json is not a JSON object. Save the model again.")
    if "auto_map" in config:
        raise ModelError(
            f"{pinned.name}: its config.json asks to run code from the model's repository (auto_map). Use another base."
        )
    if for_training:
        check_architecture(str(config.get("model_type")), name=pinned.name)
    if not (folder / TOKENIZER_FILE).is_file():
        raise ModelError(f"{pinned.name}: has no {TOKENIZER_FILE}. Use a base with a fast tokenizer.")
    positions = next((config[name] for name in _POSITIONS if name in config), None)
    for problem in positions_problems(
        {"training.seq_len or evaluation.window": longest_input},
        positions,
        limit=f"the {positions} positions of {pinned.name}",
    ):
        raise ModelError(problem)
