"""A model is called better on other repositories in at most 4 of 100 cases if it is not, and often if it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from flyte_llama.evaluation import Change, align_scores, compare
from flyte_llama.evaluation.intervals import Cases, mean_interval, repository_figures
from flyte_llama.evaluation.scores import DocumentScore

LN2 = math.log(2)
SIZES = {
    "3 equal": [30, 30, 30],
    "3 unequal": [250, 40, 12],
    "7 equal": [20] * 7,
    "7 unequal": [300, 80, 40, 20, 12, 6, 3],
    "7, one of them large": [300, 5, 5, 5, 5, 5, 5],
    "20 equal": [15] * 20,
    "20 unequal": [190, 120, 66, 41, 30, 28, 19, 14, 13, 10, 9, 8, 7, 6, 6, 5, 4, 3, 2, 1],
}


def simulate(
    sizes: Sequence[int], *, between: float, change: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return (change in nats, bytes) of documents of skewed sizes.

    A document's change in bits per byte is `change`, plus its repository's deviation with a spread of `between`, plus
    its own with a spread of 1.
    """
    num_bytes = np.ceil(random.lognormal(6, 0.7, sum(sizes)))
    bits = np.repeat(random.normal(change, between, len(sizes)), sizes) + random.normal(0, 1, sum(sizes))
    return bits * num_bytes * LN2, num_bytes


def share_of_claims(sizes: Sequence[int], *, simulations: int, seed: int = 0, **shape: float) -> float:
    """The share of simulations whose interval over repositories lies below 0."""
    random = np.random.default_rng(seed)
    repositories = [(f"r{index:02}",) for index, size in enumerate(sizes) for _ in range(size)]
    claims = 0
    for _ in range(simulations):
        nats, num_bytes = simulate(sizes, random=random, **shape)
        cases = Cases(nats[:, None], num_bytes, repositories, range(len(num_bytes)))
        interval = mean_interval(repository_figures(cases)[:, 0])
        claims += interval is not None and interval.high < 0
    return claims / simulations


def compared(sizes: Sequence[int], *, random: np.random.Generator, **shape: float) -> Change:
    """The change that a report shows for one simulation."""
    nats, num_bytes = simulate(sizes, random=random, **shape)
    repositories = [f"o/r{index:02}" for index, size in enumerate(sizes) for _ in range(size)]
    facts = {"role": "heldout", "start": 0, "language": "python", "kind": "source", "stratum": "clean"}
    facts |= {"freshness": "unknown", "num_tokens": 9, "top1": 1, "top5": 2, "position_nats": (1.0,)}
    scores = {
        model: [
            DocumentScore(
                **facts,
                repository=repository,
                url=f"https://example.com/{repository}",
                path=f"{index}.py",
                num_bytes=int(num_bytes[index]),
                nats=float(total[index]),
                position_tokens=(9,),
            )
            for index, repository in enumerate(repositories)
        ]
        for model, total in {"base": 10 * num_bytes, "fine-tuned": 10 * num_bytes + nats}.items()
    }
    comparison = compare(align_scores(scores), replicates=200)
    assert comparison is not None
    return comparison.overall.changes[0]


@pytest.mark.parametrize("between", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_of_100_models_that_are_not_better_at_most_4_are_called_better(sizes: list[int], between: float):
    assert share_of_claims(sizes, between=between, change=0.0, simulations=2000) <= 0.04


@pytest.mark.slow
@pytest.mark.parametrize("name", ["3 unequal", "7, one of them large", "20 unequal"])
def test_the_level_holds_in_many_simulations_too(name: str):
    assert share_of_claims(SIZES[name], between=0.3, change=0.0, simulations=20_000, seed=1) <= 0.031


@pytest.mark.parametrize(
    ("name", "between", "least"), [("7 equal", 0.3, 0.6), ("7 unequal", 0.3, 0.5), ("20 equal", 1.0, 0.4)]
)
def test_a_model_that_is_half_a_spread_better_is_often_called_better(name: str, between: float, least: float):
    assert share_of_claims(SIZES[name], between=between, change=-0.5, simulations=500) >= least


def test_two_repositories_are_never_enough_for_a_claim_about_others():
    assert share_of_claims([200, 200], between=0.0, change=-5.0, simulations=20) == 0
    change = compared([200, 200], between=0.0, change=-5.0, random=np.random.default_rng(0))
    assert change.is_better_here
    assert not change.is_better


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[280, 12], SIZES["3 unequal"], SIZES["7, one of them large"]], ids=["2", "3", "7"])
def test_a_whole_comparison_claims_no_more_although_its_documents_alone_would(sizes: list[int]):
    random = np.random.default_rng(2)
    changes = [compared(sizes, between=1.0, change=0.0, random=random) for _ in range(150)]
    assert sum(change.is_better for change in changes) / 150 <= 0.04
    assert sum(change.is_better_here for change in changes) / 150 > 0.2
