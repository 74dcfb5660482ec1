"""Text → words → hashes of n-grams → MinHash signatures: what deduplication and leakage compare documents by.

A word is a run of letters, digits and `_`, as in BigCode's near-deduplication (Kocetkov et al., arXiv 2211.15533,
section 2.3), in any script; of Chinese and Japanese, which have no blanks, each character. Layout and punctuation do
not matter. Hashes have 64 bits: two of a hundred million different n-grams share one with a chance of 0.03 %.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import numpy as np
import rensa

SHINGLE_WORDS = 5
"""As in BigCode's and datatrove's near-deduplication."""

NUM_PERMUTATIONS = 128
_SIGNATURE_SEED = 42

_WORD_BYTES = np.zeros(256, dtype=bool)
_WORD_BYTES[np.frombuffer(b"_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", dtype=np.uint8)] = True
_WORD_BYTES[128:] = True
_NO_WORD = re.compile(r"[^\w\x00-\x7f]+")
# First of the three bytes of U+3000 to U+9FFF: kana, and the ideographs in use.
_FIRST_IDEOGRAPH, _LAST_IDEOGRAPH = 0xE3, 0xE9

# Odd, so that each has an inverse modulo 2**64; the digits are those of the golden ratio and of MurmurHash3's mixer.
_BASE = 0x9E3779B97F4A7C15
_MIXERS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT = np.uint64(33)


class Words(NamedTuple):
    """The words of a text, in order; three arrays of equal length."""

    hashes: np.ndarray
    """uint64"""

    starts: np.ndarray
    """int64, byte at which the word begins in the text's UTF-8."""

    ends: np.ndarray
    """int64, byte after its last."""


def words(text: str) -> Words:
    if not text.isascii():
        text = _NO_WORD.sub(lambda found: " " * len(found[0].encode()), text)
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    inside = np.zeros(len(data) + 2, dtype=bool)
    inside[1:-1] = _WORD_BYTES[data]
    steps = inside[1:] != inside[:-1]
    if text.isascii():
        borders = steps.nonzero()[0]
        starts, ends = borders[::2], borders[1::2]
    else:
        starts, ends = _with_ideographs(data, inside, steps)
    # A word's length is hashed too: a byte 0 in front of it would not change the sum.
    hashes = _spans(data, starts, ends) + (ends - starts).astype(np.uint64)
    return Words(_mix(hashes), starts, ends)


def _with_ideographs(data: np.ndarray, inside: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of words, where an ideograph ends the word before it and begins one of three bytes."""
    ideographs = ((data >= _FIRST_IDEOGRAPH) & (data <= _LAST_IDEOGRAPH)).nonzero()[0]
    borders = steps.copy()
    borders[ideographs] = borders[ideographs + 3] = True
    starts = (borders & inside[1:]).nonzero()[0]
    return starts, (borders & inside[:-1]).nonzero()[0]


def ngrams(hashes: np.ndarray, n: int) -> np.ndarray:
    """uint64, one for each run of `n` words, in order; empty if there are fewer words."""
    count = max(0, len(hashes) - n + 1)
    starts = np.arange(count)
    return _mix(_spans(hashes, starts, starts + n))


def shingles(text: str) -> np.ndarray:
    """uint64, the set of the text's 5-grams, sorted; of a text with fewer words, all of them as one n-gram."""
    return np.unique(_shingles(text))


def signature(text: str) -> bytes:
    """The MinHash of the text's shingles, 128 uint32; empty if it has no words."""
    found = _shingles(text)
    if not len(found):
        return b""
    # Repetitions stay: they change no minimum.
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        found, [0, len(found)], NUM_PERMUTATIONS, _SIGNATURE_SEED
    )
    return np.array(matrix.to_rows()[0], dtype=np.uint32).tobytes()


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Shared share of two sets, each sorted and without repetition; 0 if both are empty."""
    if not len(one) or not len(other):
        return 0.0
    places = np.searchsorted(other, one)
    shared = int(np.count_nonzero(other[np.minimum(places, len(other) - 1)] == one))
    return shared / (len(one) + len(other) - shared)


def _shingles(text: str) -> np.ndarray:
    hashes = words(text).hashes
    return ngrams(hashes, min(SHINGLE_WORDS, max(1, len(hashes))))


def _spans(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Of each span, Σ (value · base^offset) modulo 2**64, from one running sum over all values."""
    room = 1 << max(10, len(values)).bit_length()
    powers, inverses = _powers(room)
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    (values * powers[: len(values)]).cumsum(out=sums[1:])
    return (sums[ends] - sums[starts]) * inverses[starts]


@cache
def _powers(room: int) -> tuple[np.ndarray, np.ndarray]:
    """base^0, base^1, … and base^0, base^-1, … modulo 2**64."""
    bases = (_BASE, pow(_BASE, -1, 1 << 64))
    tables = [np.full(room, base, dtype=np.uint64) for base in bases]
    for table in tables:
        table[0] = 1
        np.cumprod(table, out=table)
    return tables[0], tables[1]


def _mix(hashes: np.ndarray) -> np.ndarray:
    """Spread every bit over all 64 (the finaliser of MurmurHash3)."""
    for mixer in _MIXERS:
        hashes = (hashes ^ (hashes >> _SHIFT)) * mixer
    return hashes ^ (hashes >> _SHIFT)
