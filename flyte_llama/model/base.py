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

from flyte_llama.config import Frozen, ModelConfig, ObjectiveConfig, TrainingConfig
from flyte_llama.encoding import (
    ControlTokens,
    DocumentTokenizer,
    add_control_tokens,
    control_names,
    settle_tokenizer,
    train_tokenizer,
    write_control_tokens,
)
from flyte_llama.encoding.control_tokens import unknown_infill_names
from flyte_llama.errors import DataError, ModelError, hub_error
from flyte_llama.model.adapters.files import ADAPTER_CONFIG, copy_adapter
from flyte_llama.model.adapters.skeleton import check_adapters, scratch_config
from flyte_llama.model.adapters.tokens import learned_tokens, renumber_tokens, token_rows_problem
from flyte_llama.model.checks import architecture_problems, config_problems, tokenizer_problems
from flyte_llama.model.config_json import complete_config
from flyte_llama.model.files import (
    ADAPTER_FOLDER,
    download_files,
    find_folder,
    folder_digest,
    verify_pinned,
    verify_sealed,
)
from flyte_llama.progress import quiet_libraries, say, say_once
from flyte_llama.storage import seal

BASE_FILE = "base.json"
# No pickles (*.bin, *.pt, *.pkl) and no code; transformers runs a chat template in a sandbox.
SMALL_FILES = [
    *("config.json", "generation_config.json", "tokenizer*.json", "tokenizer*.model", "special_tokens_map.json"),
    "chat_template.jinja",
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
    training: TrainingConfig | None = None,
) -> None:
    """Write the base's config, tokenizer, adapter and `base.json` to `folder`, which is then sealed.

    A scratch model gets its weights too.

    Control tokens that the objective needs and the tokenizer lacks are added to the tokenizer, and so are those that
    the adapter has learned. `control_tokens.json` records them, by name. Their embedding rows are set when the base is
    loaded, see `token_rows`.

    Args:
        texts: Training texts; the tokenizer of a scratch model is trained on them, one at a time in memory.
        longest_input: The largest number of tokens that the model is given at once in training or evaluation.
        for_training: Whether the model will be trained, which not every architecture supports, or only evaluated.
        training: How it will be trained, to check that the base can be adapted so, and rows of added tokens learned.

    Raises:
        ModelError: if the base asks to run code, lacks a fast tokenizer, or has too few positions; if its tokenizer
            loses characters; if its architecture or its positions cannot be trained on packed rows; if the adapter is
            not a LoRA adapter in safetensors, is of a kind that is not taken, does not fit the base, or has learned
            tokens without names; or if the base cannot be adapted, or the rows of added tokens not learned, as
            `training` says.
        DataError: if a file of the base or the adapter is not as it was pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config.is_scratch:
        train_tokenizer(
            texts, vocab_size=config.scratch.vocab_size, max_positions=config.scratch.max_positions, folder=folder
        )
    elif config.is_local:
        verify_pinned(Path(pinned.name), pinned.revision)
        copy_small_files(Path(pinned.name), folder)
    else:
        copy_small_files(download_files(pinned.name, pinned.revision, SMALL_FILES), folder)
    (folder / BASE_FILE).write_text(pinned.model_dump_json(indent=2) + "\n", encoding="utf-8")
    seq_len = min(training.seq_len, longest_input) if training else 0
    if not config.is_scratch:
        _check_base(folder, pinned, longest_input, for_training=for_training, seq_len=seq_len)
        _settle_tokenizer(folder, pinned)

    # Add the control tokens, those of the adapter first: on the same base they keep their ids.
    known, learned, adapter = DocumentTokenizer(folder), dict[str, int](), None
    if pinned.adapter:
        adapter = folder / ADAPTER_FOLDER
        source = copy_adapter(pinned.adapter, pinned.adapter_revision, adapter, base=pinned.name)
        learned = learned_tokens(source, known, objective, name=pinned.adapter)
    tokens, tokenizer = _add_tokens(folder, known, list(learned), objective)
    if training and tokens.added and (problem := token_rows_problem(training, adapter)):
        raise ModelError(problem)
    if adapter is not None:
        renumber_tokens(adapter, {old: tokens.ids[name] for name, old in learned.items()})

    if config.is_scratch:
        _make_scratch(config, tokenizer, folder)
        _check_base(folder, pinned, longest_input, for_training=for_training, seq_len=seq_len)
    check_adapters(
        folder,
        training,
        name=f"model.name = {pinned.name}",
        adapter=adapter,
        adapter_name=pinned.adapter,
        num_tokens=tokenizer.vocab_size,
        adds_tokens=bool(tokens.added),
        weights=Path(pinned.name) if pinned.is_local else None,
    )
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


def _add_tokens(
    folder: Path, known: DocumentTokenizer, learned: list[str], objective: ObjectiveConfig
) -> tuple[ControlTokens, DocumentTokenizer]:
    """Add the tokens that an adapter has learned and those that the objective needs; record them; the new tokenizer."""
    add_control_tokens(folder, learned)
    needed = control_names(objective, DocumentTokenizer(folder) if learned else known)
    add_control_tokens(folder, needed)
    tokenizer = DocumentTokenizer(folder)
    names = list(dict.fromkeys([*learned, *needed]))
    added = [name for name in names if known.id_of(name) is None]

    # The infill tokens that the base has are recorded too.
    if "fim" in objective.kinds and tokenizer.infill is not None:
        names += [name for id_ in tokenizer.infill if (name := tokenizer.name_of(id_)) and name not in names]
        others = unknown_infill_names([name for id_ in known.control_ids if (name := known.name_of(id_))])
        if others and set(added) & set(needed):
            say_once(
                f"objective.kind = {objective.kind}: the base's tokenizer has {', '.join(others)}, which are the "
                f"infill tokens of no family that is known here. {', '.join(added)} are added beside them"
            )
    ids = {name: id_ for name in names if (id_ := tokenizer.id_of(name)) is not None}
    tokens = ControlTokens(ids, added, objective.new_token_lr_scale)
    write_control_tokens(folder, tokens)
    return tokens, tokenizer


def _make_scratch(config: ModelConfig, tokenizer: DocumentTokenizer, folder: Path) -> None:
    """Write the config and random weights of a Llama for the folder's tokenizer."""
    import torch
    from transformers import LlamaForCausalLM

    quiet_libraries()
    llama = scratch_config(
        config.scratch, vocab_size=tokenizer.vocab_size, bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_id
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        LlamaForCausalLM(llama).save_pretrained(folder)
    complete_config(folder)


def _settle_tokenizer(folder: Path, pinned: PinnedModel) -> None:
    """Write the tokenizer's files so that others encode as here; say what they contradict themselves in."""
    tokenizer = DocumentTokenizer(folder)
    is_plain = tokenizer.bos_ids in ([], [tokenizer.bos_id])
    if decided := settle_tokenizer(folder, puts_bos=bool(tokenizer.bos_ids) if is_plain else None):
        say(f"{pinned.name}: {decided}")


def _check_base(folder: Path, pinned: PinnedModel, longest_input: int, *, for_training: bool, seq_len: int) -> None:
    lengths = {"training.seq_len or evaluation.window": longest_input, "training.seq_len": seq_len}
    problems = config_problems(folder / "config.json", lengths, name=pinned.name, for_training=for_training)
    for problem in problems + tokenizer_problems(folder, name=pinned.name):
        raise ModelError(problem)
