"""Control tokens: ids that stand for no text, such as `</s>`.

Keep the control tokens of a saved tokenizer out of encoded text, and add the ones that an objective needs. Does not
encode documents: see `tokenizer`.
"""

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
# One line per family of models trained to infill, each in the order of `InfillIds`. A model that has no infill tokens
# is given the first line's names.
INFILL_NAMES = (
    ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),  # Code Llama
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|endoftext|>"),  # Qwen2.5-Coder
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|endoftext|>"),  # StarCoder2
)
_CONTROL_TOKEN = re.compile(r"▁?<.+>", re.DOTALL)


class InfillIds(NamedTuple):
    """The control tokens that mark the three parts of an infilled document, and the end of the middle."""

    prefix: int
    suffix: int
    middle: int
    end: int


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
        control |= {name: vocabulary[name] for names in INFILL_NAMES for name in names if name in vocabulary}
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
    vocabulary |= ids
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content["added_tokens"] += [{"id": id_, "content": name, **flags} for name, id_ in ids.items()]
    _write_json(file, content)
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if "added_tokens_decoder" in config:  # transformers also reads added tokens from here
        config["added_tokens_decoder"] |= {str(id_): {"content": name, **flags} for name, id_ in ids.items()}
        _write_json(config_file, config)


def _check_text_is_text(tokenizer: Tokenizer, names: Sequence[str], ids: frozenset[int]) -> None:
    texts = [text for name in names for text in (name, name.replace("▁", " "), f"a{name}b", f"a {name}\n")]
    for text, encoding in zip(texts, tokenizer.encode_batch_fast(texts, add_special_tokens=False), strict=True):
        if not ids.isdisjoint(encoding.ids):
            raise ModelError(f"The tokenizer reads a control token out of the plain text {text!r}. Use another base.")


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
