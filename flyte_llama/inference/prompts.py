"""Prompts of limited length for a position in a text: the text before it, and for infilling also the text after it.

Infill prompts have the layouts of training (`encoding.objectives`), up to where the model continues with the middle:

    PSM   BOS <PRE> prefix <SUF> suffix <MID>
    SPM   BOS <PRE> <SUF> suffix <MID> prefix
"""

from __future__ import annotations

import re

import numpy as np

from flyte_llama.encoding import DocumentTokenizer, InfillIds

LEFT_TO_RIGHT, PSM, SPM = "left-to-right", "PSM", "SPM"
# Texts are cut to this many characters per id before encoding: only one end of a long text is needed.
_CHARS_PER_ID = 16
# <PRE>, <SUF> and <MID>
_NUM_CONTROL = 3


def plain_prompt(prefix: str, tokenizer: DocumentTokenizer, *, max_ids: int) -> np.ndarray:
    """Return the id that starts a text and the last lines of the prefix, at most `max_ids` ids together."""
    return tokenizer.add_start_id(_encode_last_lines(prefix, tokenizer, max_ids - 1))


def infill_prompt(
    prefix: str, suffix: str, tokenizer: DocumentTokenizer, tokens: InfillIds, *, layout: str, max_ids: int
) -> np.ndarray:
    """Return an infill prompt of at most `max_ids` ids.

    The suffix is cut to a quarter of the ids, or to all that the prefix leaves free, if that is more.

    Args:
        layout: PSM or SPM.
    """
    room = max_ids - _NUM_CONTROL - len(tokenizer.bos_ids)
    suffix_ids = _encode_beginning(suffix, tokenizer, room // 4)
    prefix_ids = _encode_last_lines(prefix, tokenizer, room - len(suffix_ids))
    # The prefix may be shorter than its share: give the rest to the suffix.
    suffix_ids = _encode_beginning(suffix, tokenizer, room - len(prefix_ids))
    if layout == PSM:
        ids = [tokens.prefix, *prefix_ids, tokens.suffix, *suffix_ids, tokens.middle]
    else:
        ids = [tokens.prefix, tokens.suffix, *suffix_ids, tokens.middle, *prefix_ids]
    return np.asarray([*tokenizer.bos_ids, *ids], dtype=np.int32)


def _encode_last_lines(text: str, tokenizer: DocumentTokenizer, max_ids: int) -> np.ndarray:
    """Encode as many of the text's last lines as fit; if not even one fits, return its last ids."""
    text = text[max(0, len(text) - _CHARS_PER_ID * max_ids) :]
    ids = tokenizer.encode_batch([text])[0]
    if len(ids) <= max_ids:
        return ids
    # Fewer lines have fewer ids: find the first line that fits by binary search.
    begins = [match.end() for match in re.finditer("\n", text) if match.end() < len(text)]
    fitting = np.empty(0, np.int32)
    low, high = 0, len(begins)
    while low < high:
        middle = (low + high) // 2
        tail = tokenizer.encode_batch([text[begins[middle] :]])[0]
        if len(tail) <= max_ids:
            high, fitting = middle, tail
        else:
            low = middle + 1
    return fitting if len(fitting) else ids[len(ids) - max_ids :]


def _encode_beginning(text: str, tokenizer: DocumentTokenizer, max_ids: int) -> np.ndarray:
    return tokenizer.encode_infix([text[: _CHARS_PER_ID * max_ids]])[0][:max_ids]
