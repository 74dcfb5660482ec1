"""Rows in the order in which a run reads them, and rows as a batch.

The order of the whole run is one sequence, a function of the seed and the number of rows alone: step k of any run takes
its rows k·B to (k+1)·B, over however many processes they are shared out. So a run goes on where it stopped by the
number of its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flyte_llama.model import document_mask
from flyte_llama.packing import model_inputs


def row_order(rows_per_epoch: Sequence[int], *, num_rows: int, seed: int) -> np.ndarray:
    """Numbers of the `num_rows` rows that a run reads, int64: epoch after epoch, each shuffled in its own way.

    Args:
        rows_per_epoch: Rows of each stored epoch; they lie one behind the other. When all are read, the first follows
            again.
    """
    begins = np.concatenate([[0], np.cumsum(rows_per_epoch)])
    parts: list[np.ndarray] = []
    missing, epoch = num_rows, 0
    while missing > 0:
        stored = epoch % len(rows_per_epoch)
        shuffled = np.random.default_rng([seed, epoch]).permutation(rows_per_epoch[stored])[:missing]
        parts.append(begins[stored] + shuffled)
        missing -= len(shuffled)
        epoch += 1
    return np.concatenate(parts)


class OrderedRows:
    """The rows of a run in their order, as a map-style dataset for a sequential sampler."""

    def __init__(self, rows: Any, order: np.ndarray) -> None:
        self._rows = rows
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: int) -> dict[str, Any]:
        row: dict[str, Any] = self._rows[int(self._order[place])]
        return row


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as one batch: ids, positions and labels, each int64 of shape (rows, seq_len).

    Without a mask and a KV cache, attention takes documents apart where positions restart. Where a row's positions see
    later ones too, the batch has the mask of `document_mask`.
    """
    import torch

    inputs = [model_inputs(np.asarray(row["input_ids"]), np.asarray(row["labels"]), row["length"]) for row in rows]
    batch = {name: torch.from_numpy(np.stack([row[name] for row in inputs])) for name in inputs[0]}
    bidirectional = [row["bidirectional"] for row in rows]
    if any(bidirectional):
        seq_len = batch["input_ids"].shape[1]
        batch["attention_mask"] = document_mask([row["length"] for row in rows], bidirectional, seq_len=seq_len)
    return batch
