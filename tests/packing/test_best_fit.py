"""Best fit decreasing, against the slow obvious one."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.packing import best_fit


def slow_best_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    """Each length, the longest first, into the fullest bin with room for it; of equally full ones that filled last."""
    bins: list[list[int]] = []
    filled: list[int] = []
    for turn, number in enumerate(sorted(range(len(lengths)), key=lambda number: -lengths[number])):
        rooms = [(capacity - sum(lengths[one] for one in found), -filled[n], n) for n, found in enumerate(bins)]
        fitting = [place for place in rooms if place[0] >= lengths[number]]
        if not fitting:
            bins.append([])
            filled.append(turn)
        chosen = min(fitting)[2] if fitting else len(bins) - 1
        bins[chosen].append(number)
        filled[chosen] = turn
    return bins


@given(lengths=st.lists(st.integers(1, 20), max_size=80))
def test_it_equals_the_slow_search(lengths: list[int]):
    assert best_fit(lengths, capacity=20) == slow_best_fit(lengths, 20)


def test_a_length_goes_where_it_leaves_the_least_room():
    # 7 and 5 open a bin each; 4 fits beside 5 alone, and 3 beside 7 leaves nothing.
    assert best_fit([3, 4, 5, 7], capacity=10) == [[3, 0], [2, 1]]


def test_nothing_needs_no_bin():
    assert best_fit([], capacity=4) == []


@pytest.mark.parametrize("lengths", [[0, 2], [2, 5], [-1]])
def test_a_length_that_no_bin_can_hold_is_refused(lengths: list[int]):
    with pytest.raises(ValueError, match="between 1 and 4"):
        best_fit(lengths, capacity=4)


def test_pieces_of_a_realistic_corpus_leave_under_a_hundredth_empty_and_take_no_time():
    rng = random.Random(0)  # noqa: S311  # no secret
    lengths = [min(4096, int(rng.lognormvariate(6.4, 1.2)) + 1) for _ in range(50_000)]
    start = time.perf_counter()
    bins = best_fit(lengths, capacity=4096)
    assert time.perf_counter() - start < 5  # a tenth of a second on a quiet machine; the slow search takes minutes
    assert sorted(number for found in bins for number in found) == list(range(50_000))
    assert sum(lengths) > 0.999 * 4096 * len(bins)
