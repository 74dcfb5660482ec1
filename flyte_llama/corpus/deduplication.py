"""Keep one of several copies: exact copies, then older versions of a file, then near-duplicates.

The copy from the source with the newest commit is preferred, then the longest, then the first by repository and path.
So the order of sources, and of files within a source, does not matter.

A document is a near-duplicate if its Jaccard similarity with a preferred document that is *kept* reaches the threshold.
So no document is dropped for its likeness to one that is dropped too, and a chain of small differences does not delete
a whole cluster. Candidates come from MinHash and locality-sensitive hashing: pairs that share a band of their
signatures, and do not differ too much in the rest. Each is verified on the n-grams themselves. One in five thousand
pairs of similarity 0.7 is missed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from flyte_llama.config import DeduplicationConfig
from flyte_llama.documents import Document
from flyte_llama.documents.ngrams import NUM_PERMUTATIONS, jaccard, shingles
from flyte_llama.progress import track

FileKey = tuple[str, str, str]
"""Repository, path and URL: two hosts may have repositories of the same name."""

_MIN_SHARED_PATHS = 0.5
"""A repository counts as merged into another if that one has at least this share of its documents' paths."""

# 32 bands of 4: a pair of similarity s shares a band with probability 1 - (1 - s**4)**32; 0.99985 at s = 0.7.
_ROWS_PER_BAND = 4
_NUM_BANDS = NUM_PERMUTATIONS // _ROWS_PER_BAND
# The share of equal rows estimates the similarity. A pair is not compared if its estimate is over four standard
# deviations below the threshold.
_DEVIATIONS = 4.0
# Hashes of n-grams in memory at once: 128 MB. A document is compared with few others, most of them close to it in the
# order.
_GRAMS_HELD = 1 << 24


@dataclass(frozen=True)
class DroppedDocument:
    """A dropped document, and the preferred one that is kept in its place."""

    document: Document
    reason: Literal["exact", "lineage", "near"]
    preferred: Document
    jaccard: float | None
    """Similarity of the two by their 5-grams of words; None for older versions, which are not compared."""


class Match(NamedTuple):
    """The kept document that another one is a near-duplicate of, and their similarity."""

    kept_index: int
    jaccard: float


def deduplicate(
    documents: Iterable[Document], config: DeduplicationConfig
) -> tuple[list[Document], list[DroppedDocument]]:
    """Return the documents to keep and the dropped ones, both ordered by repository and path."""
    ordered = sorted(documents, key=_preference)
    drops: dict[FileKey, DroppedDocument] = {}
    first: dict[str, Document] = {}
    for document in ordered:
        preferred = first.setdefault(document.blob_id, document)
        if preferred is not document:
            drops[_file_key(document)] = DroppedDocument(document, "exact", preferred, 1.0)
    if config.lineage:
        for older, newer in _pair_versions(ordered):
            drops.setdefault(_file_key(older), DroppedDocument(older, "lineage", newer, None))
    if config.near:
        left = [document for document in ordered if _file_key(document) not in drops]
        drops |= {_file_key(drop.document): drop for drop in _drop_near(left, config.near)}
    by_path = sorted(ordered, key=_file_key)
    kept_documents = [document for document in by_path if _file_key(document) not in drops]
    return kept_documents, [
        _resolve(drops[_file_key(document)], drops) for document in by_path if _file_key(document) in drops
    ]


def deduplicate_pieces(
    documents: Sequence[Document], config: DeduplicationConfig
) -> tuple[list[Document], list[DroppedDocument]]:
    """Like `deduplicate`, for documents after leaks were cut out: only near-duplicates can be new."""
    dropped = _drop_near(sorted(documents, key=_preference), config.near) if config.near else []
    keys = {_piece_key(drop.document) for drop in dropped}
    left = [document for document in documents if _piece_key(document) not in keys]
    return sorted(left, key=_piece_key), sorted(dropped, key=lambda drop: _piece_key(drop.document))


def near_duplicates(documents: Sequence[Document], *, threshold: float) -> list[Match | None]:
    """For each document the most similar one kept before it, or None if the document is kept too."""

    grams = _RecentGrams(documents)
    # the lowest estimate that is worth a comparison
    least = threshold - _DEVIATIONS * (threshold * (1 - threshold) / NUM_PERMUTATIONS) ** 0.5
    signatures = _matrix(documents)
    buckets = _find_shared_buckets(signatures)
    kept_in: defaultdict[int, list[int]] = defaultdict(list)
    matches: list[Match | None] = []
    for index in track(range(len(documents)), what="near-duplicates", total=len(documents)):
        # compare with the documents kept so far that share a bucket
        best = None
        near = sorted({candidate for bucket in buckets[index] for candidate in kept_in[bucket]})
        if near:
            candidates = np.array(near)
            alike = (signatures[candidates] == signatures[index]).mean(axis=1) >= least
            compared = [
                Match(candidate, _similarity(grams.of(index), grams.of(candidate), threshold))
                for candidate in candidates[alike].tolist()
            ]
            best = max(compared, key=lambda match: match.jaccard, default=None)
        if best is not None and best.jaccard >= threshold:
            matches.append(best)
            continue
        # keep the document, as a candidate for later ones
        matches.append(None)
        for bucket in buckets[index]:
            kept_in[bucket].append(index)
    return matches


