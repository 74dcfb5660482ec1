"""Pieces → rows, and rows → what the model is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flyte_llama.objective import IGNORED, Piece
from flyte_llama.packing.best_fit import best_fit


@dataclass(frozen=True)
class Row:
    """Pieces side by side; `document`, `start` and `length` hold one number a piece."""

    input_ids: np.ndarray
    """int32, exactly `seq_len`; past the last piece stands padding."""

    labels: np.ndarray
    """int32, one an id; `IGNORED` where nothing is learned, as in the padding."""

    document: list[int]
    """Number of the document, in the order given."""

    start: list[int]
    """Where the piece begins in its document's pieces, put end to end; in tokens."""

    length: list[int]
    """Tokens of the piece; they sum to at most `seq_len`."""

    bidirectional: bool
    """Whether every token sees its whole piece; the same for all pieces of the row."""


class _Placed(NamedTuple):
    document: int
    start: int
    piece: Piece


def pack(documents: Iterable[Iterable[Piece]], *, seq_len: int, pad_id: int) -> Iterator[Row]:
    """Lay the documents' pieces into as few rows as best fit finds, whole, bidirectional ones apart from causal ones.

    Rows stand in the order of their first documents, and so do the pieces of a row. An empty piece is left out.

    Raises:
        ValueError: if `seq_len` is below 2 (a row needs an input and a target), or a piece is longer.
    """
    if seq_len < 2:
        raise ValueError(f"seq_len = {seq_len}: a row needs an input and a target, so at least 2 tokens")
    placed: list[_Placed] = []
    for number, pieces in enumerate(documents):
        start = 0
        for piece in pieces:
            if len(piece.input_ids):
                placed.append(_Placed(number, start, piece))
            start += len(piece.input_ids)
    rows = []
    for bidirectional in (False, True):
        kind = [number for number, one in enumerate(placed) if one.piece.bidirectional == bidirectional]
        found = best_fit([len(placed[number].piece.input_ids) for number in kind], capacity=seq_len)
        rows += [sorted(kind[place] for place in row) for row in found]
    for row in sorted(rows):
        yield _row([placed[number] for number in row], seq_len, pad_id)


def _row(placed: list[_Placed], seq_len: int, pad_id: int) -> Row:
    pieces = [one.piece for one in placed]
    lengths = [len(piece.input_ids) for piece in pieces]
    padding = seq_len - sum(lengths)
    return Row(
        np.concatenate([*(piece.input_ids for piece in pieces), np.full(padding, pad_id, dtype=np.int32)]),
        np.concatenate([*(piece.labels for piece in pieces), np.full(padding, IGNORED, dtype=np.int32)]),
        [one.document for one in placed],
        [one.start for one in placed],
        lengths,
        pieces[0].bidirectional,
    )


def model_inputs(input_ids: np.ndarray, labels: np.ndarray, lengths: Iterable[int]) -> dict[str, np.ndarray]:
    """What the model is given for one row, int64 of the row's length.

    `position_ids` restart at 0 in every piece and in the padding; attention goes by them. The model shifts `labels`.
    """
    position_ids = np.empty(len(input_ids), dtype=np.int64)
    begin = 0
    for length in lengths:
        position_ids[begin : begin + length] = np.arange(length)
        begin += length
    position_ids[begin:] = np.arange(len(input_ids) - begin)
    return {
        "input_ids": input_ids.astype(np.int64),
        "position_ids": position_ids,
        "labels": labels.astype(np.int64),
    }
