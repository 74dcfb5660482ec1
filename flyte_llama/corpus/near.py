"""Near-duplicates by MinHash and locality-sensitive hashing, each verified on the n-grams themselves.

Documents come in order of preference. One is a near-duplicate if its Jaccard similarity with one *kept* before it
reaches the threshold; so nothing is dropped for being like something that was dropped itself, and no chain of small
differences deletes a whole cluster. Pairs that share a band of their signatures and do not differ in too much of the
rest are candidates, and every candidate is verified; of pairs at 0.7 one in five thousand is no candidate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from flyte_llama.documents import Document
from flyte_llama.ngrams import NUM_PERMUTATIONS, jaccard, shingles
from flyte_llama.progress import track

# 32 bands of 4: a pair of similarity s shares a band with probability 1 - (1 - s**4)**32; 0.99985 at s = 0.7.
_ROWS_A_BAND = 4
_NUM_BANDS = NUM_PERMUTATIONS // _ROWS_A_BAND
# The share of equal rows estimates the similarity; four standard deviations below the threshold it is not worth a look.
_DEVIATIONS = 4.0
# Sets of n-grams in memory at once; a document is compared with few others, most of them close by.
_SETS_HELD = 4096


class Match(NamedTuple):
    """What a document is a near-duplicate of."""

    kept: int
    """Its index."""

    jaccard: float


def near_duplicates(documents: Sequence[Document], *, threshold: float) -> list[Match | None]:
    """For each document the most similar one kept before it, or None if it is kept itself."""

    @lru_cache(maxsize=_SETS_HELD)
    def grams(index: int) -> np.ndarray:
        return shingles(documents[index].text)

    least = threshold - _DEVIATIONS * (threshold * (1 - threshold) / NUM_PERMUTATIONS) ** 0.5
    signatures = _matrix(documents)
    buckets = _shared_buckets(signatures)
    kept_in: defaultdict[int, list[int]] = defaultdict(list)
    matches: list[Match | None] = []
    for index in track(range(len(documents)), what="near-duplicates", total=len(documents)):
        best = None
        near = sorted({candidate for bucket in buckets[index] for candidate in kept_in[bucket]})
        if near:
            candidates = np.array(near)
            alike = (signatures[candidates] == signatures[index]).mean(axis=1) >= least
            found = [
                Match(candidate, _similarity(grams(index), grams(candidate), threshold))
                for candidate in candidates[alike].tolist()
            ]
            best = max(found, key=lambda match: match.jaccard, default=None)
        if best is not None and best.jaccard >= threshold:
            matches.append(best)
            continue
        matches.append(None)
        for bucket in buckets[index]:
            kept_in[bucket].append(index)
    return matches


def _matrix(documents: Sequence[Document]) -> np.ndarray:
    """uint32, a row of 128 a document; a document without words has a row that no other has."""
    matrix = np.zeros((len(documents), NUM_PERMUTATIONS), dtype=np.uint32)
    for index, document in enumerate(documents):
        row = np.frombuffer(document.signature, dtype=np.uint32)
        matrix[index] = row if len(row) else index
    return matrix


def _shared_buckets(signatures: np.ndarray) -> list[list[int]]:
    """For each document the buckets, one a band at most, that it shares with at least one other."""
    bands = np.ascontiguousarray(signatures).view(np.dtype((np.void, 4 * _ROWS_A_BAND)))
    numbers = np.empty(bands.shape, dtype=np.int64)
    shared = np.empty(bands.shape, dtype=bool)
    for band in range(_NUM_BANDS):
        _, number, counts = np.unique(bands[:, band], return_inverse=True, return_counts=True)
        numbers[:, band] = number * _NUM_BANDS + band
        shared[:, band] = counts[number] > 1
    return [own[crowded].tolist() for own, crowded in zip(numbers, shared, strict=True)]


def _similarity(one: np.ndarray, other: np.ndarray, threshold: float) -> float:
    """The Jaccard similarity, or 0 where the sizes alone keep it below the threshold."""
    smaller, larger = sorted((len(one), len(other)))
    return jaccard(one, other) if smaller >= threshold * larger else 0.0
