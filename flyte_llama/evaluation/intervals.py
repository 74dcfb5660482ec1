"""95 % intervals: of bits per byte, by bootstrap over documents, and of a share of cases, by Wilson's formula.

The bootstrap: documents are resampled, and the interval is read from the replicates. One row is one document. Its
columns are resampled together, so each replicate compares the models on the same documents (paired), and the difficulty
of a document that is hard for both models cancels in their difference. Each replicate is a ratio of sums,
Σ nats / (ln 2 · Σ bytes), like the reported figures.

The two schemes generalise differently:

- `documents`: to other documents of these repositories. Documents are resampled within their repository, and the number
  of documents in each repository stays fixed. The bootstrap of n documents understates a variance by (n - 1) / n, so
  repositories with fewer than `MIN_DOCUMENTS` documents are resampled together, as survey statisticians collapse strata
  (Wolter 2007, Introduction to Variance Estimation, section 2.5).
- `clustered`: to other repositories like these. Repositories are resampled, then the documents within each repository
  drawn (Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8). With few repositories this
  interval is rough; with one repository it equals the interval of `documents`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

Scheme = Literal["documents", "clustered"]
REPLICATES = 10_000
MIN_DOCUMENTS = 10
"""Minimum number of documents in a stratum, and for an interval: with 2, a nominal 95 % interval covers 50 %."""

_NORMAL_QUANTILE = 1.959963984540054
"""The 0.975 quantile of the standard normal distribution."""

# Array elements per block of replicates; bounds memory to about 100 MB however many documents there are.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class Interval:
    """The lower and upper end of a 95 % interval."""

    low: float
    high: float


def bits_per_byte_replicates(
    nats: np.ndarray,
    num_bytes: np.ndarray,
    repositories: Sequence[tuple[str, ...]],
    keys: Sequence[Any],
    *,
    scheme: Scheme,
    replicates: int = REPLICATES,
    seed: int | Sequence[int] = 0,
) -> np.ndarray:
    """Return replicates of bits per byte, float64 (replicates, columns); the order of the documents has no effect.

    Args:
        nats: (documents, columns): a model's nats give its bits per byte, the difference of two models' nats gives the
            change in bits per byte.
        num_bytes: (documents,).
        repositories: The repository of each document, as a tuple that identifies and orders it: its name and URL.
        keys: A unique key for each document; documents are sorted by repository and key before drawing.

    Raises:
        ValueError: if there are no documents, or two documents have the same key.
    """
    if len(set(keys)) != len(keys) or not keys:
        raise ValueError(
            f"{len(keys)} documents with {len(set(keys))} distinct keys: give at least one document, and every "
            "document a different key"
        )
    # sort the rows by cluster
    clusters = list(repositories) if scheme == "clustered" else _collapse_small(repositories)
    order = sorted(range(len(keys)), key=lambda index: (clusters[index], keys[index]))
    columns = np.column_stack([nats, num_bytes]).astype(np.float64)[order]
    sizes = [size for _, size in sorted(Counter(clusters).items())]
    # draw, block by block, and divide the sums
    random = np.random.default_rng(seed)
    # Resampling a single cluster always draws that cluster.
    scheme = "documents" if len(sizes) == 1 else scheme
    block = max(1, _BLOCK // len(keys))
    sums = [
        _resample_sums(columns, sizes, min(block, replicates - begin), scheme, random)
        for begin in range(0, replicates, block)
    ]
    total = np.concatenate(sums)
    bits: np.ndarray = total[:, :-1] / (math.log(2) * total[:, -1:])
    return bits


def percentile_interval(replicates: np.ndarray, *, cases: int) -> Interval:
    """Return the percentile interval of a figure's replicates (1-D), widened for small samples.

    With many cases it runs from the 2.5th to the 97.5th percentile. With few, these are too narrow, as is an interval
    that uses normal quantiles and n in place of n - 1. Hesterberg 2015, What Teachers Should Know About the Bootstrap,
    section 5.3, takes the percentiles Φ(∓t·√(n / (n - 1))) instead, with t the 97.5 % quantile of Student's
    distribution. With 10 cases these are the 0.9th and 99.1th.

    Args:
        cases: Number of cases that were resampled, at least 2.
    """
    outside = 100 * NormalDist().cdf(-_student_quantile(cases - 1) * math.sqrt(cases / (cases - 1)))
    low, high = np.percentile(replicates, (outside, 100 - outside))
    return Interval(float(low), float(high))


def wilson_interval(successes: int, cases: int) -> Interval:
    """Return Wilson's interval of a share of independent cases.

    Unlike the normal approximation it stays within 0 to 1, and has a width above 0 even if all or no cases succeed.

    Wilson 1927, JASA 22:209; Brown, Cai and DasGupta 2001, Statistical Science 16:101, section 3.1.1.

    Raises:
        ValueError: unless 0 <= successes <= cases and cases >= 1.
    """
    if not 0 <= successes <= cases or not cases:
        raise ValueError(
            f"{successes} of {cases} succeeded: need at least one case, and between 0 and {cases} successes"
        )
    share, square = successes / cases, _NORMAL_QUANTILE**2
    centre = (share + square / (2 * cases)) / (1 + square / cases)
    spread = math.sqrt(share * (1 - share) / cases + square / (4 * cases**2)) * _NORMAL_QUANTILE / (1 + square / cases)
    # If no case or every case succeeds, one end is exactly 0 or 1; rounding could miss it.
    low = 0.0 if successes == 0 else centre - spread
    return Interval(low, 1.0 if successes == cases else centre + spread)


def _collapse_small(repositories: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The stratum of each document: its repository, or (), which the smallest repositories share.

    Repositories join the shared stratum, smallest first, until it and every other stratum have `MIN_DOCUMENTS`.
    """
    sizes = Counter(repositories)
    by_size = sorted(sizes, key=lambda repository: (sizes[repository], repository))
    shared: set[tuple[str, ...]] = set()
    while len(shared) < len(sizes):
        next_larger = by_size[len(shared)]
        shared_size = sum(sizes[small] for small in shared)
        if sizes[next_larger] >= MIN_DOCUMENTS and (not shared or shared_size >= MIN_DOCUMENTS):
            break
        shared.add(next_larger)
    return [() if repository in shared else repository for repository in repositories]


