"""Words, n-grams and signatures equal the slow obvious ones."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.ngrams import NUM_PERMUTATIONS, SHINGLE_WORDS, jaccard, ngrams, shingles, signature, words
from tests.conftest import words_of

TEXTS = st.text(alphabet="ab_9 \n.-é世かカ語ñ🦙\u2014\u00a0\u200b\uff0c\u3000한\x00", max_size=60)


def slow_words(text: str) -> list[bytes]:
    return [
        word.encode()
        for word in re.findall(r"[\u3000-\u9fff]|(?:(?![\u3000-\u9fff])\w)+", text)
        if re.match(r"\w", word)
    ]


def slow_shingles(text: str) -> set[tuple[bytes, ...]]:
    found = slow_words(text)
    n = min(SHINGLE_WORDS, max(1, len(found)))
    return {tuple(found[start : start + n]) for start in range(len(found) - n + 1)}


@given(TEXTS)
def test_words_are_runs_of_letters_digits_and_underscores_and_single_ideographs(text: str):
    found = words(text)
    data = text.encode()
    assert [data[s:e] for s, e in zip(found.starts, found.ends, strict=True)] == slow_words(text)


@given(st.lists(st.text(alphabet="ab9_é", min_size=1, max_size=4), max_size=30))
def test_equal_words_have_equal_hashes_and_others_do_not(listed: list[str]):
    hashes = words(" ".join(listed)).hashes.tolist()
    assert len(set(zip(listed, hashes, strict=True))) == len(set(listed)) == len(set(hashes))


def test_a_words_hash_does_not_depend_on_what_stands_before_it():
    alone = words("needle").hashes[0]
    for before in ("x", "\n\n", "世界 " * 5000):
        assert words(before + " needle").hashes[-1] == alone


@given(TEXTS, TEXTS)
def test_jaccard_of_shingles_is_that_of_the_sets_of_tuples(one: str, other: str):
    first, second = slow_shingles(one), slow_shingles(other)
    assert len(shingles(one)) == len(first)
    expected = len(first & second) / max(1, len(first | second))
    assert jaccard(shingles(one), shingles(other)) == expected


def test_there_is_an_ngram_for_each_run_of_words():
    hashes = words("a b c a b c").hashes
    found = ngrams(hashes, 3)
    assert len(found) == 4
    assert found[0] == found[3]
    assert len(set(found.tolist())) == 3
    assert len(ngrams(hashes, 7)) == 0


def test_signatures_estimate_the_jaccard_similarity():
    shared = words_of(2000)
    one = " ".join(shared + words_of(500, seed=1))
    other = " ".join(shared + words_of(500, seed=2))
    first, second = (np.frombuffer(signature(text), dtype=np.uint32) for text in (one, other))
    assert len(first) == NUM_PERMUTATIONS
    # Four standard deviations of a share of 128 draws.
    assert abs((first == second).mean() - jaccard(shingles(one), shingles(other))) < 4 * 0.5 / NUM_PERMUTATIONS**0.5


def test_a_text_without_words_has_no_signature():
    assert signature("-- !?\n") == b""
