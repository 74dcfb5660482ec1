"""Words, n-grams and signatures agree with a slow, obvious version."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.documents.ngrams import (
    NUM_PERMUTATIONS,
    SHINGLE_WORDS,
    hash_ngrams,
    jaccard,
    shingles,
    signature,
    split_words,
)
from tests.conftest import words_of

TEXTS = st.text(alphabet="ab_9 \n.-é世かカ語ñ🦙\u2014\u00a0\u200b\uff0c\u3000한\x00", max_size=60)


def slow_words(text: str) -> list[bytes]:
    return [
        word.encode()
        for word in re.findall(r"[\u3000-\u9fff]|(?:(?![\u3000-\u9fff])\w)+", text)
        if re.match(r"\w", word)
    ]


def slow_shingles(text: str) -> set[tuple[bytes, ...]]:
    listed = slow_words(text)
    n = min(SHINGLE_WORDS, max(1, len(listed)))
    return {tuple(listed[start : start + n]) for start in range(len(listed) - n + 1)}


@given(TEXTS)
def test_words_are_runs_of_letters_digits_and_underscores_and_single_ideographs(text: str):
    text_words = split_words(text)
    data = text.encode()
    assert [data[s:e] for s, e in zip(text_words.starts, text_words.ends, strict=True)] == slow_words(text)


@given(st.lists(st.text(alphabet="ab9_é", min_size=1, max_size=4), max_size=30))
def test_equal_words_have_equal_hashes_and_others_do_not(listed: list[str]):
    hashes = split_words(" ".join(listed)).hashes.tolist()
    assert len(set(zip(listed, hashes, strict=True))) == len(set(listed)) == len(set(hashes))


def test_a_words_hash_does_not_depend_on_the_text_before_it():
    alone = split_words("needle").hashes[0]
    for before in ("x", "\n\n", "世界 " * 5000):
        assert split_words(before + " needle").hashes[-1] == alone


@given(TEXTS, TEXTS)
def test_jaccard_of_shingles_equals_the_one_of_sets_of_tuples(text: str, other: str):
    first, second = slow_shingles(text), slow_shingles(other)
    assert len(shingles(text)) == len(first)
    expected = len(first & second) / max(1, len(first | second))
    assert jaccard(shingles(text), shingles(other)) == expected


def test_there_is_an_ngram_for_each_run_of_words():
    hashes = split_words("a b c a b c").hashes
    grams = hash_ngrams(hashes, 3)
    assert len(grams) == 4
    assert grams[0] == grams[3]
    assert len(set(grams.tolist())) == 3
    assert len(hash_ngrams(hashes, 7)) == 0


def test_signatures_estimate_the_jaccard_similarity():
    shared = words_of(2000)
    text = " ".join(shared + words_of(500, seed=1))
    other = " ".join(shared + words_of(500, seed=2))
    first, second = (np.frombuffer(signature(each), dtype=np.uint32) for each in (text, other))
    assert len(first) == NUM_PERMUTATIONS
    # Four standard deviations of a share of 128 draws.
    assert abs((first == second).mean() - jaccard(shingles(text), shingles(other))) < 4 * 0.5 / NUM_PERMUTATIONS**0.5


def test_a_text_without_words_has_no_signature():
    assert signature("-- !?\n") == b""
