"""Text → words → hashes of n-grams → MinHash signatures: deduplication and leakage compare documents by these.

A word is a run of letters, digits and `_` in any script, as in BigCode's near-deduplication (Kocetkov et al., arXiv
2211.15533, section 2.3). In Chinese and Japanese, which have no blanks, each character is a word. Layout and
punctuation do not matter. Hashes have 64 bits: among a hundred million different n-grams, the chance of any collision
is 0.03 %.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import numpy as np
import rensa

SHINGLE_WORDS = 5
"""Words of a shingle, as in BigCode's and datatrove's near-deduplication."""

NUM_PERMUTATIONS = 128
_SIGNATURE_SEED = 42

_WORD_BYTES = np.zeros(256, dtype=bool)
_WORD_BYTES[np.frombuffer(b"_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", dtype=np.uint8)] = True
_WORD_BYTES[128:] = True
_NO_WORD = re.compile(r"[^\w\x00-\x7f]+")
# First UTF-8 byte of U+3000 to U+9FFF, which take three bytes each: kana and the common ideographs.
_FIRST_IDEOGRAPH, _LAST_IDEOGRAPH = 0xE3, 0xE9

# All are odd, so that each has an inverse modulo 2**64. The base is taken from the golden ratio; the mixers are
# MurmurHash3's.
_BASE = 0x9E3779B97F4A7C15
_MIXERS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT = np.uint64(33)


class Words(NamedTuple):
    """The words of a text, in order; three arrays of equal length."""

    hashes: np.ndarray
    """uint64"""

    starts: np.ndarray
    """int64, offset of the word's first byte in the text's UTF-8."""

    ends: np.ndarray
    """int64, offset after its last byte."""


def split_words(text: str) -> Words:
    """Split a text into words, and hash each one."""
    # Below, every byte from 128 on is part of a word: blank out the characters that are not, with offsets kept.
    if not text.isascii():
        text = _NO_WORD.sub(lambda match: " " * len(match[0].encode()), text)
    # A word begins and ends where `inside` changes.
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    inside = np.zeros(len(data) + 2, dtype=bool)
    inside[1:-1] = _WORD_BYTES[data]
    steps = inside[1:] != inside[:-1]
    if text.isascii():
        borders = steps.nonzero()[0]
        starts, ends = borders[::2], borders[1::2]
    else:
        starts, ends = _split_at_ideographs(data, inside, steps)
    # Add the length: without it, bytes of 0 at the end of a word would not change the hash.
    hashes = _spans(data, starts, ends) + (ends - starts).astype(np.uint64)
    return Words(_mix(hashes), starts, ends)


def _split_at_ideographs(data: np.ndarray, inside: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The starts and ends of words, where each ideograph is a word of three bytes."""
    ideographs = ((data >= _FIRST_IDEOGRAPH) & (data <= _LAST_IDEOGRAPH)).nonzero()[0]
    borders = steps.copy()
    borders[ideographs] = borders[ideographs + 3] = True
    starts = (borders & inside[1:]).nonzero()[0]
    return starts, (borders & inside[:-1]).nonzero()[0]


def hash_ngrams(hashes: np.ndarray, n: int) -> np.ndarray:
    """The hashes of all n-grams: uint64, one for each run of `n` words, in order; empty if there are fewer words."""
    count = max(0, len(hashes) - n + 1)
    starts = np.arange(count)
    return _mix(_spans(hashes, starts, starts + n))


def shingles(text: str) -> np.ndarray:
    """The set of the text's 5-grams: uint64, sorted. A text with fewer words is one n-gram of all its words."""
    return np.unique(_shingles(text))


def signature(text: str) -> bytes:
    """The MinHash of the text's shingles: 128 uint32; empty if the text has no words."""
    grams = _shingles(text)
    if not len(grams):
        return b""
    # Repetitions may stay: they change no minimum.
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        grams, [0, len(grams)], NUM_PERMUTATIONS, _SIGNATURE_SEED
    )
    return np.array(matrix.to_rows()[0], dtype=np.uint32).tobytes()


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """The Jaccard similarity of two sets, each sorted and without repetition; 0 if one is empty."""
    if not len(first) or not len(second):
        return 0.0
    indices = np.searchsorted(second, first)
    shared = int(np.count_nonzero(second[np.minimum(indices, len(second) - 1)] == first))
    return shared / (len(first) + len(second) - shared)


def _shingles(text: str) -> np.ndarray:
    """The text's 5-grams in order, with repetitions."""
    hashes = split_words(text).hashes
    return hash_ngrams(hashes, min(SHINGLE_WORDS, max(1, len(hashes))))


def _spans(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The polynomial hash of each span, Σ (value · base^offset) modulo 2**64, from one running sum over all values."""
    # A power of two, so that few tables are made and cached.
    size = 1 << max(10, len(values)).bit_length()
    powers, inverses = _powers(size)
    # A difference of running sums holds base^(start + offset); the inverse takes base^start out.
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    (values * powers[: len(values)]).cumsum(out=sums[1:])
    return (sums[ends] - sums[starts]) * inverses[starts]


@cache
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return base^0, base^1, … and base^0, base^-1, …, each `size` long, modulo 2**64."""
    bases = (_BASE, pow(_BASE, -1, 1 << 64))
    tables = [np.full(size, base, dtype=np.uint64) for base in bases]
    for table in tables:
        table[0] = 1
        np.cumprod(table, out=table)
    return tables[0], tables[1]


def _mix(hashes: np.ndarray) -> np.ndarray:
    """Spread every bit over all 64 (the finaliser of MurmurHash3)."""
    for mixer in _MIXERS:
        hashes = (hashes ^ (hashes >> _SHIFT)) * mixer
    return hashes ^ (hashes >> _SHIFT)
