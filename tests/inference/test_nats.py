"""Windows partition the targets, and ranks of target ids agree with a full stable sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.inference.nats import Window, ranks_of, rolling_windows


def test_windows_roll_by_the_stride():
    assert list(rolling_windows(10, window=4, stride=2)) == [
        Window(0, 4, 1),
        Window(2, 6, 4),
        Window(4, 8, 6),
        Window(6, 10, 8),
    ]


@given(num_ids=st.integers(0, 300), window=st.integers(2, 50), data=st.data())
def test_every_target_is_scored_once_with_as_much_context_as_promised(num_ids: int, window: int, data):
    stride = data.draw(st.integers(1, window - 1))
    targets = []
    for begin, end, first_target in rolling_windows(num_ids, window=window, stride=stride):
        assert end - begin <= window
        assert begin < first_target
        assert begin == 0 or first_target - begin >= window - stride
        targets += range(first_target, end)
    assert targets == list(range(1, num_ids))


@pytest.mark.parametrize(("window", "stride"), [(4, 0), (4, 4), (2, 3)])
def test_a_stride_that_would_skip_or_stand_still_is_refused(window: int, stride: int):
    with pytest.raises(ValueError, match="stride"):
        list(rolling_windows(10, window=window, stride=stride))


def test_ranks_follow_the_sorted_logits_and_ties_go_to_the_lower_id():
    logits = torch.tensor([[0.0, 3.0, 2.0, 2.0, 2.0, -1.0]] * 6)
    assert ranks_of(logits, torch.tensor([1, 2, 3, 4, 0, 5])).tolist() == [0, 1, 2, 3, 4, 5]


# In groups of 64: less than one group, one, several with a rest, and more than the function reads twice.
@pytest.mark.parametrize("vocabulary", [1, 3, 7, 63, 64, 65, 383, 384, 385, 449, 1000, 4096])
# From ties everywhere to hardly any.
@pytest.mark.parametrize("values", [1, 2, 50, 2000, 10**6])
def test_ranks_equal_those_of_a_stable_sort(vocabulary: int, values: int):
    random = np.random.default_rng(vocabulary * values)
    logits = random.integers(0, values, (400, vocabulary)).astype(np.float32)
    order = np.argsort(-logits, axis=1, kind="stable")
    # Half of the targets are among the likeliest, where the order matters.
    likely = order[np.arange(400), random.integers(0, min(8, vocabulary), 400)]
    targets = np.where(np.arange(400) % 2, likely, random.integers(0, vocabulary, 400))
    ranks = ranks_of(torch.from_numpy(logits), torch.from_numpy(targets))
    assert ranks.tolist() == np.minimum((order == targets[:, None]).argmax(axis=1), 5).tolist()


def test_ties_in_a_group_that_is_left_out_are_counted():
    # Ten groups have an equal maximum each, and only six are read again. The target is the first id of the seventh.
    logits = torch.zeros(1, 640)
    logits[0, ::64] = 1.0
    assert ranks_of(logits, torch.tensor([384])).tolist() == [5]
    assert ranks_of(logits, torch.tensor([128])).tolist() == [2]
    assert ranks_of(logits, torch.tensor([0])).tolist() == [0]


def test_bfloat16_logits_are_ranked_without_conversion():
    logits = torch.randn(50, 300, generator=torch.manual_seed(0)).bfloat16()
    targets = torch.arange(50)
    assert torch.equal(ranks_of(logits, targets), ranks_of(logits.float(), targets))
