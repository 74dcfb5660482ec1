"""The layout: control tokens and parts of a text in the order the model is to see them, and its ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flyte_llama.objective.piece import Piece, causal_piece
from flyte_llama.tokens import DocumentTokenizer


class Part(NamedTuple):
    text: str
    is_infix: bool
    """Whether the text goes on from another: it is then encoded without the blank that a tokenizer puts in front."""


@dataclass(frozen=True, slots=True)
class Layout:
    segments: tuple[int | Part, ...]
    """Control tokens by their id, and parts of the text."""

    unlearned: frozenset[int] = frozenset()
    """Control tokens that carry no loss."""

    @property
    def num_control(self) -> int:
        return sum(isinstance(segment, int) for segment in self.segments)


def layout_pieces(layouts: Sequence[Layout], tokenizer: DocumentTokenizer) -> list[Piece]:
    """Each layout as a piece, of whatever length."""
    parts = [segment for layout in layouts for segment in layout.segments if isinstance(segment, Part)]
    plain = iter(tokenizer.encode_batch([part.text for part in parts if not part.is_infix]))
    infix = iter(tokenizer.encode_infix([part.text for part in parts if part.is_infix]))
    pieces = []
    for layout in layouts:
        ids = [
            np.asarray([segment], dtype=np.int32)
            if isinstance(segment, int)
            else next((plain, infix)[segment.is_infix])
            for segment in layout.segments
        ]
        pieces.append(causal_piece(np.concatenate(ids), unlearned=layout.unlearned))
    return pieces
