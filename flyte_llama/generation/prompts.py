"""Prompts of at most so many ids: what stands before a place in a text, and for infilling what stands behind it.

Infilling is in the layouts of training (`objective/layout.py`), as far as the model is to go on from them:

    PSM   BOS <PRE> prefix <SUF> suffix <MID>
    SPM   BOS <PRE> <SUF> suffix <MID> prefix
"""

from __future__ import annotations

import re

import numpy as np

from flyte_llama.tokens import DocumentTokenizer, InfillIds

LEFT_TO_RIGHT, PSM, SPM = "left-to-right", "PSM", "SPM"
# No text of so many characters a token is worth encoding whole to take its end.
_CHARS_A_TOKEN = 16
_NUM_CONTROL = 3


def plain_prompt(prefix: str, tokenizer: DocumentTokenizer, *, most: int) -> np.ndarray:
    """The start of a text and the last lines of the prefix, at most `most` ids."""
    return tokenizer.started(_last(prefix, tokenizer, most - 1))


def infill_prompt(
    prefix: str, suffix: str, tokenizer: DocumentTokenizer, tokens: InfillIds, *, layout: str, most: int
) -> np.ndarray:
    """At most `most` ids: the suffix is cut to a quarter of them, or to what the prefix leaves if that is more.

    Args:
        layout: PSM or SPM.
    """
    room = most - _NUM_CONTROL - len(tokenizer.head)
    behind = _first(suffix, tokenizer, room // 4)
    before = _last(prefix, tokenizer, room - len(behind))
    behind = _first(suffix, tokenizer, room - len(before))
    if layout == PSM:
        ids = [tokens.prefix, *before, tokens.suffix, *behind, tokens.middle]
    else:
        ids = [tokens.prefix, tokens.suffix, *behind, tokens.middle, *before]
    return np.asarray([*tokenizer.head, *ids], dtype=np.int32)


def _last(text: str, tokenizer: DocumentTokenizer, most: int) -> np.ndarray:
    """The ids of as many last lines as fit; of a line that does not, its last ids."""
    text = text[max(0, len(text) - _CHARS_A_TOKEN * most) :]
    ids = tokenizer.encode_batch([text])[0]
    if len(ids) <= most:
        return ids
    # Fewer lines are fewer ids, so the first line that fits is searched for by halves.
    begins = [found.end() for found in re.finditer("\n", text) if found.end() < len(text)]
    fitting = np.empty(0, np.int32)
    low, high = 0, len(begins)
    while low < high:
        middle = (low + high) // 2
        some = tokenizer.encode_batch([text[begins[middle] :]])[0]
        if len(some) <= most:
            high, fitting = middle, some
        else:
            low = middle + 1
    return fitting if len(fitting) else ids[len(ids) - most :]


def _first(text: str, tokenizer: DocumentTokenizer, most: int) -> np.ndarray:
    return tokenizer.encode_infix([text[: _CHARS_A_TOKEN * most]])[0][:most]
