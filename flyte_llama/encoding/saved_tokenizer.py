"""What the files of a saved tokenizer say: the rules, the names of BOS and EOS, and whether BOS is put before a text.

    tokenizer.json            vocabulary, rules, and a post-processor that may put BOS before a text
    tokenizer_config.json     the names of BOS and EOS, and the class of transformers that loads the files
    special_tokens_map.json   the names of BOS and EOS in older models
    config.json               the id of EOS and the class of the model's tokenizer, if no other file names them

They are read as transformers 5 reads them: the post-processor decides about BOS, and `add_bos_token` is not read. Does
not encode: see `tokenizer`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from flyte_llama.encoding.control_tokens import TOKENIZER_CONFIG, TOKENIZER_FILE
from flyte_llama.errors import ModelError
from flyte_llama.storage import write_json

SPECIAL_TOKENS_MAP, ADD_BOS = "special_tokens_map.json", "add_bos_token"
# Classes of transformers that put BOS, or none, whatever the post-processor of tokenizer.json does.
_PUT_BOS = {"CodeLlamaTokenizer": True, "GPTNeoXTokenizer": False}
# Models that have the second one if tokenizer_config.json names no class.
_NEOX_MODELS = {"falcon_mamba", "gpt_neox", "mamba", "mamba2", "mpt", "olmo", "olmoe", "rwkv", "xlstm"}


class SavedTokenizer(NamedTuple):
    """What the files of a folder say."""

    rules: str
    """The content of tokenizer.json, without settings of a past call."""

    bos: str | None
    """The name of BOS; a tokenizer may name one and never use it."""

    eos: str | None
    """The name of EOS."""

    eos_id: int | None
    """The id of EOS in the model's config.json; for tokenizers that name no EOS, such as GPT-2's."""

    puts_bos: bool | None
    """Whether the tokenizer's class puts BOS before a text; None leaves it to the post-processor."""


def read_saved_tokenizer(folder: Path) -> SavedTokenizer:
    """Read the tokenizer files of a folder in the hub's format.

    Raises:
        ModelError: if a file is missing or damaged.
    """
    if not (folder / TOKENIZER_FILE).is_file():
        raise ModelError(f"{folder}: holds no {TOKENIZER_FILE}. Save the model's fast tokenizer there.")
    try:
        rules = drop_call_settings((folder / TOKENIZER_FILE).read_bytes().decode("utf-8"))
        config: dict[str, Any] = json.loads((folder / TOKENIZER_CONFIG).read_text(encoding="utf-8"))
        names = dict(config)
        # Newer files list their added tokens; transformers reads the names of older ones from a second file.
        if "added_tokens_decoder" not in config and (folder / SPECIAL_TOKENS_MAP).is_file():
            names |= json.loads((folder / SPECIAL_TOKENS_MAP).read_text(encoding="utf-8"))
        bos, eos = _token_name(names.get("bos_token")), _token_name(names.get("eos_token"))
        model = _read_model_config(folder / "config.json")
        class_name = config.get("tokenizer_class")
        if not class_name and model.get("model_type") in _NEOX_MODELS:
            class_name = "GPTNeoXTokenizer"
        puts_bos = _PUT_BOS.get(str(class_name).removesuffix("Fast"))
        return SavedTokenizer(rules, bos, eos, _first_id(model.get("eos_token_id")), puts_bos)
    except ModelError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{folder}: {TOKENIZER_FILE} or {TOKENIZER_CONFIG} is missing or damaged ({error}). Save the model's "
            "tokenizer again."
        ) from None


def drop_call_settings(rules: str) -> str:
    """Return the content of a tokenizer.json without truncation, padding and dropout; unchanged if it has none.

    transformers stores there how a text was encoded last. Others then cut, pad or vary every text that they encode.
    """
    content = json.loads(rules)
    model = content["model"]
    is_set = [content.get("truncation"), content.get("padding"), model.get("dropout"), model.get("nbest_size")]
    if all(setting is None for setting in is_set):
        return rules
    content |= {"truncation": None, "padding": None}
    for sampling in ("dropout", "nbest_size", "alpha"):
        if sampling in model:
            model[sampling] = None
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def settle_tokenizer(folder: Path, *, puts_bos: bool | None) -> str | None:
    """Write tokenizer files that every reader reads alike; return in words what had to be decided, if anything.

    Truncation, padding and dropout go. `add_bos_token`, which transformers 4 reads in place of the post-processor, is
    set to what is done here.

    Args:
        puts_bos: Whether BOS is put before a text; None if something else than BOS is.
    """
    file, config_file = folder / TOKENIZER_FILE, folder / TOKENIZER_CONFIG
    saved = file.read_bytes().decode("utf-8")
    rules = drop_call_settings(saved)
    if rules != saved:
        file.write_bytes(rules.encode("utf-8"))
    config = json.loads(config_file.read_text(encoding="utf-8"))
    stated = config.get(ADD_BOS)
    if puts_bos is None or stated is puts_bos or (stated is None and not config.get("bos_token")):
        return None
    config[ADD_BOS] = puts_bos
    write_json(config_file, config)
    if stated is None:
        return None
    done, why = ("BOS is put before every text", "does") if puts_bos else ("no BOS is put before a text", "does not")
    return f"{TOKENIZER_CONFIG} has {ADD_BOS} = {str(stated).lower()}, but {TOKENIZER_FILE} {why} put one: {done}"


def _token_name(token: Any) -> str | None:
    """The name of a token, which is written as its name or as an object."""
    name = token.get("content") if isinstance(token, dict) else token
    if token is not None and not isinstance(name, str):
        raise ModelError(f"{TOKENIZER_CONFIG} names a token that is no text: {token!r}. Save the tokenizer again.")
    return name


def _read_model_config(file: Path) -> dict[str, Any]:
    """The content of the model's config.json; empty without one, or if it is damaged: who loads the model says so."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _first_id(ids: Any) -> int | None:
    """The id, or the first of several: the end of a text, as chat models list others after it."""
    first = ids[0] if isinstance(ids, list) and ids else ids
    return first if isinstance(first, int) and not isinstance(first, bool) else None
