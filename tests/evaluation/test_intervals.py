"""Intervals cover the true value, pair the models, and depend on nothing but the documents and the seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flyte_llama.evaluation.intervals import (
    _collapse_small,
    _student_quantile,
    bits_per_byte_replicates,
    percentile_interval,
    wilson_interval,
)

MEAN, SLOPE = 0.5, -0.1


def simulate(seed: int, *, clusters: int, each: int, between: float, within: float):
    """Return (nats of two models, bytes, repositories) of documents with skewed sizes; the true change is SLOPE."""
    random = np.random.default_rng(seed)
    num_bytes = np.ceil(random.lognormal(6, 0.7, clusters * each))
    hard = random.normal(MEAN, 0.3, clusters * each)
    effect = np.repeat(random.normal(SLOPE, between, clusters), each) + random.normal(0, within, clusters * each)
    nats = np.column_stack([hard, hard + effect]) * (num_bytes * math.log(2))[:, None]
    return nats, num_bytes, [(f"r{index:03}",) for index in range(clusters) for _ in range(each)]


def change_of(nats: np.ndarray, num_bytes: np.ndarray, repositories: list[tuple[str, ...]], **how):
    difference = nats[:, 1:] - nats[:, :1]
    replicates = bits_per_byte_replicates(difference, num_bytes, repositories, range(len(num_bytes)), **how)
    return percentile_interval(replicates[:, 0], cases=len(num_bytes))


def coverage(scheme: str, *, simulations: int = 300, **shape) -> float:
    intervals = [
        change_of(*simulate(seed, **shape), scheme=scheme, replicates=400, seed=seed) for seed in range(simulations)
    ]
    return sum(interval.low <= SLOPE <= interval.high for interval in intervals) / simulations


def test_about_95_of_100_intervals_cover_the_true_difference():
    assert 0.91 <= coverage("documents", clusters=3, each=30, between=0.0, within=0.1) <= 0.98


@pytest.mark.parametrize(("clusters", "each"), [(60, 1), (30, 2), (20, 3), (12, 5), (8, 2)])
def test_documents_in_small_repositories_vary_as_much(clusters: int, each: int):
    assert 0.90 <= coverage("documents", clusters=clusters, each=each, between=0.0, within=0.1) <= 0.98


def test_repositories_of_uneven_sizes_share_strata_of_enough_documents():
    sizes = {"a": 2, "b": 9, "c": 30, "d": 1, "e": 12}
    repositories = [(name,) for name, size in sizes.items() for _ in range(size)]
    assert _collapse_small(repositories) == [() if name in "abd" else (name,) for (name,) in repositories]
    assert _collapse_small([("a",)] * 3 + [("b",)] * 12) == [()] * 15
    assert _collapse_small([("a",)] * 3) == [()] * 3


def test_where_repositories_differ_only_the_clustered_interval_covers():
    shape = {"clusters": 25, "each": 8, "between": 0.1, "within": 0.1}
    assert coverage("documents", **shape) < 0.85
    assert 0.90 <= coverage("clustered", **shape) <= 0.99


def slow(
    difference: np.ndarray, num_bytes: np.ndarray, repositories: list[tuple[str, ...]], scheme: str, replicates: int
):
    """The same replicates by loops over lists."""
    random = np.random.default_rng(99)
    names = sorted(set(repositories))
    rows = {name: [row for row, repository in enumerate(repositories) if repository == name] for name in names}
    results = []
    for _ in range(replicates):
        drawn = names if scheme == "documents" else [names[random.integers(len(names))] for _ in names]
        picked = [rows[name][random.integers(len(rows[name]))] for name in drawn for _ in rows[name]]
        bits = sum(difference[row] for row in picked) / (math.log(2) * sum(num_bytes[row] for row in picked))
        results.append(bits)
    return np.array(results)


@pytest.mark.parametrize("scheme", ["documents", "clustered"])
def test_replicates_are_distributed_as_in_the_slow_obvious_version(scheme: str):
    nats, num_bytes, repositories = simulate(1, clusters=4, each=12, between=0.2, within=0.1)
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
    nats, num_bytes, repositories = simulate(2, clusters=5, each=7, between=0.1, within=0.1)
    order = np.random.default_rng(3).permutation(35)
    in_order = bits_per_byte_replicates(nats, num_bytes, repositories, range(35), scheme=scheme, replicates=50)
    shuffled = bits_per_byte_replicates(
        nats[order],
        num_bytes[order],
        [repositories[row] for row in order],
        order.tolist(),
        scheme=scheme,
        replicates=50,
    )
    assert np.array_equal(in_order, shuffled)


def test_the_seed_decides():
    sample = simulate(2, clusters=5, each=7, between=0.1, within=0.1)
    assert change_of(*sample, scheme="clustered", seed=1) == change_of(*sample, scheme="clustered", seed=1)
    assert change_of(*sample, scheme="clustered", seed=1) != change_of(*sample, scheme="clustered", seed=2)


def test_the_change_between_equal_models_is_exactly_0():
    nats, num_bytes, repositories = simulate(4, clusters=3, each=5, between=0.1, within=0.1)
    interval = change_of(nats[:, [0, 0]], num_bytes, repositories, scheme="clustered")
    assert (interval.low, interval.high) == (0.0, 0.0)


def test_with_one_repository_both_schemes_agree():
    sample = simulate(5, clusters=1, each=20, between=0.1, within=0.1)
    assert change_of(*sample, scheme="documents") == change_of(*sample, scheme="clustered")


def test_a_paired_interval_is_narrower_than_an_unpaired_one():
    nats, num_bytes, repositories = simulate(6, clusters=2, each=60, between=0.0, within=0.03)
    paired = change_of(nats, num_bytes, repositories, scheme="documents")
    alone = [
        bits_per_byte_replicates(
            nats[:, [model]], num_bytes, repositories, range(120), scheme="documents", seed=[7, model]
        )[:, 0]
        for model in (0, 1)
    ]
    unpaired = percentile_interval(alone[1] - alone[0], cases=120)
    assert 5 * (paired.high - paired.low) < unpaired.high - unpaired.low


def test_repositories_of_one_name_and_two_urls_are_two_clusters():
    nats, num_bytes, repositories = simulate(8, clusters=2, each=12, between=0.2, within=0.1)
    same_name = [("acme/tools", url) for (url,) in repositories]
    for scheme in ("documents", "clustered"):
        interval = change_of(nats, num_bytes, same_name, scheme=scheme)
        assert interval == change_of(nats, num_bytes, repositories, scheme=scheme)


def test_two_documents_with_the_same_key_are_refused():
    with pytest.raises(ValueError, match="2 documents with 1 distinct keys"):
        bits_per_byte_replicates(np.ones((2, 1)), np.ones(2), [("r",)] * 2, ["a", "a"], scheme="documents")


@pytest.mark.parametrize(("degrees", "quantile"), [(9, 2.26216), (15, 2.13145), (29, 2.04523), (1000, 1.96234)])
def test_students_quantile_agrees_with_the_tables(degrees: int, quantile: float):
    assert _student_quantile(degrees) == pytest.approx(quantile, abs=2e-4)


def test_few_cases_make_a_wider_interval():
    replicates = np.random.default_rng(0).normal(size=10_000)
    widths = [
        interval.high - interval.low
        for interval in (percentile_interval(replicates, cases=n) for n in (10, 30, 10_000))
    ]
    assert widths[0] > widths[1] > widths[2] == pytest.approx(2 * 1.96, rel=0.03)


def test_wilsons_interval_agrees_with_the_formula_of_the_paper():
    # 1 of 10, then 0 of 10; worked out separately from the code.
    assert wilson_interval(1, 10).low == pytest.approx(0.0178762, abs=1e-6)
    assert wilson_interval(1, 10).high == pytest.approx(0.4041500, abs=1e-6)
    assert (wilson_interval(0, 10).low, wilson_interval(10, 10).high) == (0.0, 1.0)
    assert wilson_interval(0, 10).high == pytest.approx(0.2775328, abs=1e-6)
