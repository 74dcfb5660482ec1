"""The validation loss of a run: when it is measured, on which rows, and which step has the lowest.

The rows come from train files that the run does not train on, see `corpus.composition`. So a run may stop and choose by
this loss, and the held-out repositories stay unseen. Imports transformers, so import this inside the function that
needs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer

from flyte_llama.config import ResolvedTraining
from flyte_llama.encoding import IGNORED, VALIDATION_TABLE, open_rows
from flyte_llama.errors import TrainingError
from flyte_llama.training.batches import OrderedRows, collate


class Validation:
    """The validation rows of a run, and when their loss is measured."""

    def __init__(self, rows: OrderedRows, training: ResolvedTraining) -> None:
        self._rows = rows
        self._micro_batch_size = training.micro_batch_size
        self._every_steps = training.validate_every_steps

    def is_due(self, step: int, *, num_steps: int) -> bool:
        """Whether the loss is measured after this step of `num_steps`."""
        return step >= num_steps or (self._every_steps > 0 and step % self._every_steps == 0)

    def measure(self, trainer: Trainer) -> float:
        """Return the mean nats per token over all validation rows. All processes must call this.

        Raises:
            TrainingError: if the loss is not finite.
        """
        model: Any = trainer.model
        total = torch.zeros(2, dtype=torch.float64, device=trainer.args.device)
        rank, num_processes = trainer.args.process_index, trainer.args.world_size
        model.eval()
        with torch.no_grad(), trainer.compute_loss_context_manager():
            for rows in _batches(self._rows, rank, num_processes, self._micro_batch_size):
                batch = trainer._prepare_inputs(collate(rows))
                # Divided by 1, the loss is a sum.
                total[0] += model(**batch, num_items_in_batch=1).loss
                total[1] += len(batch["label_positions"])
        model.train()
        torch.distributed.all_reduce(total)
        nats, num_tokens = total.tolist()
        if not math.isfinite(nats):
            raise TrainingError(
                f"the validation loss is {nats} after step {trainer.state.global_step}. Lower training.learning_rate, "
                "or raise training.warmup_share, and start from scratch in an empty folder."
            )
        return float(nats / num_tokens)


def open_validation(rows_folder: Path, training: ResolvedTraining) -> Validation | None:
    """The validation of a run on these rows; None if the run has none.

    Raises:
        DataError: if the rows are damaged, or were made without a validation part.
    """
    if not training.validation_share:
        return None
    rows, _ = open_rows(rows_folder, VALIDATION_TABLE)
    return Validation(OrderedRows(rows, np.arange(len(rows))), training)


def _batches(rows: OrderedRows, rank: int, num_processes: int, size: int) -> Iterator[list[dict[str, Any]]]:
    """The batches of one process, as many and as large as those of every other: a last row comes again unlabelled."""
    at_once = size * num_processes
    for first in range(rank * size, len(rows) + (-len(rows)) % at_once, at_once):
        yield [rows[index] if index < len(rows) else _unlabelled(rows[0]) for index in range(first, first + size)]


def _unlabelled(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"labels": np.full_like(row["labels"], IGNORED)}
