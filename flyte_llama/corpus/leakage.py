"""Remove held-out text from train, and report how much of it there was on both sides; or only measure the overlap.

A run of `n` words of a train document is leaked text if a held-out document has the same run. Dropping near-equal
documents is not enough: most leaks are parts of otherwise different documents. A leak is removed with its whole
paragraph, the lines up to the next blank ones, so that the text left does not begin in the middle of a statement. Each
piece left becomes a document: contiguous text of its file, without a leaked run. So the train text left shares no run
of `n` words with the held-out side; a test counts that.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from flyte_llama.corpus.gram_set import GramSet, UniqueGrams
from flyte_llama.documents import Document
from flyte_llama.documents.ngrams import Words, hash_ngrams, signature, split_words
from flyte_llama.progress import track

CONTAMINATED = 0.5
"""A held-out document is contaminated, not partial, if at least this share of its words is in leaked runs."""

MIN_WORDS_LEFT = 50
"""Pieces with fewer words are dropped after a cut."""

_BLANK_LINES = re.compile(rb"\n(?:[^\S\n]*\n)+")


class RemovedSpan(NamedTuple):
    """Text removed from a train document: whole paragraphs, or a short rest beside them."""

    document: Document
    start: int
    """Byte offset in the document's text."""

    end: int
    heldout: Document | None = None
    """The held-out document that has most of the leaked runs in it."""


@dataclass(frozen=True)
class Coverage:
    """How much of a document is in train; for a held-out one, before the leaks were removed."""

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
class LeakRemoval:
    """The train side without leaks, and a report of the leaks."""

    train: list[Document]
    """Documents and pieces left, in the order of the input."""

    removed: list[RemovedSpan]
    short: list[RemovedSpan]
    """Text beside the removed spans, of fewer than `MIN_WORDS_LEFT` words, which is dropped too."""

    coverage: list[Coverage]
    """One for each held-out document, in the order of the input."""


def remove_leaks(
    train: Sequence[Document], heldout: Sequence[Document], *, n: int, remove: Literal["spans", "documents"]
) -> LeakRemoval:
    """Remove the held-out text from train.

    Args:
        n: Words of a run. A held-out text with fewer words leaks only as a whole, as a train file of the same words.
        remove: `spans` removes the paragraphs that hold leaked runs; `documents` removes whole documents that hold one.
    """
    overlap = _Overlap(heldout, n)
    left: list[Document] = []
    removed: list[RemovedSpan] = []
    short: list[RemovedSpan] = []
    for document in track(train, what="leaks", total=len(train)):
        text_words, hits, is_copied = overlap.find(document)
        if is_copied or (remove == "documents" and hits.any()):
            spans = [(0, document.num_bytes)]
        else:
            spans = _paragraphs_around(document.text, _run_spans(text_words, hits, n)) if hits.any() else []
        removed += [RemovedSpan(document, *span) for span in spans]
        pieces, too_short = _cut(document, spans)
        left += pieces
        short += too_short
    return LeakRemoval(left, _name_heldout(removed, heldout, n), short, overlap.coverage(heldout))


def measure_overlap(train: Sequence[Document], documents: Sequence[Document], *, n: int) -> list[Coverage]:
    """Return how much of each document is in train, which stays as it is: one for each, in their order.

    Args:
        n: Words of a shared run, as in `remove_leaks`.
    """
    overlap = _Overlap(documents, n)
    for document in track(train, what="overlap", total=len(train)):
        overlap.find(document)
    return overlap.coverage(documents)


class _Overlap:
    """The text that train documents share with other documents: runs of `n` words, and shorter texts as a whole."""

    def __init__(self, documents: Sequence[Document], n: int) -> None:
        # Only hashes are kept: the words of many documents take too much memory, so `coverage` splits them again.
        self._n = n
        self._keys, grams = set(), UniqueGrams()
        for document in documents:
            hashes = split_words(document.text).hashes
            self._keys.add(_short_text_key(document, hashes, n))
            grams.add(hash_ngrams(hashes, n))
        self._known = GramSet(grams)
        self._train_keys, self._shared = set[int | str | None](), UniqueGrams()

    def find(self, document: Document) -> tuple[Words, np.ndarray, bool]:
        """Return a train document's words, whether each of its runs is shared, and whether it copies a short text."""
        text_words = split_words(document.text)
        grams = hash_ngrams(text_words.hashes, self._n)
        hits = self._known.contains(grams)
        self._shared.add(grams[hits])
        key = _short_text_key(document, text_words.hashes, self._n)
        self._train_keys.add(key)
        return text_words, hits, key is not None and key in self._keys

    def coverage(self, documents: Sequence[Document]) -> list[Coverage]:
        """Return how much of each document was found; call it once, with all documents, after the last `find`."""
        shared = GramSet(self._shared)
        coverage = []
        for document in documents:
            hashes = split_words(document.text).hashes
            covered = _cover(shared.contains(hash_ngrams(hashes, self._n)), len(hashes), self._n)
            key = _short_text_key(document, hashes, self._n)
            is_copied = key is not None and key in self._train_keys
            coverage.append(Coverage(document, len(covered), len(covered) if is_copied else int(covered.sum())))
        return coverage


