"""Objectives on a document's ids: causal language modelling, and masked next-token prediction."""

from __future__ import annotations

import random

import numpy as np

from flyte_llama.objective.piece import IGNORED, Piece, causal_piece


def clm(ids: np.ndarray, *, seq_len: int) -> list[Piece]:
    """Learn each next token. Ids that are more than a row are cut into whole rows and a rest."""
    return [causal_piece(part) for part in _cut(ids, seq_len)]


def mlm(
    ids: np.ndarray,
    rng: random.Random,
    *,
    mask_id: int,
    mask_share: float,
    control_ids: frozenset[int],
    seq_len: int,
) -> list[Piece]:
    """Learn the masked tokens from both sides (masked next-token prediction: LLM2Vec, arXiv 2404.05961, section 2.2).

    Each token of the text is masked with the chance `mask_share`. What is masked is always replaced by the mask
    token: there are no random or kept tokens among them, as BERT has them to be tuned without masks later. Control
    tokens are never masked, nor is a piece's first token, for which there is no position before it to read the loss
    from. A piece that came out without a mask is given one, if it has a token that can be masked.
    """
    draw = np.random.default_rng(rng.getrandbits(64))
    pieces = []
    for part in _cut(ids, seq_len):
        can_be = ~np.isin(part, list(control_ids))
        can_be[:1] = False
        masked = can_be & (draw.random(len(part)) < mask_share)
        if not masked.any() and can_be.any():
            masked[draw.choice(np.flatnonzero(can_be))] = True
        labels = np.where(masked, part, np.int32(IGNORED))
        pieces.append(Piece(np.where(masked, np.int32(mask_id), part), labels, bidirectional=True))
    return pieces


def _cut(ids: np.ndarray, seq_len: int) -> list[np.ndarray]:
    return [ids[begin : begin + seq_len] for begin in range(0, len(ids), seq_len)]
