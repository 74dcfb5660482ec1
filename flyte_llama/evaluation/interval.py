"""95 % intervals, and the two ways in which one is made: of replicates of a figure, and of a share of cases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_NORMAL_QUANTILE = 1.959963984540054
"""Of 0.975."""


@dataclass(frozen=True)
class Interval:
    """From the lower to the upper end of a 95 % interval."""

    low: float
    high: float


def percentile_interval(replicates: np.ndarray, *, cases: int) -> Interval:
    """From the 2.5th to the 97.5th percentile of a figure's replicates, 1-D; a little further out with few cases.

    Hesterberg 2015, What Teachers Should Know About the Bootstrap, section 5.3: the plain percentiles are too narrow as
    an interval by normal quantiles and n for n - 1 would be, so they are taken at Φ(-t·√(n / (n - 1))), t the 97.5 %
    quantile of Student's distribution. Of 10 cases these are the 0.9th and the 99.1th.

    Args:
        cases: What was resampled, at least 2.
    """
    outside = 100 * NormalDist().cdf(-_student_quantile(cases - 1) * math.sqrt(cases / (cases - 1)))
    low, high = np.percentile(replicates, (outside, 100 - outside))
    return Interval(float(low), float(high))


def _student_quantile(degrees: int) -> float:
    """97.5 % of Student's distribution, by its expansion in 1 / degrees (Abramowitz and Stegun 1964, 26.7.5)."""
    z = _NORMAL_QUANTILE
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, 1))


def wilson_interval(successes: int, cases: int) -> Interval:
    """Of a share of independent cases; neither empty nor outside 0 to 1 where none, or all, succeed.

    Wilson 1927, JASA 22:209; Brown, Cai and DasGupta 2001, Statistical Science 16:101, section 3.1.1.

    Raises:
        ValueError: unless 0 <= successes <= cases and there is a case.
    """
    if not 0 <= successes <= cases or not cases:
        raise ValueError(f"{successes} of {cases} succeeded: a share needs a case, and no more successes than cases")
    share, square = successes / cases, _NORMAL_QUANTILE**2
    centre = (share + square / (2 * cases)) / (1 + square / cases)
    spread = math.sqrt(share * (1 - share) / cases + square / (4 * cases**2)) * _NORMAL_QUANTILE / (1 + square / cases)
    # Where none, or all, succeed, an end of the interval is a whole number, which rounding must not miss.
    low = 0.0 if successes == 0 else centre - spread
    return Interval(low, 1.0 if successes == cases else centre + spread)
