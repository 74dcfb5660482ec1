"""A batch says who sees whom only where positions alone do not."""

from __future__ import annotations

from typing import Any

import torch

from flyte_llama.packing import IGNORED
from flyte_llama.training.batches import collate


def row(*, bidirectional: bool) -> dict[str, Any]:
    ids = [5, 6, 7, 8, 9, 1]
    labels = [IGNORED, 6, 7, IGNORED, 9, IGNORED]
    return {"input_ids": ids, "labels": labels, "length": [3, 2], "bidirectional": bidirectional}


def test_causal_rows_come_without_a_mask_so_that_positions_take_documents_apart():
    batch = collate([row(bidirectional=False), row(bidirectional=False)])
    assert "attention_mask" not in batch
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0]] * 2


def test_rows_that_see_both_ways_come_with_a_mask_for_the_whole_batch():
    batch = collate([row(bidirectional=True), row(bidirectional=False)])
    assert (batch["attention_mask"].dtype, batch["attention_mask"].shape) == (torch.bool, (2, 1, 6, 6))
    both, causal = batch["attention_mask"][:, 0].int().tolist()
    assert both == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert causal == torch.tensor(both).tril().tolist()
