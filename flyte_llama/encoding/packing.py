"""Pieces → rows by best fit, and rows → the arrays that the model takes.

A row has `seq_len` tokens: whole pieces, then padding. All pieces must be known before the first row is filled, so they
wait in a temporary file without a name: those of a large corpus would not fit in memory. Rows are written by `rows`.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from flyte_llama.encoding.pieces import IGNORED, Piece


@dataclass(frozen=True)
class Row:
    """Pieces packed end to end; `document`, `start` and `length` hold one number per piece."""

    input_ids: np.ndarray
    """int32, exactly `seq_len` ids: the pieces, then padding."""

    labels: np.ndarray
    """int32, one per id; `IGNORED` where nothing is learned, as in the padding."""

    document: list[int]
    """The index of the piece's document among the documents that were packed."""

    start: list[int]
    """Where the piece begins, in tokens, if all pieces of its document are joined."""

    length: list[int]
    """The piece's number of tokens; the lengths sum to at most `seq_len`."""

    bidirectional: bool
    """Whether every token sees its whole piece; the same for all pieces of a row."""


def pack(
    documents: Iterable[Iterable[Piece]], *, seq_len: int, pad_id: int, folder: Path | None = None
) -> Iterator[Row]:
    """Pack the pieces of the documents into rows by best fit, without cutting any.

    Bidirectional and causal pieces never share a row. Rows are in the order of their first piece, and the pieces of a
    row are in the order of the documents. Empty pieces are left out.

    Args:
        folder: Where the temporary file takes 8 bytes a token; None is the system's temporary folder.

    Raises:
        ValueError: if `seq_len` is below 2 (a row needs an input and a target), or a piece is longer than a row.
    """
    if seq_len < 2:
        raise ValueError(f"seq_len = {seq_len}: a row needs an input and a target, so at least 2 tokens")
    with _PlacedPieces(folder) as placed:
        for document, pieces in enumerate(documents):
            start = 0
            for piece in pieces:
                if len(piece.input_ids):
                    placed.append(document, start, piece)
                start += len(piece.input_ids)
        rows = []
        for bidirectional in (False, True):
            # Pack the indices of one kind's pieces, then translate the bins back to indices into `placed`.
            kind = [index for index, both_ways in enumerate(placed.bidirectional) if both_ways == bidirectional]
            bins = pack_into_bins([placed.lengths[index] for index in kind], capacity=seq_len)
            rows += [sorted(kind[position] for position in chosen) for chosen in bins]
        for row in sorted(rows):
            yield _make_row(placed, row, seq_len, pad_id)


def pack_into_bins(lengths: Sequence[int], *, capacity: int) -> list[list[int]]:
    """Put the lengths into bins of `capacity`; the indices of the lengths in each bin.

    The longest length goes first, each into the bin where it leaves the least room; of several such bins, the one
    filled last (Ding et al., "Fewer Truncations Improve Language Modeling", arXiv 2404.10830, section 3). Bit r of one
    integer is set if some bin has room r, so the smallest room that fits is found without a search over the bins.

    For example, the lengths [3, 4, 5, 7] in bins of 10 give [[3, 0], [2, 1]]: 7 with 3, and 5 with 4.

    Raises:
        ValueError: if a length is 0 or exceeds the capacity.
    """
    if len(lengths) and not 0 < min(lengths) <= max(lengths) <= capacity:
        raise ValueError(f"lengths from {min(lengths)} to {max(lengths)}: each must be between 1 and {capacity}")
    bins: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    for index in order.tolist():
        length = lengths[index]
        # Bit i of `fitting` is room `length + i`; its lowest set bit is the smallest room that fits.
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            chosen = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, chosen = capacity, len(bins)
            bins.append([])
        bins[chosen].append(index)
        left = room - length
        if left:
            with_room[left].append(chosen)
            rooms |= 1 << left
    return bins


def model_inputs(input_ids: np.ndarray, labels: np.ndarray, lengths: Iterable[int]) -> dict[str, np.ndarray]:
    """The inputs of the model for one row: int64 arrays as long as the row.

    `position_ids` restart at 0 in every piece and in the padding; attention separates pieces by them. The model shifts
    `labels` by one.
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


class _PlacedPieces:
    """All pieces, with their documents: their ids and labels in a file, the rest in memory."""

    def __init__(self, folder: Path | None) -> None:
        # The file has no name, so the system removes it when the process ends, however it ends.
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed on exit
        self._offsets, self._end = array("q"), 0
        self.documents, self.starts, self.lengths = array("q"), array("q"), array("q")
        self.bidirectional = bytearray()

    def __enter__(self) -> _PlacedPieces:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, document: int, start: int, piece: Piece) -> None:
        data = np.concatenate([piece.input_ids, piece.labels]).astype(np.int32).tobytes()
        self._file.write(data)
        self._offsets.append(self._end)
        self._end += len(data)
        self.documents.append(document)
        self.starts.append(start)
        self.lengths.append(len(piece.input_ids))
        self.bidirectional.append(piece.bidirectional)

    def read(self, index: int) -> np.ndarray:
        """int32, (2, tokens): the ids and the labels of a piece."""
        self._file.flush()
        length = self.lengths[index]
        data = os.pread(self._file.fileno(), 8 * length, self._offsets[index])
        return np.frombuffer(data, dtype=np.int32).reshape(2, length)


def _make_row(placed: _PlacedPieces, row: list[int], seq_len: int, pad_id: int) -> Row:
    lengths = [placed.lengths[index] for index in row]
    padding = np.repeat(np.array([[pad_id], [IGNORED]], dtype=np.int32), seq_len - sum(lengths), axis=1)
    input_ids, labels = np.concatenate([*map(placed.read, row), padding], axis=1)
    return Row(
        input_ids,
        labels,
        [placed.documents[index] for index in row],
        [placed.starts[index] for index in row],
        lengths,
        bool(placed.bidirectional[row[0]]),
    )
