"""Near-duplicates: every one is like what was kept, and the order of input changes nothing but who is preferred."""

from __future__ import annotations

import random

import pytest

from flyte_llama.corpus.near import Match, near_duplicates
from flyte_llama.documents import Document
from flyte_llama.ngrams import jaccard, shingles
from tests.conftest import document, words_of


def changed(base: list[str], every: int, *, seed: int = 1) -> list[str]:
    """The words with every n-th one replaced."""
    other = words_of(len(base), seed=seed)
    return [
        new if (number + seed) % every == 0 else old for number, (old, new) in enumerate(zip(base, other, strict=True))
    ]


def documents(*texts: list[str]) -> list[Document]:
    return [document(" ".join(words), path=f"{number}.py") for number, words in enumerate(texts)]


def similarity(one: Document, other: Document) -> float:
    return jaccard(shingles(one.text), shingles(other.text))


def test_a_planted_near_duplicate_is_found_and_a_different_document_is_not():
    base = words_of(1000)
    made = documents(base, changed(base, 60), changed(base, 5), words_of(1000, seed=9))
    assert near_duplicates(made, threshold=0.7) == [None, Match(0, similarity(made[0], made[1])), None, None]


def test_what_is_dropped_is_like_what_is_kept_not_like_what_was_dropped():
    # Each text is near the one before it, the last far from the first: a chain, which closure would delete but for one.
    chain = [words_of(1000)]
    for seed in range(1, 12):
        chain.append(changed(chain[-1], 60, seed=seed))
    made = documents(*chain)
    matches = near_duplicates(made, threshold=0.7)
    assert similarity(made[0], made[-1]) < 0.7
    assert sum(match is None for match in matches) > 1
    for own, match in zip(made, matches, strict=True):
        if match is not None:
            assert matches[match.kept] is None
            assert similarity(own, made[match.kept]) == match.jaccard >= 0.7
    kept = [own for own, match in zip(made, matches, strict=True) if match is None]
    assert all(similarity(a, b) < 0.7 for a in kept for b in kept if a is not b)


def test_hardly_a_pair_at_the_threshold_is_missed():
    missed = pairs = 0
    for seed in range(300):
        base = words_of(120, seed=2 * seed)
        # A tail of the other's own words brings the pair down to just above 0.7.
        made = documents(base, base[:102] + words_of(18, seed=2 * seed + 1))
        if 0.7 <= similarity(*made) < 0.75:
            pairs += 1
            missed += near_duplicates(made, threshold=0.7)[1] is None
    assert pairs > 100
    assert missed == 0


@pytest.mark.parametrize("threshold", [0.6, 0.8, 1.0])
def test_other_thresholds_are_found_too(threshold: float):
    missed = 0
    for seed in range(60):
        base = words_of(200, seed=seed)
        made = documents(base, base[: int(200 * (1 + threshold) / 2)] + words_of(10, seed=1000 + seed))
        matches = near_duplicates(made, threshold=threshold)
        missed += (similarity(*made) >= threshold) != (matches[1] is not None)
    assert missed <= 1


def test_a_small_file_within_a_large_one_is_no_duplicate():
    large = words_of(2000)
    assert near_duplicates(documents(large, large[:500]), threshold=0.7) == [None, None]


def test_texts_of_a_few_words_are_alike_only_if_they_are_equal():
    made = documents(["import", "x"], ["import", "x"], ["import", "y"], [])
    assert near_duplicates(made, threshold=0.7) == [None, Match(0, 1.0), None, None]


def test_every_pair_of_many_random_families_is_decided_as_comparing_all_pairs_would():
    rng = random.Random(0)  # noqa: S311  # no secret
    texts = []
    for family in range(20):
        base = words_of(rng.randrange(40, 200), seed=family)
        texts += [changed(base, rng.choice([7, 20, 40, 80]), seed=100 + family * 10 + member) for member in range(4)]
    rng.shuffle(texts)
    made = documents(*texts)
    kept: list[int] = []
    for index, own in enumerate(made):
        if not any(similarity(own, made[other]) >= 0.7 for other in kept):
            kept.append(index)
    matches = near_duplicates(made, threshold=0.7)
    assert [index for index, match in enumerate(matches) if match is None] == kept
