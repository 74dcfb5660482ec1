"""The order in which a run reads its rows, and rows → batches. Imports torch.

A run reads its rows in one order, which depends only on the seed and the number of rows. Step k reads rows k·B to
(k+1)·B of that order, B being the global batch size, however many processes share them. So a run can resume from the
number of its last step.

    stored rows      0 1 2 | 3 4              rows_per_epoch = [3, 2]
    reading order    2 0 1 | 3 4 | 2 1 0      8 rows, seed 0: each epoch shuffled; after the last, the first again
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from flyte_llama.encoding import model_inputs
from flyte_llama.model import document_mask
from flyte_llama.model.attention import piece_bounds
from flyte_llama.model.loss import label_positions


class OrderedRows:
    """The rows of a run in reading order, as a map-style dataset for a sequential sampler.

    Ids and labels are int32 arrays that share the memory of the file, so that a GPU need not wait for a batch.
    """

    def __init__(self, rows: Any, order: np.ndarray) -> None:
        names = ("input_ids", "labels", "length", "bidirectional")
        self._ids, self._labels, self._lengths, self._bidirectional = (rows.data.column(name) for name in names)
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = int(self._order[index])
        return {
            "input_ids": self._ids[row].values.to_numpy(),
            "labels": self._labels[row].values.to_numpy(),
            "length": self._lengths[row].as_py(),
            "bidirectional": self._bidirectional[row].as_py(),
        }


def row_order(rows_per_epoch: Sequence[int], *, num_rows: int, seed: int, rows_before: int = 0) -> np.ndarray:
    """Indices of the `num_rows` rows that a run reads, int64: epoch after epoch, each shuffled differently.

    Args:
        rows_per_epoch: Number of rows in each stored epoch; the epochs are stored one after the other. Once all are
            read, the run starts over with the first.
        rows_before: Number of rows that are read before the first epoch, as stored; they are stored after the last one.
    """
    starts = np.concatenate([[0], np.cumsum(rows_per_epoch)])
    parts = [starts[-1] + np.arange(min(rows_before, num_rows))]
    remaining, epoch = num_rows - len(parts[0]), 0
    while remaining > 0:
        stored = epoch % len(rows_per_epoch)
        # Seeded by the epoch of the run, not the stored one: an epoch that is read twice comes in two orders.
        shuffled = np.random.default_rng([seed, epoch]).permutation(rows_per_epoch[stored])[:remaining]
        parts.append(starts[stored] + shuffled)
        remaining -= len(shuffled)
        epoch += 1
    return np.concatenate(parts)


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as one batch: ids, positions and labels, each int64 of shape (rows, seq_len), and where the labels are.

    Without a mask and a KV cache, attention separates documents where the positions restart; the batch has the bounds
    of the documents too. If any row attends in both directions, it has the mask made by `document_mask` instead.
    """
    inputs = [model_inputs(row["input_ids"], row["labels"], row["length"]) for row in rows]
    batch: dict[str, Any] = {name: torch.from_numpy(np.stack([row[name] for row in inputs])) for name in inputs[0]}
    batch["label_positions"] = label_positions(batch["labels"])
    bidirectional, lengths = [row["bidirectional"] for row in rows], [row["length"] for row in rows]
    seq_len = batch["input_ids"].shape[1]
    if any(bidirectional):
        return batch | {"attention_mask": document_mask(lengths, bidirectional, seq_len=seq_len)}
    return batch | piece_bounds(lengths, seq_len=seq_len)