def _name_heldout(removed: Sequence[RemovedSpan], heldout: Sequence[Document], n: int) -> list[RemovedSpan]:
    """Return the spans with their held-out documents. Of two with the same run, the first one counts."""
    if not removed:
        return []
    # the runs of all spans, and the document that each is from
    texts = [span.document.text.encode()[span.start : span.end].decode() for span in removed]
    words = [split_words(text).hashes for text in texts]
    runs = [hash_ngrams(hashes, n) for hashes in words]
    unique = UniqueGrams()
    for grams in runs:
        unique.add(grams)
    known = GramSet(unique)
    owners = np.full(len(known), -1, dtype=np.int64)
    short: dict[int | str | None, int] = {}
    for index, document in enumerate(heldout):
        hashes = split_words(document.text).hashes
        short.setdefault(_short_text_key(document, hashes, n), index)
        grams = hash_ngrams(hashes, n)
        places = known.index(grams[known.contains(grams)])
        owners[places[owners[places] < 0]] = index
    # the document of most runs of each span
    named = []
    for span, hashes, grams in zip(removed, words, runs, strict=True):
        found = owners[known.index(grams)]
        found = found[found >= 0]
        copied = short.get(_short_text_key(span.document, hashes, n))
        owner = int(np.bincount(found).argmax()) if len(found) else copied
        named.append(span if owner is None else span._replace(heldout=heldout[owner]))
    return named


def _short_text_key(document: Document, hashes: np.ndarray, n: int) -> int | str | None:
    """A key, equal for equal texts, of a text too short for a run; None for longer ones."""
    if len(hashes) >= n:
        return None
    return int(hash_ngrams(hashes, len(hashes))[0]) if len(hashes) else document.blob_id


def _cover(hits: np.ndarray, num_words: int, n: int) -> np.ndarray:
    """One bool for each word: whether it is inside a hit run. `hits` has a bool for the first word of each run."""
    steps = np.zeros(num_words + 1, dtype=np.int64)
    first = np.flatnonzero(hits)
    np.add.at(steps, first, 1)
    np.add.at(steps, first + n, -1)
    return np.cumsum(steps)[:num_words] > 0


def _run_spans(text_words: Words, hits: np.ndarray, n: int) -> list[tuple[int, int]]:
    """The byte range of each stretch of covered words, from its first to its last word."""
    covered = np.zeros(len(text_words.hashes) + 2, dtype=np.int8)
    covered[1:-1] = _cover(hits, len(text_words.hashes), n)
    steps = np.diff(covered)
    first, last = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) - 1
    return list(zip(text_words.starts[first].tolist(), text_words.ends[last].tolist(), strict=True))


def _paragraphs_around(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans extended to whole paragraphs with their trailing blank lines, and joined where they meet."""
    data = text.encode()
    # A paragraph begins at the start of the text, and after each group of blank lines.
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


def _cut(document: Document, spans: list[tuple[int, int]]) -> tuple[list[Document], list[RemovedSpan]]:
    """The pieces of the document outside of the spans, and those of a few words, which carry no meaning."""
    if not spans:
        return [document], []
    data = document.text.encode()
    borders = [0, *(border for span in spans for border in span), len(data)]
    pieces, short = [], []
    for start, end in zip(borders[::2], borders[1::2], strict=True):
        text = data[start:end].decode()
        if len(split_words(text).hashes) >= MIN_WORDS_LEFT:
            begin = document.start
            piece = replace(document, text=text, start=begin + start, end=begin + end, signature=signature(text))
            pieces.append(piece)
        elif start < end:
            short.append(RemovedSpan(document, start, end))
    return pieces, short
