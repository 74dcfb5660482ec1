"""Control tokens: ids that stand for no text. Found by name, kept out of text, added where they are missing."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from flyte_llama.errors import ModelError

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"


class InfillIds(NamedTuple):
    """What marks the three parts of a document, and the end of the middle."""

    prefix: int
    suffix: int
    middle: int
    end: int


# Names in the order of `InfillIds`, of the models that were trained to infill; the first is what others are given.
INFILL_NAMES = (
    ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),  # Code Llama
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|endoftext|>"),  # Qwen2.5-Coder
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|endoftext|>"),  # StarCoder2
)
_CONTROL_TOKEN = re.compile(r"▁?<.+>", re.DOTALL)


def text_tokenizer(saved: str) -> tuple[Tokenizer, frozenset[int]]:
    """The saved tokenizer, but for it that it never reads a control token out of text; and the control tokens' ids.

    Three things stand in the way. `encode_special_tokens` keeps special tokens as text. Some models save their
    `<|fim_prefix|>` as not special, which is put right here; other added tokens, runs of blanks say, are text and stay
    what they are. And Code Llama's vocabulary can merge the characters of ` <PRE>` into the very control token:
    such merges are left out.

    Raises:
        ModelError: if a control token still comes out of text.
    """
    content = json.loads(saved)
    for token in content["added_tokens"]:
        token["special"] = token["special"] or _CONTROL_TOKEN.fullmatch(token["content"]) is not None
    control = {token["content"]: token["id"] for token in content["added_tokens"] if token["special"]}
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):
        control |= {name: vocabulary[name] for names in INFILL_NAMES for name in names if name in vocabulary}
        merges = content["model"].get("merges", [])
        # A merge is a pair, or in older files a pair's text with a blank between.
        joined = ("".join(pair) if isinstance(pair, list) else pair.replace(" ", "", 1) for pair in merges)
        kept = [pair for pair, whole in zip(merges, joined, strict=True) if whole not in control]
        if len(kept) < len(merges):
            content["model"]["merges"] = kept
    tokenizer = Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
    tokenizer.encode_special_tokens = True
    ids = frozenset(control.values())
    _check_text_is_text(tokenizer, sorted(control), ids)
    return tokenizer, ids


def _check_text_is_text(tokenizer: Tokenizer, names: Sequence[str], ids: frozenset[int]) -> None:
    probes = [form for name in names for form in (name, name.replace("▁", " "), f"a{name}b", f"a {name}\n")]
    for probe, encoding in zip(probes, tokenizer.encode_batch_fast(probes, add_special_tokens=False), strict=True):
        if not ids.isdisjoint(encoding.ids):
            raise ModelError(f"The tokenizer reads a control token out of the plain text {probe!r}. Use another base.")


def add_control_tokens(folder: Path, names: Sequence[str]) -> None:
    """Add those of the names that the tokenizer of the folder lacks, behind its last id, as special tokens.

    The model's embeddings then need `DocumentTokenizer.vocab_size` rows.

    Raises:
        ModelError: if the tokenizer is of a kind to which none can be added.
    """
    file, config_file = folder / TOKENIZER_FILE, folder / TOKENIZER_CONFIG
    content = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    known = {token["content"]: token["id"] for token in content["added_tokens"]}
    if isinstance(vocabulary, dict):
        known |= vocabulary
    missing = [name for name in names if name not in known]
    if not missing:
        return
    if not isinstance(vocabulary, dict):
        raise ModelError(f"{folder}: tokens cannot be added to a {content['model']['type']} model. Use a BPE base.")
    ids = dict(zip(missing, itertools.count(max(known.values()) + 1), strict=False))
    # The library numbers added tokens by itself, wrongly behind a gap, unless the vocabulary has them too.
    vocabulary |= ids
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content["added_tokens"] += [{"id": id_, "content": name, **flags} for name, id_ in ids.items()]
    _write_json(file, content)
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if "added_tokens_decoder" in config:  # transformers reads added tokens from here too, where it is present
        config["added_tokens_decoder"] |= {str(id_): {"content": name, **flags} for name, id_ in ids.items()}
        _write_json(config_file, config)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
