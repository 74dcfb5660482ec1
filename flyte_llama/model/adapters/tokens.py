"""The tokens whose embedding rows an adapter has learned: name → id, and their ids on another base.

An adapter stores rows by number. Their names tell which tokens of another base they belong to: the names in its record
`control_tokens.json`, which this package writes, or in the tokenizer beside it, or else in the base's own tokenizer.
Does not read weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyte_llama.config import ObjectiveConfig, TrainingConfig
from flyte_llama.encoding import TOKENIZER_FILE, DocumentTokenizer, control_names, read_control_tokens
from flyte_llama.encoding.control_tokens import text_tokenizer
from flyte_llama.errors import ModelError
from flyte_llama.model.adapters.files import ADAPTER_CONFIG, learned_ids, read_adapter_config
from flyte_llama.progress import say_once
from flyte_llama.storage import write_json

_KEY = "trainable_token_indices"

_EMBEDDINGS = frozenset(("embed_tokens", "lm_head", "embed_in", "embed_out"))
"""What the tested architectures call their input and output embeddings."""


def learned_tokens(
    adapter: Path, tokenizer: DocumentTokenizer, objective: ObjectiveConfig, *, name: str
) -> dict[str, int]:
    """The tokens whose rows the adapter has learned, name → id on the base that it was trained on, in the ids' order.

    Args:
        tokenizer: The tokenizer of the base that the adapter is put on, before any token is added to it.
        objective: The objective of the new run. An adapter of an earlier version of this package names no tokens: if
            it has learned as many as this objective adds, at the same ids, they are taken to be these.
        name: The adapter, for messages.

    Raises:
        ModelError: if a token has no name, or is a token of text that the base lacks.
    """
    key = f"model.adapter = {name}"
    ids = learned_ids(read_adapter_config(adapter, name=key), name=key)
    if not ids:
        return {}
    names = _names_by_id(adapter, tokenizer, name=name)
    unnamed = [id_ for id_ in ids if id_ not in names]
    if unnamed:
        added = [each for each in control_names(objective, tokenizer) if tokenizer.id_of(each) is None]
        expected = list(range(tokenizer.vocab_size, tokenizer.vocab_size + len(added)))
        if unnamed != expected:
            raise ModelError(
                f"model.adapter = {name}: has learned the embedding rows of {len(unnamed)} tokens that the base's "
                f"tokenizer lacks (ids {unnamed[0]} to {unnamed[-1]}), and tells no names for them, so the "
                f"{len(added)} tokens that objective.kind = '{objective.kind}' adds may be others. Use the objective "
                "that the adapter was trained with, put the tokenizer.json of that run beside the adapter, or give "
                "the merged model of that run as model.name."
            )
        say_once(f"model.adapter = {name}: tells no names for its tokens; they are taken for {', '.join(added)}")
        names |= dict(zip(unnamed, added, strict=True))
    return {names[id_]: id_ for id_ in ids}


def renumber_tokens(adapter: Path, ids: Mapping[int, int]) -> None:
    """Write other ids into the configuration of an adapter: old id → new id of every token that it has learned."""
    if all(old == new for old, new in ids.items()):
        return
    file = adapter / ADAPTER_CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    rows = config[_KEY]
    if isinstance(rows, dict):
        config[_KEY] = {module: [ids[id_] for id_ in of_module] for module, of_module in rows.items()}
    else:
        config[_KEY] = [ids[id_] for id_ in rows]
    write_json(file, config)


def token_rows_problem(training: TrainingConfig, adapter: Path | None = None) -> str:
    """Why this training cannot learn the rows of new control tokens: the key and the reason; empty if it can.

    Adapters learn the rows by a layer of their own, which peft can neither put around another adapter nor, at ZeRO
    stage 3, around rows that are split over the processes.

    Args:
        adapter: The adapter to continue, whose layers count then; None without one.
    """
    if training.method == "full":
        return ""
    key, targets = f"training.lora.target_modules = {training.lora.target_modules}", training.lora.target_modules
    if adapter is not None:
        saved: Any = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("target_modules")
        key, targets = "model.adapter", [saved] if isinstance(saved, str) else list(saved or [])
    embeddings = sorted(_EMBEDDINGS.intersection(name.rpartition(".")[2] for name in targets))
    if embeddings:
        remedy = "Leave that out" if adapter is None else "Continue another adapter"
        return (
            f"{key}: the objective needs control tokens that the base lacks, and their rows cannot be learned beside "
            f"an adapter on {' and '.join(embeddings)}. {remedy}, or use training.method = 'full'."
        )
    if training.deepspeed.zero_stage == 3:
        return (
            "training.deepspeed.zero_stage = 3: the objective needs control tokens that the base lacks, and adapters "
            "cannot learn their rows there. Use stage 2 or less, or training.method = 'full'."
        )
    return ""


def _names_by_id(adapter: Path, tokenizer: DocumentTokenizer, *, name: str) -> dict[int, str]:
    """The names of all ids on the adapter's base, as far as they are known."""
    names: dict[int, str] = {}
    if (adapter / TOKENIZER_FILE).is_file():
        try:
            saved, control_ids = text_tokenizer((adapter / TOKENIZER_FILE).read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare `Exception`s
            raise ModelError(
                f"model.adapter = {name}: its {TOKENIZER_FILE} cannot be read ({error}). Save it again, or remove it."
            ) from None
        names = {id_: token for token, id_ in saved.get_vocab(with_added_tokens=True).items()}
        # A control token is added to the base, but a token of text would change how every text is encoded.
        names = {id_: token for id_, token in names.items() if id_ in control_ids or tokenizer.id_of(token) is not None}
    else:
        for id_ in range(tokenizer.vocab_size):
            if (token := tokenizer.name_of(id_)) is not None:
                names[id_] = token
    record = read_control_tokens(adapter)
    if record is not None:
        names |= {id_: token for token, id_ in record.ids.items()}
    return names
