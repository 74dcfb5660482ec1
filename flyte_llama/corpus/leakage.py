"""Train text that is also held-out text: found by runs of words, removed from train, and reported on both sides.

A run of `n` words of a train document that stands in a held-out document as well is leaked text. Removing near-equal
documents is not enough: most leaks are parts of otherwise different documents. A leak goes with its paragraph, the
lines up to the next blank ones, so that what is left does not begin in the middle of a statement. The pieces left are
documents of their own. Each is contiguous text of its file and holds no leaked run; so what is left shares no run of
`n` words with the held-out side, and a test counts that.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from flyte_llama.documents import Document
from flyte_llama.ngrams import Words, ngrams, signature, words
from flyte_llama.progress import track

CONTAMINATED = 0.5
"""Share of a held-out document's words in leaked runs from which it is called contaminated, not partial."""

MIN_WORDS_LEFT = 50
"""Of a piece of a document that something was cut out of."""

_BLANK_LINES = re.compile(rb"\n(?:[^\S\n]*\n)+")
# One question in nine about a hash that is not in the set is answered by a search.
_SLOTS_A_GRAM = 8


class Span(NamedTuple):
    """Text removed from a train document: whole paragraphs."""

    document: Document
    start: int
    """Byte in the document's text."""

    end: int


@dataclass(frozen=True)
class Coverage:
    """How much of a held-out document stood in train before the leaks were removed."""

    document: Document
    num_words: int
    covered_words: int
    """Words inside at least one leaked run."""

    @property
    def stratum(self) -> Literal["clean", "partial", "contaminated"]:
        if not self.covered_words:
            return "clean"
        return "contaminated" if self.covered_words >= CONTAMINATED * self.num_words else "partial"


@dataclass(frozen=True)
class Cleaned:
    train: list[Document]
    """What is left, in the order given."""

    removed: list[Span]
    coverage: list[Coverage]
    """One for each held-out document, in the order given."""


def remove_leaks(
    train: Sequence[Document], heldout: Sequence[Document], *, n: int, remove: Literal["spans", "documents"]
) -> Cleaned:
    """Take the held-out text out of train.

    Args:
        n: Words of a run; a held-out text shorter than that leaks only as a whole, as a train file of the same words.
        remove: `spans` removes the paragraphs that hold leaked runs, `documents` every document that holds one.
    """
    heldout_words = [words(document.text) for document in heldout]
    known = _GramSet([ngrams(found.hashes, n) for found in heldout_words])
    heldout_wholes = {_whole(document, found, n) for document, found in zip(heldout, heldout_words, strict=True)}
    train_wholes = set()
    left: list[Document] = []
    removed: list[Span] = []
    leaked = [np.empty(0, dtype=np.uint64)]
    for document in track(train, what="leaks", total=len(train)):
        found = words(document.text)
        grams = ngrams(found.hashes, n)
        hits = known.contain(grams)
        leaked.append(grams[hits])
        whole = _whole(document, found, n)
        train_wholes.add(whole)
        if (whole is not None and whole in heldout_wholes) or (remove == "documents" and hits.any()):
            spans = [(0, document.num_bytes)]
        else:
            spans = _paragraphs_around(document.text, _runs(found, hits, n)) if hits.any() else []
        removed += [Span(document, *span) for span in spans]
        left += _without(document, spans)
    train_grams = _GramSet(leaked)
    coverage = []
    for document, found in zip(heldout, heldout_words, strict=True):
        covered = _cover(train_grams.contain(ngrams(found.hashes, n)), len(found.hashes), n)
        whole = _whole(document, found, n)
        is_copied = whole is not None and whole in train_wholes
        coverage.append(Coverage(document, len(covered), len(covered) if is_copied else int(covered.sum())))
    return Cleaned(left, removed, coverage)


def _whole(document: Document, found: Words, n: int) -> int | str | None:
    """What a text too short for a run is compared by, as a whole; None for longer ones."""
    if len(found.hashes) >= n:
        return None
    return int(ngrams(found.hashes, len(found.hashes))[0]) if len(found.hashes) else document.blob_id


class _GramSet:
    """A set of 64-bit hashes; a table of their low bits answers most questions without a search."""

    def __init__(self, grams: Sequence[np.ndarray]) -> None:
        self._sorted = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *grams]))
        self._table = np.zeros(1 << (_SLOTS_A_GRAM * len(self._sorted)).bit_length(), dtype=bool)
        self._table[self._low_bits(self._sorted)] = True

    def contain(self, grams: np.ndarray) -> np.ndarray:
        """bool, for each of the hashes."""
        hits = self._table[self._low_bits(grams)]
        possible = grams[hits]
        places = np.searchsorted(self._sorted, possible)
        hits[hits] = self._sorted[np.minimum(places, len(self._sorted) - 1)] == possible
        return hits

    def _low_bits(self, grams: np.ndarray) -> np.ndarray:
        return grams & np.uint64(len(self._table) - 1)


def _cover(hits: np.ndarray, num_words: int, n: int) -> np.ndarray:
    """bool a word: whether it is in a run that was hit; a hit stands at the run's first word."""
    steps = np.zeros(num_words + 1, dtype=np.int64)
    first = np.flatnonzero(hits)
    np.add.at(steps, first, 1)
    np.add.at(steps, first + n, -1)
    return np.cumsum(steps)[:num_words] > 0


def _runs(found: Words, hits: np.ndarray, n: int) -> list[tuple[int, int]]:
    """Bytes from the first to the last word of each stretch of covered words."""
    covered = np.zeros(len(found.hashes) + 2, dtype=np.int8)
    covered[1:-1] = _cover(hits, len(found.hashes), n)
    steps = np.diff(covered)
    first, last = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) - 1
    return list(zip(found.starts[first].tolist(), found.ends[last].tolist(), strict=True))


def _paragraphs_around(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans grown to whole paragraphs with the blank lines behind them, and joined where they meet."""
    data = text.encode()
    # A paragraph begins at the start, and behind each blank line but the last of several.
    borders = [0, *(match.end() for match in _BLANK_LINES.finditer(data)), len(data)]
    joined: list[tuple[int, int]] = []
    for begin, finish in spans:
        start = borders[bisect_right(borders, begin) - 1]
        end = borders[bisect_left(borders, finish)]
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _without(document: Document, spans: list[tuple[int, int]]) -> list[Document]:
    """The document outside of the spans; pieces of a few words say nothing by themselves and are left out."""
    if not spans:
        return [document]
    data = document.text.encode()
    borders = [0, *(border for span in spans for border in span), len(data)]
    pieces = []
    for start, end in zip(borders[::2], borders[1::2], strict=True):
        text = data[start:end].decode()
        if len(words(text).hashes) >= MIN_WORDS_LEFT:
            begin = document.start
            piece = replace(document, text=text, start=begin + start, end=begin + end, signature=signature(text))
            pieces.append(piece)
    return pieces
