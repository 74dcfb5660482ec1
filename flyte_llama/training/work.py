"""What the steps of a run have to do: tokens and FLOPs, known from the rows before the first of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from flyte_llama.config import TrainingConfig
from flyte_llama.plan import Flops, ModelShape, corpus_flops


class Work:
    """Sums over the first steps of a run, all processes together; padding does not count."""

    def __init__(
        self, rows: Any, order: np.ndarray, *, rows_per_step: int, shape: ModelShape | None, training: TrainingConfig
    ) -> None:
        """
        Args:
            order: The rows in the order in which the run reads them.
            shape: None leaves FLOPs unknown.
        """
        self._rows_per_step = rows_per_step
        lengths = rows.data.column("length").combine_chunks()
        ends = np.concatenate([[0], np.cumsum(lengths.flatten().to_numpy())])
        tokens = np.diff(ends[np.concatenate([[0], np.cumsum(lengths.value_lengths().to_numpy())])])
        self._tokens = _sums(tokens[order])
        self._flops: np.ndarray | None = None
        if shape is not None:
            both_ways = rows.data.column("bidirectional").to_pylist()
            each = [
                corpus_flops(shape, training, [], bidirectional=own) if both else corpus_flops(shape, training, own)
                for own, both in zip(lengths.to_pylist(), both_ways, strict=True)
            ]
            self._flops = _sums(np.array([(flops.model, flops.recomputed) for flops in each], dtype=np.float64)[order])

    def num_tokens(self, *, steps: int) -> int:
        return int(self._tokens[self._place(steps)])

    def flops(self, *, steps: int) -> Flops | None:
        """None where the model's shape is not known."""
        if self._flops is None:
            return None
        model, recomputed = self._flops[self._place(steps)]
        return Flops(int(model), int(recomputed))

    def _place(self, steps: int) -> int:
        return min(steps * self._rows_per_step, len(self._tokens) - 1)


def _sums(values: np.ndarray) -> np.ndarray:
    """Of the first none, one, two, … values."""
    return np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
