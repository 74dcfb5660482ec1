"""Intervals: that they cover, that they pair, and that nothing but the documents moves them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flyte_llama.evaluation.bootstrap import _collapsed, bits_per_byte_replicates
from flyte_llama.evaluation.interval import _student_quantile, percentile_interval, wilson_interval

MEAN, SLOPE = 0.5, -0.1


def simulated(seed: int, *, clusters: int, each: int, between: float, within: float):
    """Documents of skewed sizes whose true difference is SLOPE bits per byte; (nats of two models, bytes, names)."""
    random = np.random.default_rng(seed)
    num_bytes = np.ceil(random.lognormal(6, 0.7, clusters * each))
    hard = random.normal(MEAN, 0.3, clusters * each)
    effect = np.repeat(random.normal(SLOPE, between, clusters), each) + random.normal(0, within, clusters * each)
    nats = np.column_stack([hard, hard + effect]) * (num_bytes * math.log(2))[:, None]
    return nats, num_bytes, [f"r{number:03}" for number in range(clusters) for _ in range(each)]


def change_of(nats: np.ndarray, num_bytes: np.ndarray, repositories: list[str], **how):
    difference = nats[:, 1:] - nats[:, :1]
    replicates = bits_per_byte_replicates(difference, num_bytes, repositories, range(len(num_bytes)), **how)
    return percentile_interval(replicates[:, 0], cases=len(num_bytes))


def coverage(scheme: str, *, simulations: int = 300, **shape) -> float:
    found = [
        change_of(*simulated(seed, **shape), scheme=scheme, replicates=400, seed=seed) for seed in range(simulations)
    ]
    return sum(interval.low <= SLOPE <= interval.high for interval in found) / simulations


def test_about_95_of_100_intervals_cover_the_true_difference():
    assert 0.91 <= coverage("documents", clusters=3, each=30, between=0.0, within=0.1) <= 0.98


@pytest.mark.parametrize(("clusters", "each"), [(60, 1), (30, 2), (20, 3), (12, 5), (8, 2)])
def test_documents_that_have_few_others_in_their_repositories_vary_as_much(clusters: int, each: int):
    assert 0.90 <= coverage("documents", clusters=clusters, each=each, between=0.0, within=0.1) <= 0.98


def test_repositories_of_uneven_sizes_share_strata_of_enough_documents():
    sizes = {"a": 2, "b": 9, "c": 30, "d": 1, "e": 12}
    names = [name for name, size in sizes.items() for _ in range(size)]
    assert _collapsed(names) == ["" if name in "abd" else name for name in names]
    assert _collapsed(["a"] * 3 + ["b"] * 12) == [""] * 15
    assert _collapsed(["a"] * 3) == [""] * 3


def test_where_repositories_differ_only_the_clustered_interval_covers():
    shape = {"clusters": 25, "each": 8, "between": 0.1, "within": 0.1}
    assert coverage("documents", **shape) < 0.85
    assert 0.90 <= coverage("clustered", **shape) <= 0.99


def slow(difference: np.ndarray, num_bytes: np.ndarray, repositories: list[str], scheme: str, replicates: int):
    """The same from loops over lists."""
    random = np.random.default_rng(99)
    names = sorted(set(repositories))
    rows = {name: [row for row, own in enumerate(repositories) if own == name] for name in names}
    found = []
    for _ in range(replicates):
        drawn = names if scheme == "documents" else [names[random.integers(len(names))] for _ in names]
        picked = [rows[name][random.integers(len(rows[name]))] for name in drawn for _ in rows[name]]
        bits = sum(difference[row] for row in picked) / (math.log(2) * sum(num_bytes[row] for row in picked))
        found.append(bits)
    return np.array(found)


@pytest.mark.parametrize("scheme", ["documents", "clustered"])
def test_replicates_are_distributed_as_those_of_the_slow_obvious_version(scheme: str):
    nats, num_bytes, repositories = simulated(1, clusters=4, each=12, between=0.2, within=0.1)
    difference = nats[:, 1] - nats[:, 0]
    fast = bits_per_byte_replicates(difference[:, None], num_bytes, repositories, range(48), scheme=scheme)[:, 0]
    obvious = slow(difference, num_bytes, repositories, scheme, 3000)
    spread = obvious.std()
    assert fast.mean() == pytest.approx(obvious.mean(), abs=0.1 * spread)
    assert fast.std() == pytest.approx(spread, rel=0.06)
    shares = (2.5, 25, 50, 75, 97.5)
    assert np.percentile(fast, shares) == pytest.approx(np.percentile(obvious, shares), abs=0.15 * spread)


@pytest.mark.parametrize("scheme", ["documents", "clustered"])
def test_the_order_of_documents_changes_nothing(scheme: str):
    nats, num_bytes, repositories = simulated(2, clusters=5, each=7, between=0.1, within=0.1)
    order = np.random.default_rng(3).permutation(35)
    one = bits_per_byte_replicates(nats, num_bytes, repositories, range(35), scheme=scheme, replicates=50)
    other = bits_per_byte_replicates(
        nats[order],
        num_bytes[order],
        [repositories[row] for row in order],
        order.tolist(),
        scheme=scheme,
        replicates=50,
    )
    assert np.array_equal(one, other)


def test_the_seed_decides():
    own = simulated(2, clusters=5, each=7, between=0.1, within=0.1)
    assert change_of(*own, scheme="clustered", seed=1) == change_of(*own, scheme="clustered", seed=1)
    assert change_of(*own, scheme="clustered", seed=1) != change_of(*own, scheme="clustered", seed=2)


def test_equal_models_differ_by_nothing():
    nats, num_bytes, repositories = simulated(4, clusters=3, each=5, between=0.1, within=0.1)
    interval = change_of(nats[:, [0, 0]], num_bytes, repositories, scheme="clustered")
    assert (interval.low, interval.high) == (0.0, 0.0)


def test_with_one_repository_both_schemes_are_one():
    own = simulated(5, clusters=1, each=20, between=0.1, within=0.1)
    assert change_of(*own, scheme="documents") == change_of(*own, scheme="clustered")


def test_a_paired_interval_is_narrower_than_an_unpaired_one():
    nats, num_bytes, repositories = simulated(6, clusters=2, each=60, between=0.0, within=0.03)
    paired = change_of(nats, num_bytes, repositories, scheme="documents")
    alone = [
        bits_per_byte_replicates(
            nats[:, [model]], num_bytes, repositories, range(120), scheme="documents", seed=[7, model]
        )[:, 0]
        for model in (0, 1)
    ]
    unpaired = percentile_interval(alone[1] - alone[0], cases=120)
    assert 5 * (paired.high - paired.low) < unpaired.high - unpaired.low


def test_two_documents_of_one_key_are_refused():
    with pytest.raises(ValueError, match="2 documents with 1 keys"):
        bits_per_byte_replicates(np.ones((2, 1)), np.ones(2), ["r", "r"], ["a", "a"], scheme="documents")


@pytest.mark.parametrize(("degrees", "quantile"), [(9, 2.26216), (15, 2.13145), (29, 2.04523), (1000, 1.96234)])
def test_students_quantile_is_that_of_the_tables(degrees: int, quantile: float):
    assert _student_quantile(degrees) == pytest.approx(quantile, abs=2e-4)


def test_few_cases_make_a_wider_interval():
    replicates = np.random.default_rng(0).normal(size=10_000)
    widths = [own.high - own.low for own in (percentile_interval(replicates, cases=n) for n in (10, 30, 10_000))]
    assert widths[0] > widths[1] > widths[2] == pytest.approx(2 * 1.96, rel=0.03)


def test_wilsons_interval_is_that_of_the_paper():
    # Of 1 and of 0 of 10, worked out apart from the code.
    assert wilson_interval(1, 10).low == pytest.approx(0.0178762, abs=1e-6)
    assert wilson_interval(1, 10).high == pytest.approx(0.4041500, abs=1e-6)
    assert (wilson_interval(0, 10).low, wilson_interval(10, 10).high) == (0.0, 1.0)
    assert wilson_interval(0, 10).high == pytest.approx(0.2775328, abs=1e-6)