class _RecentGrams:
    """The sets of n-grams of documents, of which those used last are kept."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._recent: OrderedDict[int, np.ndarray] = OrderedDict()
        self._num_held = 0

    def of(self, index: int) -> np.ndarray:
        grams = self._recent.pop(index, None)
        if grams is None:
            grams = shingles(self._documents[index].text)
            self._num_held += len(grams)
        self._recent[index] = grams
        while self._num_held > _GRAMS_HELD and len(self._recent) > 1:
            _, oldest = self._recent.popitem(last=False)
            self._num_held -= len(oldest)
        return grams


def _drop_near(ordered: Sequence[Document], threshold: float) -> list[DroppedDocument]:
    """The near-duplicates among documents in order of preference."""
    matches = near_duplicates(ordered, threshold=threshold)
    return [
        DroppedDocument(document, "near", ordered[match.kept_index], match.jaccard)
        for document, match in zip(ordered, matches, strict=True)
        if match is not None
    ]


def _resolve(dropped: DroppedDocument, drops: Mapping[FileKey, DroppedDocument]) -> DroppedDocument:
    """Follow a chain of drops, so that `preferred` is a document that was kept in the end.

    If an exact copy's original was dropped as a near-duplicate, the copy becomes a near-duplicate too. An older version
    stays one, whatever its newer version was dropped for.
    """
    while (following := drops.get(_file_key(dropped.preferred))) is not None:
        like = following if dropped.reason == "exact" else replace(dropped, jaccard=None)
        dropped = DroppedDocument(dropped.document, like.reason, following.preferred, like.jaccard)
    return dropped


def _pair_versions(documents: Sequence[Document]) -> Iterator[tuple[Document, Document]]:
    """Pairs of an older and a newer version of a file, where one repository was merged into another.

    `owner/admin` counts as merged into a repository that has at least half of its paths under `admin/`. If both have a
    path, the preferred version counts as newer: the first in `documents`, which are in order of preference.
    """
    rank = {(document.url, document.path): index for index, document in enumerate(documents)}
    num_documents = Counter(document.url for document in documents)
    parents = defaultdict(set)
    for document in documents:
        parents[document.path.split("/", 1)[0]].add(document.url)
    twins: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for index, document in enumerate(documents):
        folder = document.repository.rsplit("/", 1)[-1]
        for parent in sorted(parents[folder] - {document.url}):
            twin = rank.get((parent, f"{folder}/{document.path}"))
            if twin is not None:
                twins[document.url, parent].append((min(index, twin), max(index, twin)))
    for (url, _), pairs in twins.items():
        if len(pairs) >= _MIN_SHARED_PATHS * num_documents[url]:
            yield from ((documents[older], documents[newer]) for newer, older in pairs)


def _matrix(documents: Sequence[Document]) -> np.ndarray:
    """uint32, (documents, 128): their signatures; a document without words has a unique row."""
    matrix = np.zeros((len(documents), NUM_PERMUTATIONS), dtype=np.uint32)
    for index, document in enumerate(documents):
        row = np.frombuffer(document.signature, dtype=np.uint32)
        matrix[index] = row if len(row) else index
    return matrix


def _find_shared_buckets(signatures: np.ndarray) -> list[list[int]]:
    """For each document the buckets, at most one in each band, that it shares with another document."""
    bands = np.ascontiguousarray(signatures).view(np.dtype((np.void, 4 * _ROWS_PER_BAND)))
    buckets = np.empty(bands.shape, dtype=np.int64)
    shared = np.empty(bands.shape, dtype=bool)
    for band in range(_NUM_BANDS):
        _, indices, counts = np.unique(bands[:, band], return_inverse=True, return_counts=True)
        buckets[:, band] = indices * _NUM_BANDS + band
        shared[:, band] = counts[indices] > 1
    return [row[is_shared].tolist() for row, is_shared in zip(buckets, shared, strict=True)]


def _similarity(first: np.ndarray, second: np.ndarray, threshold: float) -> float:
    """The Jaccard similarity of two sets, or 0 if their sizes alone keep it below the threshold."""
    smaller, larger = sorted((len(first), len(second)))
    return jaccard(first, second) if smaller >= threshold * larger else 0.0


def _preference(document: Document) -> tuple:
    """Sort key: the newest source first, then the longest document."""
    return -document.committed, -document.num_bytes, *_piece_key(document)


def _piece_key(document: Document) -> tuple:
    return *_file_key(document), document.start


def _file_key(document: Document) -> FileKey:
    return document.repository, document.path, document.url
