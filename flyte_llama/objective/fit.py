"""Texts and what makes a layout of them → pieces that fit a row.

A layout is never cut: a text that is too long is cut first, and its parts are laid out each on its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from flyte_llama.errors import DataError
from flyte_llama.objective.layout import Layout, layout_pieces
from flyte_llama.objective.piece import Piece
from flyte_llama.tokens import DocumentTokenizer

MakeLayout = Callable[[str, random.Random], Layout]

# Tokens kept free of a text's own, beside the control tokens: where a text is cut it is encoded anew on both sides,
# which costs a token or two. Less is tried again more often, more is padding.
_SPARE = 2
# A part ends behind a line if one ends in the last 64th of its room, else where the room ends: to go back further
# for a line would leave more of the row empty than the padding of all packing.
_REACH = 64


def fitted(
    texts: Sequence[str],
    rngs: Sequence[random.Random],
    makers: Sequence[MakeLayout],
    tokenizer: DocumentTokenizer,
    *,
    seq_len: int,
) -> list[list[Piece]]:
    """Each text's pieces in the order of the text, laid out by the maker and the random numbers that are its own.

    Raises:
        DataError: if a row is too short for a single character and its control tokens.
    """
    done: list[list[Piece]] = [[] for _ in texts]
    # What is likely to be too long is measured before it is tried whole.
    long = [number for number, text in enumerate(texts) if len(text) > 2 * seq_len]
    token_begins = dict(zip(long, tokenizer.token_begins([texts[number] for number in long]), strict=True))
    waiting = [
        (number, 0, _part_end(text, token_begins[number], 0, seq_len) if number in token_begins else len(text))
        for number, text in enumerate(texts)
    ]
    while waiting:
        layouts = [makers[number](texts[number][begin:end], rngs[number]) for number, begin, end in waiting]
        pieces = layout_pieces(layouts, tokenizer)
        now, waiting = waiting, []
        for (number, begin, end), layout, piece in zip(now, layouts, pieces, strict=True):
            text, excess = texts[number], len(piece.input_ids) - seq_len
            if excess <= 0:
                done[number].append(piece)
                if end == len(text):
                    continue
                begin, end = end, len(text)
            elif end - begin < 2:
                raise DataError(
                    f"training.seq_len = {seq_len}: has no room for the {len(piece.input_ids)} tokens that a single "
                    "character and its control tokens are. Raise it."
                )
            if number not in token_begins:
                (token_begins[number],) = tokenizer.token_begins([text])
            begins = token_begins[number]
            room = seq_len - layout.num_control - _SPARE
            if excess > 0:
                taken = int(np.searchsorted(begins, end) - np.searchsorted(begins, begin))
                room = min(room, taken - excess)
                end = min(_part_end(text, begins, begin, room), end - 1)
            else:
                end = _part_end(text, begins, begin, room)
            waiting.append((number, begin, end))
    return done


def _part_end(text: str, token_begins: np.ndarray, begin: int, room: int) -> int:
    """Where a part ends that begins at a character and is to have about `room` tokens, but at least a character."""
    first, room = int(np.searchsorted(token_begins, begin)), max(room, 1)
    if len(token_begins) - first <= room:
        return len(text)
    limit = max(int(token_begins[first + room]), begin + 1)
    line_end = text.rfind("\n", max(int(token_begins[first + room - room // _REACH]), begin), limit) + 1
    return line_end or limit
