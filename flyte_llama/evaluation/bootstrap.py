"""Documents resampled → replicates of a ratio of sums, from which a 95 % interval is read.

A row is a document. Its columns are resampled together, so two models are compared on the same documents in each
replicate (paired), and what makes a document hard for both drops out of their difference. Ratios are those of sums,
Σ nats / (ln 2 · Σ bytes), as the figures themselves are.

Two schemes say how far the figures are to carry:

- `documents`: to other documents of these repositories. Documents are resampled within their repository, each of which
  keeps its number. The bootstrap of n documents understates a variance by (n - 1) / n, so repositories of fewer than
  `FEWEST` are resampled together, as survey statisticians collapse strata (Wolter 2007, Introduction to Variance
  Estimation, section 2.5).
- `clustered`: to other repositories like these. Repositories are resampled, then the documents of each one drawn
  (Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8). With few repositories such an
  interval is rough, with one it is that of `documents`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

Scheme = Literal["documents", "clustered"]
REPLICATES = 10_000
FEWEST = 10
"""Documents of a stratum, and of an interval: of 2 a nominal 95 % covers half."""

# Numbers of a block of replicates; bounds memory at some 100 MB whatever the number of documents.
_BLOCK = 1 << 21


def bits_per_byte_replicates(
    nats: np.ndarray,
    num_bytes: np.ndarray,
    repositories: Sequence[str],
    keys: Sequence[Any],
    *,
    scheme: Scheme,
    replicates: int = REPLICATES,
    seed: int | Sequence[int] = 0,
) -> np.ndarray:
    """Replicates of bits per byte, (replicates, columns), float64; the same whatever the order of the documents.

    Args:
        nats: (documents, columns): a model's nats for a bits per byte, the difference of two models' for its change.
        num_bytes: (documents,).
        repositories: Of each document.
        keys: Of each document, all different; the documents are sorted by them first.

    Raises:
        ValueError: without a document, or if two have one key.
    """
    if len(set(keys)) != len(keys) or not keys:
        raise ValueError(f"{len(keys)} documents with {len(set(keys))} keys: there must be one, and a key for each")
    clusters = list(repositories) if scheme == "clustered" else _collapsed(repositories)
    order = sorted(range(len(keys)), key=lambda number: (clusters[number], keys[number]))
    columns = np.column_stack([nats, num_bytes]).astype(np.float64)[order]
    sizes = [size for _, size in sorted(Counter(clusters).items())]
    random = np.random.default_rng(seed)
    scheme = "documents" if len(sizes) == 1 else scheme
    block = max(1, _BLOCK // len(keys))
    sums = [
        _resampled_sums(columns, sizes, min(block, replicates - begin), scheme, random)
        for begin in range(0, replicates, block)
    ]
    total = np.concatenate(sums)
    found: np.ndarray = total[:, :-1] / (math.log(2) * total[:, -1:])
    return found


def _collapsed(repositories: Sequence[str]) -> list[str]:
    """The stratum of each document: its repository, or, for those of few documents, one that they share."""
    sizes = Counter(repositories)
    by_size = sorted(sizes, key=lambda name: (sizes[name], name))
    shared: set[str] = set()
    while len(shared) < len(sizes):
        name = by_size[len(shared)]
        if sizes[name] >= FEWEST and (not shared or sum(sizes[own] for own in shared) >= FEWEST):
            break
        shared.add(name)
    return ["" if name in shared else name for name in repositories]


def _resampled_sums(
    columns: np.ndarray, sizes: Sequence[int], replicates: int, scheme: Scheme, random: np.random.Generator
) -> np.ndarray:
    """Sums of resampled rows, (replicates, columns); rows are ordered by cluster, `sizes` are those of the clusters."""
    if scheme == "clustered":
        drawn = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=replicates)
    else:
        drawn = np.ones((replicates, len(sizes)), dtype=np.int64)
    sums = np.zeros((replicates, columns.shape[1]))
    for number, own in _clusters(columns, sizes):
        # A cluster that is drawn k times is resampled k times, independently.
        rows = np.repeat(np.arange(replicates), drawn[:, number])
        picked = (random.random((len(rows), len(own))) * len(own)).astype(np.int64)
        picked += rows[:, None] * len(own)
        counts = np.bincount(picked.ravel(), minlength=replicates * len(own)).reshape(replicates, len(own))
        sums += counts @ own
    return sums


def _clusters(columns: np.ndarray, sizes: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    begin = 0
    for number, size in enumerate(sizes):
        yield number, columns[begin : begin + size]
        begin += size
