"""Intervals cover the true value, pair the models, and depend on nothing but the documents and the seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flyte_llama.evaluation.intervals import (
    Cases,
    _collapse_small,
    _student_quantile,
    bits_per_byte_replicates,
    chance_of_fall,
    mean_interval,
    merge_near_copies,
    percentile_interval,
    repository_figures,
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


def over_repositories(nats: np.ndarray, num_bytes: np.ndarray, repositories: list[tuple[str, ...]]):
    cases = Cases(nats[:, 1:] - nats[:, :1], num_bytes, repositories, range(len(num_bytes)))
    return mean_interval(repository_figures(cases)[:, 0])


def coverage(*, simulations: int = 300, **shape) -> float:
    intervals = [change_of(*simulate(seed, **shape), replicates=400, seed=seed) for seed in range(simulations)]
    return sum(interval.low <= SLOPE <= interval.high for interval in intervals) / simulations


def test_about_95_of_100_intervals_cover_the_true_difference():
    assert 0.91 <= coverage(clusters=3, each=30, between=0.0, within=0.1) <= 0.98


@pytest.mark.parametrize(("clusters", "each"), [(60, 1), (30, 2), (20, 3), (12, 5), (8, 2)])
def test_documents_in_small_repositories_vary_as_much(clusters: int, each: int):
    assert 0.90 <= coverage(clusters=clusters, each=each, between=0.0, within=0.1) <= 0.98


def test_repositories_of_uneven_sizes_share_strata_of_enough_documents():
    sizes = {"a": 2, "b": 9, "c": 30, "d": 1, "e": 12}
    repositories = [(name,) for name, size in sizes.items() for _ in range(size)]
    assert _collapse_small(repositories) == [() if name in "abd" else (name,) for (name,) in repositories]
    assert _collapse_small([("a",)] * 3 + [("b",)] * 12) == [()] * 15
    assert _collapse_small([("a",)] * 3) == [()] * 3


def test_where_repositories_differ_only_the_interval_over_repositories_covers():
    shape = {"clusters": 25, "each": 8, "between": 0.1, "within": 0.1}
    assert coverage(**shape) < 0.85
    intervals = [over_repositories(*simulate(seed, **shape)) for seed in range(1000)]
    assert 0.93 <= sum(interval.low <= SLOPE <= interval.high for interval in intervals) / 1000 <= 0.97


def slow(difference: np.ndarray, num_bytes: np.ndarray, repositories: list[tuple[str, ...]], replicates: int):
    """The same replicates by loops over lists."""
    random = np.random.default_rng(99)
    names = sorted(set(repositories))
    rows = {name: [row for row, repository in enumerate(repositories) if repository == name] for name in names}
    results = []
    for _ in range(replicates):
        picked = [rows[name][random.integers(len(rows[name]))] for name in names for _ in rows[name]]
        bits = sum(difference[row] for row in picked) / (math.log(2) * sum(num_bytes[row] for row in picked))
        results.append(bits)
    return np.array(results)


def test_replicates_are_distributed_as_in_the_slow_obvious_version():
    nats, num_bytes, repositories = simulate(1, clusters=4, each=12, between=0.2, within=0.1)
    difference = nats[:, 1] - nats[:, 0]
    fast = bits_per_byte_replicates(difference[:, None], num_bytes, repositories, range(48))[:, 0]
    obvious = slow(difference, num_bytes, repositories, 3000)
    spread = obvious.std()
    assert fast.mean() == pytest.approx(obvious.mean(), abs=0.1 * spread)
    assert fast.std() == pytest.approx(spread, rel=0.06)
    shares = (2.5, 25, 50, 75, 97.5)
    assert np.percentile(fast, shares) == pytest.approx(np.percentile(obvious, shares), abs=0.15 * spread)


def test_the_order_of_documents_changes_nothing():
    nats, num_bytes, repositories = simulate(2, clusters=5, each=7, between=0.1, within=0.1)
    order = np.random.default_rng(3).permutation(35)
    in_order = bits_per_byte_replicates(nats, num_bytes, repositories, range(35), replicates=50)
    shuffled = bits_per_byte_replicates(
        nats[order],
        num_bytes[order],
        [repositories[row] for row in order],
        order.tolist(),
        replicates=50,
    )
    assert np.array_equal(in_order, shuffled)


def test_the_seed_decides():
    sample = simulate(2, clusters=5, each=7, between=0.1, within=0.1)
    assert change_of(*sample, seed=1) == change_of(*sample, seed=1)
    assert change_of(*sample, seed=1) != change_of(*sample, seed=2)


def test_the_change_between_equal_models_is_exactly_0():
    nats, num_bytes, repositories = simulate(4, clusters=3, each=5, between=0.1, within=0.1)
    interval = change_of(nats[:, [0, 0]], num_bytes, repositories)
    assert (interval.low, interval.high) == (0.0, 0.0)


def test_a_paired_interval_is_narrower_than_an_unpaired_one():
    nats, num_bytes, repositories = simulate(6, clusters=2, each=60, between=0.0, within=0.03)
    paired = change_of(nats, num_bytes, repositories)
    alone = [
        bits_per_byte_replicates(nats[:, [model]], num_bytes, repositories, range(120), seed=[7, model])[:, 0]
        for model in (0, 1)
    ]
    unpaired = percentile_interval(alone[1] - alone[0], cases=120)
    assert 5 * (paired.high - paired.low) < unpaired.high - unpaired.low


def test_repositories_of_one_name_and_several_urls_are_several():
    nats, num_bytes, repositories = simulate(8, clusters=4, each=12, between=0.2, within=0.1)
    same_name = [("acme/tools", url) for (url,) in repositories]
    for interval_of in (change_of, over_repositories):
        assert interval_of(nats, num_bytes, same_name) == interval_of(nats, num_bytes, repositories)


def test_two_documents_with_the_same_key_are_refused():
    with pytest.raises(ValueError, match="2 documents with 1 distinct keys"):
        bits_per_byte_replicates(np.ones((2, 1)), np.ones(2), [("r",)] * 2, ["a", "a"])


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.30265), (6, 2.44691), (9, 2.26216), (15, 2.13145), (29, 2.04523), (1000, 1.96234)],
)
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


def test_the_interval_over_repositories_is_students():
    # Mean -2, standard deviation 1, and 4.30265 for two degrees of freedom.
    interval = mean_interval(np.array([-1.0, -2.0, -3.0]))
    assert (interval.low, interval.high) == pytest.approx((-2 - 4.30265 / 3**0.5, -2 + 4.30265 / 3**0.5))
    assert mean_interval(np.array([-1.0, -1.0])) is None


def test_near_copies_are_one_case_of_the_first_of_their_repositories():
    nats, num_bytes = np.array([[1.0], [2.0], [4.0], [8.0]]), np.array([10, 20, 40, 80])
    cases = merge_near_copies(Cases(nats, num_bytes, [("b",), ("a",), ("a",), ("c",)], "wxyz"), [5, 5, -1, 5])
    assert cases.nats.tolist() == [[11.0], [4.0]]
    assert cases.num_bytes.tolist() == [110, 40]
    assert (cases.repositories, cases.keys) == ([("a",), ("a",)], ["x", "y"])


def test_documents_without_near_copies_stay_as_they_are():
    nats, num_bytes, repositories = simulate(9, clusters=3, each=4, between=0.1, within=0.1)
    before = Cases(nats, num_bytes, repositories, range(12))
    for groups in ([-1] * 12, range(12)):
        merged = merge_near_copies(before, groups)
        assert np.array_equal(merged.nats, nats)
        assert np.array_equal(merged.num_bytes, num_bytes)


@pytest.mark.parametrize(
    ("differences", "chance"),
    [([-1] * 5, 1 / 32), ([-1] * 10 + [0] * 90, 1 / 1024), ([-1, 1] * 5, 0.623), ([1] * 5, 1), ([0] * 5, 1)],
)
def test_the_chance_of_a_fall_is_that_of_drawing_its_signs(differences: list[float], chance: float):
    assert chance_of_fall(np.array(differences, dtype=float)) == pytest.approx(chance, abs=0.015, rel=0.5)
