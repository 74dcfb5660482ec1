"""Pin a base model, and prepare a small folder in the hub's format that later steps use in its place.

For a hub model the folder holds its config and tokenizer, a few megabytes, and `base.json`, which names where the
weights are. So a pod that only tokenises does not download 13 GB, and GPU pods load the weights from the hub at the
pinned commit. For a scratch model, which is small, the folder holds the weights too. Does not load a model.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from flyte_llama.config import Frozen, ModelConfig, ObjectiveConfig
from flyte_llama.encoding import DocumentTokenizer, add_control_tokens, control_names, train_tokenizer
from flyte_llama.errors import DataError, ModelError, hub_error
from flyte_llama.model.adapters import ADAPTER_CONFIG, ADAPTER_FOLDER, ADAPTER_WEIGHTS, check_adapter
from flyte_llama.model.checks import architecture_problems, config_problems, tokenizer_problems
from flyte_llama.model.files import download_files, find_folder, folder_digest, verify_pinned, verify_sealed
from flyte_llama.progress import quiet_libraries
from flyte_llama.storage import seal

BASE_FILE = "base.json"
# No pickles (*.bin, *.pt, *.pkl) and no code.
SMALL_FILES = [
    *("config.json", "generation_config.json", "tokenizer*.json", "tokenizer*.model", "special_tokens_map.json")
]
CLM = ObjectiveConfig()


class PinnedModel(Frozen):
    """A base model at one revision."""

    name: str
    """Hub id, absolute path, or `scratch`."""

    revision: str
    """The 40-hex commit on the hub, `sha256:…` of a local folder, or empty for a scratch model."""

    adapter: str = ""
    """Hub id or absolute path of the adapter on the base; empty without one."""

    adapter_revision: str = ""
    """Like `revision`, for the adapter."""

    @property
    def is_local(self) -> bool:
        """Whether the weights are in a local folder."""
        return Path(self.name).is_absolute()

    @property
    def identity(self) -> str:
        """What measurements of the model record of it: its revision and its adapter's, or `scratch`."""
        return "+".join(filter(None, (self.revision or self.name, self.adapter_revision)))


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
    texts: Iterable[str],
    *,
    longest_input: int,
    folder: Path,
    objective: ObjectiveConfig = CLM,
    for_training: bool = True,
) -> None:
    """Write the base's config, tokenizer, adapter and `base.json` to `folder`, which is then sealed.

    A scratch model gets its weights too.

    Control tokens that the objective needs and the tokenizer lacks are added to the tokenizer. A scratch model gets
    embedding rows for them. Other bases get these rows only when they are loaded.

    Args:
        texts: Training texts; the tokenizer of a scratch model is trained on them, one at a time in memory.
        longest_input: The largest number of tokens that the model is given at once in training or evaluation.
        for_training: Whether the model will be trained, which not every architecture supports, or only evaluated.

    Raises:
        ModelError: if the base asks to run code, lacks a fast tokenizer, or has too few positions; if its architecture
            cannot be trained on packed rows; or if the adapter is not a LoRA adapter in safetensors.
        DataError: if a file of the base or the adapter is not as it was pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config.is_scratch:
        _make_scratch(config, texts, folder, objective)
    elif config.is_local:
        verify_pinned(Path(pinned.name), pinned.revision)
        copy_small_files(Path(pinned.name), folder)
    else:
        copy_small_files(download_files(pinned.name, pinned.revision, SMALL_FILES), folder)
    if pinned.adapter:
        _copy_adapter(pinned, folder / ADAPTER_FOLDER)
    (folder / BASE_FILE).write_text(pinned.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _check_base(folder, pinned, longest_input, for_training=for_training)
    add_control_tokens(folder, control_names(objective, DocumentTokenizer(folder)))
    seal(folder)


def read_base(folder: Path) -> PinnedModel:
    """Read from a prepared base which model and revision it was made from."""
    return PinnedModel.model_validate_json((folder / BASE_FILE).read_text(encoding="utf-8"))


def model_identity(folder: Path) -> str:
    """What measurements of a folder's model record of it: `PinnedModel.identity`, or the digest of the folder.

    Raises:
        DataError: as for `verify_base`.
    """
    verify_base(folder)
    return read_base(folder).identity if (folder / BASE_FILE).is_file() else folder_digest(folder)


def verify_base(folder: Path) -> None:
    """Check the folder of a model before it is loaded.

    Raises:
        DataError: if a file differs from the manifest, or if a prepared base has no manifest.
    """
    if verify_sealed(folder) is None and (folder / BASE_FILE).is_file():
        raise DataError(f"{folder}: has no manifest, so it is not a finished base. Prepare the base again.")


def copy_small_files(source: Path, folder: Path) -> None:
    """Copy the config and tokenizer files that `folder` does not have yet."""
    for pattern in SMALL_FILES:
        for file in sorted(source.glob(pattern)):
            if file.is_file() and not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)


def check_architecture(model_type: str, *, name: str) -> None:
    """Check that the architecture is tested on packed rows.

    Raises:
        ModelError: if it is not in `TESTED_ARCHITECTURES`.
    """
    for problem in architecture_problems(model_type, name=f"model.name = {name}"):
        raise ModelError(problem)


def _pin(name: str, revision: str | None, is_local: bool, *, key: str, holding: str) -> tuple[str, str]:
    """The name and revision of a hub repository, or of a folder, which must hold the file `holding`."""
    if is_local:
        folder = find_folder(name, name=f"{key} = {name}")
        if not (folder / holding).is_file():
            raise ModelError(f"{key} = {name}: {folder} holds no {holding}. Give a folder in hub format.")
        return str(folder), folder_digest(folder)
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return name, revision
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(name, revision=revision)
    except Exception as error:  # raised by the client, its transport or the system
        raise hub_error(name, revision or "main", error) from None
    return name, str(info.sha)


def _make_scratch(config: ModelConfig, texts: Iterable[str], folder: Path, objective: ObjectiveConfig) -> None:
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


def _copy_adapter(pinned: PinnedModel, folder: Path) -> None:
    """Copy the two files of the adapter and no others, since the rest of its folder may hold pickles."""
    files = [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
    local = Path(pinned.adapter)
    if local.is_absolute():
        verify_pinned(local, pinned.adapter_revision, key="model.adapter")
    source = local if local.is_absolute() else download_files(pinned.adapter, pinned.adapter_revision, files)
    check_adapter(source, name=pinned.adapter, base=pinned.name)
    folder.mkdir()
    for file in files:
        shutil.copyfile(source / file, folder / file)


def _check_base(folder: Path, pinned: PinnedModel, longest_input: int, *, for_training: bool) -> None:
    lengths = {"training.seq_len or evaluation.window": longest_input}
    problems = config_problems(folder / "config.json", lengths, name=pinned.name, for_training=for_training)
    for problem in problems + tokenizer_problems(folder, name=pinned.name):
        raise ModelError(problem)
