"""Plain and masked language modelling of ids."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.config import ObjectiveConfig
from flyte_llama.objective import IGNORED, KeyedText, Piece, clm, learn, mlm
from flyte_llama.tokens import DocumentTokenizer
from tests.conftest import TEXTS

MASK = 99
IDS = st.lists(st.integers(2, 90), max_size=60).map(lambda ids: np.array([0, *ids, 1], dtype=np.int32))


def masked(ids: np.ndarray, *, share: float = 0.3, seed: int = 0, seq_len: int = 16) -> list[Piece]:
    rng = random.Random(seed)  # noqa: S311  # no secret
    return mlm(ids, rng, mask_id=MASK, mask_share=share, control_ids=frozenset({0, 1}), seq_len=seq_len)


def test_a_document_longer_than_a_row_is_cut_into_whole_rows_and_a_rest():
    pieces = clm(np.arange(7, dtype=np.int32), seq_len=3)
    assert [piece.input_ids.tolist() for piece in pieces] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [piece.labels.tolist() for piece in pieces] == [[IGNORED, 1, 2], [IGNORED, 4, 5], [IGNORED]]
    assert not any(piece.bidirectional for piece in pieces)


@given(ids=IDS, seed=st.integers(0, 99), share=st.floats(0.01, 0.99))
def test_masked_ids_and_their_labels_give_back_the_document(ids: np.ndarray, seed: int, share: float):
    pieces = masked(ids, seed=seed, share=share)
    back = np.concatenate([np.where(piece.labels == IGNORED, piece.input_ids, piece.labels) for piece in pieces])
    assert back.tolist() == ids.tolist()
    for piece in pieces:
        assert piece.bidirectional
        assert ((piece.input_ids == MASK) == (piece.labels != IGNORED)).all()
        assert piece.labels[0] == IGNORED
        assert not {0, 1} & set(piece.labels.tolist())
        own = set(piece.input_ids[1:].tolist()) - {0, 1}
        assert (piece.labels != IGNORED).any() == bool(own)


def test_the_share_of_masked_tokens_is_kept():
    ids = np.full(20_000, 7, dtype=np.int32)
    (piece,) = masked(ids, share=0.2, seq_len=20_000)
    assert (piece.labels != IGNORED).mean() == pytest.approx(0.2, abs=0.01)


def test_a_piece_without_a_mask_is_given_one():
    pieces = [masked(np.array([0, 5, 6, 1], dtype=np.int32), share=1e-9, seed=seed)[0] for seed in range(20)]
    assert {tuple(piece.input_ids.tolist()) for piece in pieces} == {(0, MASK, 6, 1), (0, 5, MASK, 1)}


def test_masks_of_documents_come_from_the_tokenizers_own_mask(all_base: Path):
    tokenizer = DocumentTokenizer(all_base)
    config = ObjectiveConfig(kind="mlm", mask_share=0.5)
    for (piece,), text in zip(
        learn([KeyedText(text, text) for text in TEXTS], config, tokenizer, seq_len=256, epoch=0), TEXTS, strict=True
    ):
        assert tokenizer.id_of("<mask>") in piece.input_ids
        back = np.where(piece.labels == IGNORED, piece.input_ids, piece.labels)
        assert back.tolist() == next(map(tokenizer.framed, tokenizer.encode([text]))).tolist()
