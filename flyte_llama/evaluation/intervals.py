"""95 % intervals of bits per byte over documents and repositories, and of a share of cases; a test of paired cases.

Bits per byte are ratios of sums, Σ nats / (ln 2 · Σ bytes). Models are compared on the same documents (paired), so the
difficulty of a document that is hard for both models cancels in their difference.

- Over documents (`bits_per_byte_replicates`): documents are resampled within their repository, and the interval is read
  from the replicates. It generalises to other documents of these repositories. The bootstrap of n documents understates
  a variance by (n - 1) / n, so repositories with fewer than `MIN_DOCUMENTS` documents are resampled together, as survey
  statisticians collapse strata (Wolter 2007, Introduction to Variance Estimation, section 2.5).
- Over repositories (`repository_figures`, `mean_interval`): each repository has one figure, and the interval is
  Student's, of their mean, with one degree of freedom fewer than repositories. It generalises to other repositories
  like these. It keeps its level however unequal the repositories are in size and noise (Ibragimov and Müller 2010,
  JBES 28:453). A bootstrap or a jackknife of the ratio over all documents does not: with one large repository among
  small ones, 2.5 % on one side became 8 % (jackknife) and more.

Near-copies count once: for the interval over documents, `merge_near_copies` makes one row of them first; and a
repository counts only if it has a row of its own then.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from flyte_llama.config import MIN_REPOSITORIES

REPLICATES = 10_000
MIN_DOCUMENTS = 10
"""Minimum number of documents in a stratum, and for an interval: with 2, a nominal 95 % interval covers 50 %."""

_NORMAL_QUANTILE = 1.959963984540054
"""The 0.975 quantile of the standard normal distribution."""

_STUDENT_QUANTILES = (12.7062, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.30600)
"""The 0.975 quantiles of Student's distribution with 1 to 8 degrees of freedom."""

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
    # sort the rows by stratum
    strata = _collapse_small(repositories)
    order = sorted(range(len(keys)), key=lambda index: (strata[index], keys[index]))
    columns = np.column_stack([nats, num_bytes]).astype(np.float64)[order]
    sizes = [size for _, size in sorted(Counter(strata).items())]
    # draw, block by block, and divide the sums
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(keys))
    sums = [
        _resample_sums(columns, sizes, min(block, replicates - begin), random) for begin in range(0, replicates, block)
    ]
    total = np.concatenate(sums)
    bits: np.ndarray = total[:, :-1] / (math.log(2) * total[:, -1:])
    return bits


class Cases(NamedTuple):
    """What an interval counts as independent: documents, with near-copies merged into one."""

    nats: np.ndarray
    """(cases, columns)."""

    num_bytes: np.ndarray
    """(cases,)."""

    repositories: Sequence[tuple[str, ...]]
    """The repository of each case: name and URL."""

    keys: Sequence[Any]
    """A unique key for each case."""


def merge_near_copies(cases: Cases, groups: Sequence[int]) -> Cases:
    """Add up the rows of near-copies, as one case of the repository of the first of them by repository and key.

    Args:
        groups: A number for each row; rows with the same one are near-copies. -1 is a row that has none.
    """
    order = sorted(range(len(groups)), key=lambda row: (cases.repositories[row], cases.keys[row]))
    index_of: dict[tuple[int, int], int] = {}
    firsts: list[int] = []
    target = np.zeros(len(groups), dtype=np.int64)
    for row in order:
        name = (groups[row], row if groups[row] < 0 else 0)
        if name not in index_of:
            index_of[name] = len(firsts)
            firsts.append(row)
        target[row] = index_of[name]
    nats, num_bytes = (_sum_groups(values, target, len(firsts)) for values in (cases.nats, cases.num_bytes))
    return Cases(nats, num_bytes, [cases.repositories[row] for row in firsts], [cases.keys[row] for row in firsts])


def repository_figures(cases: Cases, *, of: Collection[tuple[str, ...]] | None = None) -> np.ndarray:
    """Return the bits per byte of repositories, (repositories, columns), in sorted order.

    Args:
        of: The repositories; all by default.
    """
    index_of = {name: index for index, name in enumerate(sorted(set(cases.repositories if of is None else of)))}
    kept = [row for row, name in enumerate(cases.repositories) if name in index_of]
    rows = [index_of[cases.repositories[row]] for row in kept]
    nats, num_bytes = (_sum_groups(values[kept], rows, len(index_of)) for values in (cases.nats, cases.num_bytes))
    return nats / (math.log(2) * num_bytes[:, None])


