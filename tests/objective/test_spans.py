"""Causal masking: what was moved stands behind its sentinel, and no sentinel is learned."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.config import ObjectiveConfig
from flyte_llama.objective import IGNORED, KeyedText, Piece, learn
from flyte_llama.objective.spans import poisson
from flyte_llama.tokens import DocumentTokenizer
from tests.conftest import TEXTS
from tests.objective.test_infill import SOURCES, TEXT

SPANS = ObjectiveConfig(kind="causal_masked", mean_spans=2.0, max_spans=4)


@pytest.fixture(scope="module")
def tokenizer(all_base: Path) -> DocumentTokenizer:
    return DocumentTokenizer(all_base)


def put_back(piece: Piece, tokenizer: DocumentTokenizer) -> tuple[str, int]:
    """The text of a piece, and how many spans of it were moved."""
    ids = piece.input_ids.tolist()
    assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
    sentinels = [tokenizer.id_of(f"<mask:{n}>") for n in range(16)]
    places = [place for place, id_ in enumerate(ids) if id_ in sentinels]
    num_spans = len(places) // 2
    assert [ids[place] for place in places] == [*sentinels[:num_spans], *sentinels[:num_spans]]
    ends = [0, *places, len(ids) - 1]
    parts = [tokenizer.decode(ids[a + 1 : b]) for a, b in itertools.pairwise(ends)]
    kept, moved = parts[: num_spans + 1], parts[num_spans + 1 :]
    # The last kept part ends where the first moved span begins.
    text = "".join(a + b for a, b in zip(kept, [*moved, ""], strict=True))
    assert piece.labels.tolist() == [IGNORED if n in (0, *places) else id_ for n, id_ in enumerate(ids)]
    return text, num_spans


def test_every_text_comes_back(tokenizer: DocumentTokenizer):
    @given(TEXT | SOURCES, st.integers(0, 99))
    def round_trip(text: str, seed: int) -> None:
        config = SPANS.model_copy(update={"seed": seed})
        (pieces,) = learn([KeyedText("a", text)], config, tokenizer, seq_len=2000, epoch=0)
        assert [put_back(piece, tokenizer)[0] for piece in pieces] == [text]

    round_trip()


def test_long_texts_come_back_from_pieces_that_fit(tokenizer: DocumentTokenizer):
    texts = [KeyedText(str(n), text * 9) for n, text in enumerate(TEXTS)]
    for text, pieces in zip(texts, learn(texts, SPANS, tokenizer, seq_len=64, epoch=0), strict=True):
        assert len(pieces) > 1
        assert all(len(piece.input_ids) <= 64 for piece in pieces)
        assert "".join(put_back(piece, tokenizer)[0] for piece in pieces) == text.text


def test_the_number_of_spans_is_poissons_between_1_and_the_most(tokenizer: DocumentTokenizer):
    texts = [KeyedText(str(n), "x = 1\n") for n in range(1000)]
    drawn = Counter(put_back(piece, tokenizer)[1] for (piece,) in learn(texts, SPANS, tokenizer, seq_len=64, epoch=0))
    # Poisson(2): 0 or 1 with 0.406, 2 with 0.271, 3 with 0.180, 4 or more with 0.143.
    expected = {1: 406, 2: 271, 3: 180, 4: 143}
    assert set(drawn) == set(expected)
    assert all(drawn[n] == pytest.approx(share, abs=50) for n, share in expected.items())


def test_poissons_numbers_have_its_mean_and_variance():
    rng = random.Random(0)  # noqa: S311  # no secret
    drawn = [poisson(3.0, rng) for _ in range(5000)]
    mean = sum(drawn) / 5000
    assert mean == pytest.approx(3.0, abs=0.1)
    assert sum((one - mean) ** 2 for one in drawn) / 5000 == pytest.approx(3.0, abs=0.25)
