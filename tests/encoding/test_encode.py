"""The pieces of a text depend on the seed, the text and the epoch, and on nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flyte_llama.config import ObjectiveConfig
from flyte_llama.corpus.composition import Origin, Text
from flyte_llama.encoding import DocumentTokenizer, add_keys
from flyte_llama.encoding.encode import make_pieces
from flyte_llama.encoding.pieces import KeyedText, Piece
from tests.conftest import ALL_KINDS, TEXTS, document

KINDS = [ObjectiveConfig(kind=kind, seed=3) for kind in ("clm", "fim", "causal_masked", "mlm")]
MANY = [KeyedText(str(n), f"# {n}\n{text}" * (1 + n % 5)) for n, text in enumerate(TEXTS * 30)]


@pytest.fixture(scope="module")
def tokenizer(all_base: Path) -> DocumentTokenizer:
    return DocumentTokenizer(all_base)


def as_lists(pieces: list[Piece]) -> list[tuple[list[int], list[int], bool]]:
    return [(piece.input_ids.tolist(), piece.labels.tolist(), piece.bidirectional) for piece in pieces]


def pieces_by_key(
    texts: list[KeyedText], config: ObjectiveConfig, tokenizer: DocumentTokenizer, epoch: int = 0
) -> dict[str, list]:
    pieces_by_text = make_pieces(texts, config, tokenizer, seq_len=64, epoch=epoch)
    return {text.key: as_lists(pieces) for text, pieces in zip(texts, pieces_by_text, strict=True)}


@pytest.mark.parametrize("config", [*KINDS, ALL_KINDS], ids=lambda config: config.kind)
def test_the_order_and_the_other_texts_change_nothing(config: ObjectiveConfig, tokenizer: DocumentTokenizer):
    together = pieces_by_key(MANY, config, tokenizer)
    assert pieces_by_key(MANY[::-1], config, tokenizer) == together
    for text in MANY[::7]:
        assert pieces_by_key([text], config, tokenizer) == {text.key: together[text.key]}


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_another_epoch_or_seed_is_another_draw_unless_nothing_is_random(
    config: ObjectiveConfig, tokenizer: DocumentTokenizer
):
    first = pieces_by_key(MANY, config, tokenizer)
    assert (pieces_by_key(MANY, config, tokenizer, epoch=1) != first) == config.is_random
    assert (pieces_by_key(MANY, config.model_copy(update={"seed": 4}), tokenizer) != first) == config.is_random


def test_a_mixture_draws_by_its_weights(tokenizer: DocumentTokenizer):
    config = ObjectiveConfig(kind="mixture", mixture={"mlm": 1, "clm": 3, "fim": 0})
    texts = [KeyedText(str(n), "x = 1\n") for n in range(1000)]
    kinds = [pieces[0].bidirectional for pieces in make_pieces(texts, config, tokenizer, seq_len=64, epoch=0)]
    assert sum(kinds) == pytest.approx(250, abs=50)


def test_labels_are_the_ids_or_nothing_in_int32(tokenizer: DocumentTokenizer):
    for pieces in make_pieces(MANY, ALL_KINDS, tokenizer, seq_len=64, epoch=0):
        for piece in pieces:
            assert piece.input_ids.dtype == piece.labels.dtype == np.int32
            assert len(piece.input_ids) == len(piece.labels) <= 64


def test_a_key_distinguishes_repetitions_and_parts_of_a_file_and_nothing_else():
    first, second = document("x\n", path="a.py"), document("y\n", path="b.py")
    texts = [Text(doc.text, (Origin(doc, 0),)) for doc in (first, second, first)]
    keys = [text.key for text in add_keys(texts)]
    assert len(set(keys)) == 3
    assert [text.key for text in add_keys([texts[1], texts[0]])] == [keys[1], keys[0]]