def _resample_sums(
    columns: np.ndarray, sizes: Sequence[int], replicates: int, scheme: Scheme, random: np.random.Generator
) -> np.ndarray:
    """Return the column sums of resampled rows, (replicates, columns).

    Args:
        columns: Rows ordered by cluster.
        sizes: Number of rows in each cluster.
    """
    # times[r, c]: how often replicate r draws cluster c
    if scheme == "clustered":
        times = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=replicates)
    else:
        times = np.ones((replicates, len(sizes)), dtype=np.int64)
    sums = np.zeros((replicates, columns.shape[1]))
    for index, cluster in _clusters(columns, sizes):
        # A cluster drawn k times is resampled k times, independently.
        rows = np.repeat(np.arange(replicates), times[:, index])
        picked = (random.random((len(rows), len(cluster))) * len(cluster)).astype(np.int64)
        # Count how often each replicate picks each row, so that the sums are one matrix product.
        picked += rows[:, None] * len(cluster)
        counts = np.bincount(picked.ravel(), minlength=replicates * len(cluster)).reshape(replicates, len(cluster))
        sums += counts @ cluster
    return sums


def _clusters(columns: np.ndarray, sizes: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each cluster's index and rows."""
    begin = 0
    for index, size in enumerate(sizes):
        yield index, columns[begin : begin + size]
        begin += size


def _student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's distribution, expanded in 1 / degrees (Abramowitz and Stegun 1964, 26.7.5)."""
    z = _NORMAL_QUANTILE
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, 1))
