"""Pieces, and the rewritten texts that they are made of.

A piece is a sequence of token ids that stay together in one row, with their labels. An objective on characters, such
as infilling, first makes a layout of a text: control tokens and parts of the text, in the order that the model sees.
Layouts are encoded as pieces, and long texts are split so that every piece fits a row. Does not choose an objective
and does not pack.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from flyte_llama.corpus.composition import Text
from flyte_llama.documents import DocumentId
from flyte_llama.encoding.tokenizer import DocumentTokenizer
from flyte_llama.errors import DataError

IGNORED = -100
"""The label that cross entropy leaves out (torch's `ignore_index`)."""
# Tokens left free in each row, next to the control tokens: where a text is cut, both sides are encoded again, which
# costs a token or two. A lower value means more retries, a higher one more padding.
_SPARE = 2
# A part that was shortened so often is halved.
_HALVE_AFTER = 5
# A part ends after the last line end in the final 64th of its room, or else where the room ends.
# Looking further back would leave more of the row empty than all of the packing does.
_REACH = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """A document, or a part of one that fits a row. Its tokens attend only to tokens of the same piece."""

    input_ids: np.ndarray
    """Token ids, int32."""

    labels: np.ndarray
    """int32, one per id: the id to learn at that position, or `IGNORED`. The model shifts the labels, so label i is
    predicted at position i - 1. The first label is always `IGNORED`, since only another document could predict it."""

    bidirectional: bool = False
    """Whether every token sees the whole piece, or only itself and the tokens before it."""


class KeyedText(NamedTuple):
    """A text with the key that seeds its randomness."""

    key: str
    """Unique among all texts, and the same in whatever order and selection the texts come."""

    text: str


class Part(NamedTuple):
    """A part of a text, not yet encoded."""

    text: str
    is_infix: bool
    """Whether it continues another part; it is then encoded without the blank that some tokenizers put first."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A rewritten text, in the order that the model sees."""

    segments: tuple[int | Part, ...]
    """Ids of control tokens, and parts of the text."""

    unlearned: frozenset[int] = frozenset()
    """Control tokens that carry no loss."""

    @property
    def num_control(self) -> int:
        """The number of control tokens."""
        return sum(isinstance(segment, int) for segment in self.segments)


MakeLayout = Callable[[str], Layout]
"""Lays out a text, or a part of one; each call draws further random numbers of the text."""


@dataclass
class _Split:
    """A text that is cut into parts, one after the other."""

    text: str
    make_layout: MakeLayout
    end: int
    """The next part is `text[begin:end]`."""

    begin: int = 0
    """Where the next part begins; all of the text before it is in `pieces`."""

    max_chars: int = 0
    """The most characters of the next part: four times the last part that had to be shortened, and more after each part
    that fits at once."""

    num_shortened: int = 0
    """How often the next part has been shortened."""

    token_begins: np.ndarray | None = None
    """The character where each token of the text begins; None as long as it is not needed."""

    pieces: list[Piece] = field(default_factory=list)


def causal_piece(ids: np.ndarray, *, unlearned: frozenset[int] = frozenset()) -> Piece:
    """A piece that learns each next token, except the first and the ids in `unlearned`."""
    labels = ids.copy()
    labels[:1] = IGNORED
    if unlearned:
        labels[np.isin(ids, list(unlearned))] = IGNORED
    return Piece(ids, labels)


def add_keys(texts: Sequence[Text]) -> list[KeyedText]:
    """Pair each text with its key: the origin of its first part, and a counter of the texts with that origin."""
    num_by_origin: Counter[DocumentId] = Counter()
    with_keys = []
    for text in texts:
        origin = text.origins[0].document.id
        with_keys.append(KeyedText("\0".join((*map(str, origin), str(num_by_origin[origin]))), text.text))
        num_by_origin[origin] += 1
    return with_keys


def text_rng(key: str, *, seed: int, epoch: int) -> random.Random:
    """The random number generator for one text in one epoch."""
    return random.Random(f"{seed}\0{epoch}\0{key}")  # noqa: S311  # no secret


def layout_pieces(layouts: Sequence[Layout], tokenizer: DocumentTokenizer) -> list[Piece]:
    """Encode each layout as one piece; its length is not limited."""
    # Encode all parts in two batches, then take them in the order of the layouts.
    parts = [segment for layout in layouts for segment in layout.segments if isinstance(segment, Part)]
    plain = iter(tokenizer.encode_batch([part.text for part in parts if not part.is_infix]))
    infix = iter(tokenizer.encode_infix([part.text for part in parts if part.is_infix]))
    pieces = []
    for layout in layouts:
        ids = []
        for segment in layout.segments:
            if isinstance(segment, int):
                ids.append(np.asarray([segment], dtype=np.int32))
            else:
                ids.append(next(infix if segment.is_infix else plain))
        pieces.append(causal_piece(np.concatenate(ids), unlearned=layout.unlearned))
    return pieces


def split_to_fit(
    texts: Sequence[tuple[str, MakeLayout]], tokenizer: DocumentTokenizer, *, seq_len: int
) -> list[list[Piece]]:
    """Lay out each text as pieces of at most `seq_len` tokens; the pieces of each text, in order.

    A layout is never cut. A text that is too long is cut first, and each part gets its own layout. A part that is too
    long with its layout is shortened and laid out again. The characters that are encoded grow in proportion to the
    text, also if the parts have many more tokens than the same characters have in the whole text.

    Raises:
        DataError: if a row is too short for a single character and its control tokens.
    """
    splits = [_Split(text, make_layout, end=len(text), max_chars=len(text)) for text, make_layout in texts]

    # Encode probably long texts once, to find where to cut. The others are tried whole first.
    long = [split for split in splits if len(split.text) > 2 * seq_len]
    for split, begins in zip(long, tokenizer.token_begins([split.text for split in long]), strict=True):
        split.token_begins = begins
        split.end = _part_end(split.text, begins, 0, seq_len)

    # Lay out the next part of every unfinished text together, since encoding many at once is faster.
    unfinished = splits
    while unfinished:
        layouts = [split.make_layout(split.text[split.begin : split.end]) for split in unfinished]
        for split, layout, piece in zip(unfinished, layouts, layout_pieces(layouts, tokenizer), strict=True):
            _take_or_shorten(split, layout, piece, tokenizer, seq_len)
        unfinished = [split for split in unfinished if split.begin < len(split.text)]
    return [split.pieces for split in splits]


def _take_or_shorten(split: _Split, layout: Layout, piece: Piece, tokenizer: DocumentTokenizer, seq_len: int) -> None:
    """If the piece of the text's next part fits, take it and choose where the following part ends; else shorten it.

    Args:
        layout: The layout of the next part.
        piece: The layout, encoded.
    """
    text, num_chars, excess = split.text, split.end - split.begin, len(piece.input_ids) - seq_len
    is_too_long = excess > 0
    if not is_too_long:
        split.pieces.append(piece)
        split.max_chars = min(4 * (num_chars if split.num_shortened else split.max_chars), len(text))
        split.begin, split.num_shortened = split.end, 0
        if split.begin == len(text):
            return
    elif num_chars < 2:
        raise DataError(
            f"training.seq_len = {seq_len}: has no room for a single character and its control tokens "
            f"({len(piece.input_ids)} tokens). Raise it."
        )
    if split.token_begins is None:
        (split.token_begins,) = tokenizer.token_begins([text])
    begins = split.token_begins
    room, max_chars = seq_len - layout.num_control - _SPARE, split.max_chars
    if is_too_long:
        # Take as many tokens less as the piece was too long, and at least one character less.
        num_tokens = int(np.searchsorted(begins, split.end) - np.searchsorted(begins, split.begin))
        room, max_chars = min(room, num_tokens - excess), num_chars - 1
        # The tokens of the whole text can mislead: a cut inside a token of a thousand blanks leaves many tokens. So if
        # that is no help, take the share of characters that would have fitted, and in the end half of them.
        split.num_shortened += 1
        if split.num_shortened > 1 or room < num_tokens // 2:
            share = seq_len / len(piece.input_ids) if split.num_shortened < _HALVE_AFTER else 0.5
            room, max_chars = num_tokens, min(max_chars, int(share * num_chars))
    split.end = min(_part_end(text, begins, split.begin, room), split.begin + max(max_chars, 1))


def _part_end(text: str, token_begins: np.ndarray, begin: int, room: int) -> int:
    """Where to end a part that begins at character `begin`: about `room` tokens later, at least one character."""
    first, room = int(np.searchsorted(token_begins, begin)), max(room, 1)
    if len(token_begins) - first <= room:
        return len(text)
    limit = max(int(token_begins[first + room]), begin + 1)
    line_end = text.rfind("\n", max(int(token_begins[first + room - room // _REACH]), begin), limit) + 1
    return line_end or limit
