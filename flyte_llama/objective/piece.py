"""The piece: ids that stand together in one row, and what is learned of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IGNORED = -100
"""The label that cross entropy leaves out (torch's `ignore_index`)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A document, or a part of one that fits a row; it sees nothing but itself."""

    input_ids: np.ndarray
    """int32."""

    labels: np.ndarray
    """int32, one an id: the id to be learned there, or `IGNORED`. The model shifts them, so that label i is read from
    position i - 1; the first is always `IGNORED`, since only another document could predict it."""

    bidirectional: bool = False
    """Whether every token sees the whole piece, and not only what is before it."""


def causal_piece(ids: np.ndarray, *, unlearned: frozenset[int] = frozenset()) -> Piece:
    """All ids are learned but the first and those that are `unlearned`."""
    labels = ids.copy()
    labels[:1] = IGNORED
    if unlearned:
        labels[np.isin(ids, list(unlearned))] = IGNORED
    return Piece(ids, labels)