def mean_interval(figures: np.ndarray) -> Interval | None:
    """Return Student's interval of the mean of independent figures (1-D), one of each repository.

    None with fewer than `MIN_REPOSITORIES`: with two, it is nearly never narrow enough to say anything, and it rests
    wholly on how far two numbers happen to lie apart.
    """
    if len(figures) < MIN_REPOSITORIES:
        return None
    half = _student_quantile(len(figures) - 1) * float(figures.std(ddof=1)) / math.sqrt(len(figures))
    return Interval(float(figures.mean()) - half, float(figures.mean()) + half)


def chance_of_fall(differences: np.ndarray, *, replicates: int = REPLICATES, seed: int = 0) -> float:
    """Return how probable a mean difference this low or lower is by chance (one-sided).

    By chance, each case's difference could as well have the other sign, so signs are drawn at random (Fisher 1935, The
    Design of Experiments, section 21). Holds for any number of cases: with five, all worse, it is 1/32.

    Args:
        differences: Subject minus reference, paired by case (1-D).
    """
    changed = differences[differences != 0]
    if not len(changed):
        return 1.0
    random, lower = np.random.default_rng(seed), 0
    # A sum that is equal but for rounding counts.
    highest = changed.sum() + 1e-9 * np.abs(changed).sum()
    block = max(1, _BLOCK // len(changed))
    for begin in range(0, replicates, block):
        signs = 2.0 * random.integers(0, 2, size=(min(block, replicates - begin), len(changed))) - 1
        lower += int(np.count_nonzero(signs @ np.abs(changed) <= highest))
    return (1 + lower) / (1 + replicates)


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


def wilson_interval(successes: float, cases: int) -> Interval:
    """Return Wilson's interval of a share of independent cases.

    A case may succeed in part: if it has several answers, `successes` adds up the share of each case that passed. The
    variance is then at most that of cases that pass or fail, so the interval is wide enough. Unlike the normal
    approximation it stays within 0 to 1, and has a width above 0 even if all or no cases succeed.

    Wilson 1927, JASA 22:209; Brown, Cai and DasGupta 2001, Statistical Science 16:101, section 3.1.1.

    Raises:
        ValueError: unless 0 <= successes <= cases and cases >= 1.
    """
    if not 0 <= successes <= cases or not cases:
        raise ValueError(
            f"{successes:g} of {cases} succeeded: need at least one case, and between 0 and {cases} successes"
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


def _sum_groups(values: np.ndarray, groups: Sequence[int] | np.ndarray, num_groups: int) -> np.ndarray:
    """Add up the rows of each group; `groups` has the group of each row, from 0 on."""
    sums = np.zeros((num_groups, *values.shape[1:]))
    np.add.at(sums, groups, values)
    return sums


def _resample_sums(
    columns: np.ndarray, sizes: Sequence[int], replicates: int, random: np.random.Generator
) -> np.ndarray:
    """Return the column sums of resampled rows, (replicates, columns).

    Args:
        columns: Rows ordered by stratum.
        sizes: Number of rows in each stratum.
    """
    sums, begin, replicate = np.zeros((replicates, columns.shape[1])), 0, np.arange(replicates)[:, None]
    for size in sizes:
        stratum, begin = columns[begin : begin + size], begin + size
        picked = (random.random((replicates, size)) * size).astype(np.int64)
        # Count how often each replicate picks each row, so that the sums are one matrix product.
        picked += replicate * size
        sums += np.bincount(picked.ravel(), minlength=replicates * size).reshape(replicates, size) @ stratum
    return sums


def _student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's distribution: a table for few degrees of freedom, else an expansion.

    The expansion is in 1 / degrees (Abramowitz and Stegun 1964, 26.7.5; the table is their 26.10).
    """
    if degrees <= len(_STUDENT_QUANTILES):
        return _STUDENT_QUANTILES[degrees - 1]
    z = _NORMAL_QUANTILE
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, 1))
