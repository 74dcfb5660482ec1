"""Control tokens: ids that stand for no text, such as `</s>`.

Keep the control tokens of a saved tokenizer out of encoded text, add the ones that an objective needs, and record their
names and ids. Does not encode documents: see `tokenizer`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from flyte_llama.errors import ModelError
from flyte_llama.storage import write_json

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CONTROL_TOKENS_FILE = "control_tokens.json"
"""The record of a prepared base, and of an adapter that was trained on one; see `ControlTokens`."""


class InfillNames(NamedTuple):
    """The names of a family's infill tokens, in the order of `InfillIds`."""

    prefix: str
    suffix: str
    middle: str
    end: str | None
    """None if the family ends a middle with its end of text."""


# One line per family of models trained to infill. A model that has no infill tokens is given `ADDED_INFILL_NAMES`.
INFILL_NAMES = (
    InfillNames("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),  # Code Llama
    InfillNames("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|endoftext|>"),  # Qwen2.5-Coder, Qwen3
    InfillNames("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_separator|>"),  # CodeGemma
    InfillNames("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", None),  # Granite 4
    InfillNames("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|endoftext|>"),  # StarCoder, Granite Code
    InfillNames("<fim_prefix>", "<fim_suffix>", "<fim_middle>", None),  # Granite 3
    InfillNames("<fim-prefix>", "<fim-suffix>", "<fim-middle>", "<|endoftext|>"),  # SantaCoder
    InfillNames("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "<｜end▁of▁sentence｜>"),  # noqa: RUF001  # DeepSeek
    InfillNames("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>", None),  # Seed-Coder
    InfillNames("[PREFIX]", "[SUFFIX]", "[MIDDLE]", None),  # Codestral
)
ADDED_INFILL_NAMES = ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")
_INFILL_TOKENS = frozenset(name for names in INFILL_NAMES for name in names if name is not None)
_CONTROL_TOKEN = re.compile(r"▁?<.+>|\[/?[A-Z][A-Z_]*\]", re.DOTALL)
_LOOKS_LIKE_INFILL = re.compile(r"fim[-_▁]|prefix|suffix|middle", re.IGNORECASE)


class InfillIds(NamedTuple):
    """The control tokens that mark the three parts of an infilled document, and the end of the middle."""

    prefix: int
    suffix: int
    middle: int
    end: int


@dataclass(frozen=True, slots=True)
class ControlTokens:
    """The control tokens that a run works with, by name."""

    ids: dict[str, int]
    """name → id of every control token that the objective needs or that was added to the base's tokenizer."""

    added: list[str] = field(default_factory=list)
    """The names that were added. The base's weights have no rows for them, or rows that were never trained."""

    lr_scale: float = 1.0
    """`objective.new_token_lr_scale`."""

    @property
    def added_ids(self) -> list[int]:
        """The ids of `added`, in ascending order."""
        return sorted(self.ids[name] for name in self.added)


def text_tokenizer(saved: str) -> tuple[Tokenizer, frozenset[int]]:
    """The saved tokenizer, changed so that text never encodes to a control token; and the ids of its control tokens.

    `encode_special_tokens` makes the tokenizer encode the name of a special token as plain text. That leaves two gaps:

    - Some models save tokens such as `<|fim_prefix|>` as not special. They are marked as special here. Other added
      tokens, such as runs of blanks, are text and stay as they are.
    - Code Llama's vocabulary can merge the characters of ` <PRE>` into the control token. Such merges are removed.

    Raises:
        ModelError: if text can still encode to a control token.
    """
    content = json.loads(saved)

    # Mark every control token as special.
    for token in content["added_tokens"]:
        token["special"] = token["special"] or _CONTROL_TOKEN.fullmatch(token["content"]) is not None
    control = {token["content"]: token["id"] for token in content["added_tokens"] if token["special"]}

    # Remove the merges that would spell a control token.
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):
        control |= {name: vocabulary[name] for name in _INFILL_TOKENS if name in vocabulary}
        merges = content["model"].get("merges", [])
        # A merge is a pair of tokens or, in older files, one string with a blank between the two.
        merged_tokens = ("".join(pair) if isinstance(pair, list) else pair.replace(" ", "", 1) for pair in merges)
        text_merges = [pair for pair, merged in zip(merges, merged_tokens, strict=True) if merged not in control]
        if len(text_merges) < len(merges):
            content["model"]["merges"] = text_merges

    tokenizer = Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
    tokenizer.encode_special_tokens = True
    ids = frozenset(control.values())
    _check_text_is_text(tokenizer, sorted(control), ids)
    return tokenizer, ids


def add_control_tokens(folder: Path, names: Sequence[str]) -> None:
    """Add the names that the folder's tokenizer lacks as special tokens, with ids that follow its last one.

    The model's embeddings then need `DocumentTokenizer.vocab_size` rows.

    Raises:
        ModelError: if tokens cannot be added to this kind of tokenizer.
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
        raise ModelError(
            f"{folder}: tokens cannot be added to a {content['model']['type']} tokenizer. Use a base with a BPE one."
        )
    ids = dict(zip(missing, itertools.count(max(known.values()) + 1), strict=False))
    # The library ignores the ids of added tokens that the vocabulary lacks, and numbers them wrongly if ids have a gap.
    # So the earlier added tokens go into the vocabulary too, or they would get other ids than the model learned.
    vocabulary |= {token["content"]: token["id"] for token in content["added_tokens"]} | ids
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content["added_tokens"] += [{"id": id_, "content": name, **flags} for name, id_ in ids.items()]
    write_json(file, content)
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if "added_tokens_decoder" in config:  # transformers also reads added tokens from here
        config["added_tokens_decoder"] |= {str(id_): {"content": name, **flags} for name, id_ in ids.items()}
        write_json(config_file, config)


def write_control_tokens(folder: Path, tokens: ControlTokens) -> None:
    """Write the record to a folder."""
    content = {"ids": tokens.ids, "added": tokens.added, "lr_scale": tokens.lr_scale}
    write_json(folder / CONTROL_TOKENS_FILE, content)


def read_control_tokens(folder: Path) -> ControlTokens | None:
    """Read the record of a prepared base or an adapter; None if the folder has none, as earlier versions wrote it.

    Raises:
        ModelError: if the file is damaged.
    """
    file = folder / CONTROL_TOKENS_FILE
    if not file.is_file():
        return None
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        ids = {str(name): int(id_) for name, id_ in content["ids"].items()}
        added = [str(name) for name in content["added"]]
        if not set(added) <= ids.keys():
            raise ValueError("an added token has no id")
        return ControlTokens(ids, added, float(content["lr_scale"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read ({error}). Write the folder again.") from None


def unknown_infill_names(names: Sequence[str]) -> list[str]:
    """Those of the names of control tokens that look as if they marked an infilling, but belong to no known family."""
    return sorted(name for name in names if _LOOKS_LIKE_INFILL.search(name) and name not in _INFILL_TOKENS)


def _check_text_is_text(tokenizer: Tokenizer, names: Sequence[str], ids: frozenset[int]) -> None:
    texts = [text for name in names for text in (name, name.replace("▁", " "), f"a{name}b", f"a {name}\n")]
    for text, encoding in zip(texts, tokenizer.encode_batch_fast(texts, add_special_tokens=False), strict=True):
        if not ids.isdisjoint(encoding.ids):
            raise ModelError(f"The tokenizer reads a control token out of the plain text {text!r}. Use another base.")
