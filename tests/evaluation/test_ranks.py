from __future__ import annotations

import numpy as np
import pytest
import torch

from flyte_llama.evaluation.ranks import ranks_of


def test_ranks_are_those_of_sorted_logits_and_ties_go_to_the_lower_id():
    logits = torch.tensor([[0.0, 3.0, 2.0, 2.0, 2.0, -1.0]] * 6)
    assert ranks_of(logits, torch.tensor([1, 2, 3, 4, 0, 5])).tolist() == [0, 1, 2, 3, 4, 5]


# Of groups of 64: less than one, one, several with a rest, more than are looked at.
@pytest.mark.parametrize("vocabulary", [1, 3, 7, 63, 64, 65, 383, 384, 385, 449, 1000, 4096])
# From a tie of all to hardly any.
@pytest.mark.parametrize("values", [1, 2, 50, 2000, 10**6])
def test_ranks_equal_those_of_a_stable_sort(vocabulary: int, values: int):
    random = np.random.default_rng(vocabulary * values)
    logits = random.integers(0, values, (400, vocabulary)).astype(np.float32)
    order = np.argsort(-logits, axis=1, kind="stable")
    # Half of the targets are among the likeliest, where the order matters.
    likely = order[np.arange(400), random.integers(0, min(8, vocabulary), 400)]
    targets = np.where(np.arange(400) % 2, likely, random.integers(0, vocabulary, 400))
    found = ranks_of(torch.from_numpy(logits), torch.from_numpy(targets))
    assert found.tolist() == np.minimum((order == targets[:, None]).argmax(axis=1), 5).tolist()


def test_equals_in_a_group_that_is_left_out_are_counted():
    # Six groups hold the highest, the target is in a seventh; it is the seventh of equals.
    logits = torch.zeros(1, 640)
    logits[0, ::64] = 1.0
    assert ranks_of(logits, torch.tensor([384])).tolist() == [5]
    assert ranks_of(logits, torch.tensor([128])).tolist() == [2]
    assert ranks_of(logits, torch.tensor([0])).tolist() == [0]


def test_logits_in_half_the_precision_are_ranked_as_they_are():
    logits = torch.randn(50, 300, generator=torch.manual_seed(0)).bfloat16()
    targets = torch.arange(50)
    assert torch.equal(ranks_of(logits, targets), ranks_of(logits.float(), targets))
