"""transformers' Trainer for packed rows. Imports transformers, so import this inside the function that needs it.

A run reads its rows in one order, which depends only on the seed and the number of rows. Step k reads rows k·B to
(k+1)·B of that order, B being the global batch size, however many processes share them. So a run can resume from the
number of its last step.

    stored rows      0 1 2 | 3 4              rows_per_epoch = [3, 2]
    reading order    2 0 1 | 3 4 | 2 1 0      8 rows, seed 0: each epoch shuffled; after the last, the first again

Decides after every step whether to stop and whether to save. Where and how a checkpoint is stored is up to
`node_checkpoints`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from flyte_llama.encoding import model_inputs
from flyte_llama.errors import TrainingError
from flyte_llama.model import document_mask
from flyte_llama.model.attention import piece_bounds
from flyte_llama.model.loss import label_positions
from flyte_llama.progress import say
from flyte_llama.training.node_checkpoints import NodeCheckpoints
from flyte_llama.training.processes import Interrupted, Interruption
from flyte_llama.training.update import use_update_in_parts


class PackedTrainer(Trainer):
    """A Trainer that reads rows in their order and prints no log lines.

    At the end of every step all processes agree, in one small all-reduce, whether the loss and gradients are finite and
    whether any process was asked to stop. If the loss or gradients are not finite, all raise before the step can be
    saved. If one was asked to stop, the step is saved and all raise `Interrupted`, so `train` never returns from half a
    run.
    """

    def __init__(
        self,
        *,
        model: Any,
        args: TrainingArguments,
        rows: OrderedRows,
        callbacks: list[TrainerCallback],
        checkpoints: NodeCheckpoints,
        checkpoint_every_steps: int,
        checkpoint_last_step: bool,
        expected_bytes: int,
        interruption: Interruption,
    ) -> None:
        """Set up the Trainer without its usual printing.

        Args:
            checkpoint_every_steps: 0 saves no step on its way, unless the run is interrupted.
            checkpoint_last_step: Save the last step too, so that a failure after training costs no training.
            expected_bytes: Size of a checkpoint, used until one can be measured.
        """
        use_update_in_parts()
        end = _StepEnd(self)
        super().__init__(model=model, args=args, train_dataset=rows, data_collator=collate, callbacks=[end, *callbacks])
        self.remove_callback(PrinterCallback)
        self._checkpoints = checkpoints
        self._checkpoint_every_steps = checkpoint_every_steps
        self._checkpoint_last_step = checkpoint_last_step
        self._expected_bytes = expected_bytes
        self._interruption = interruption
        self._interrupted = False
        self._trained_weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._step_loss: Any = 0.0
        self.deepspeed: Any

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        # Stays on the device: reading the value here would wait for the GPU after every micro-batch.
        self._step_loss = self._step_loss + loss
        return loss

    def end_step(self) -> None:
        """Agree with all processes whether the step is sound and whether to stop; then mark it for saving if it is due.

        Raises:
            TrainingError: in every process, if the loss or the gradient norm of any is not finite.
        """
        norm = self.deepspeed.get_global_grad_norm()
        if norm is None:
            # At stage 0 in float32 DeepSpeed keeps no norm. A gradient that was not finite is in the weights by now, so
            # their sum shows it.
            norm = torch.stack([weight.detach().sum() for weight in self._trained_weights]).sum()
        # One all-reduce for all three; a NaN in any process makes the mean NaN.
        shared = torch.zeros(3, dtype=torch.float64, device=self.args.device)
        shared[0], shared[1], shared[2] = float(self._interruption.requested), self._step_loss, norm
        self._step_loss = 0.0
        torch.distributed.all_reduce(shared)
        stop_share, loss, norm = (shared / self.args.world_size).tolist()
        step = self.state.global_step
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"the loss is {loss} and the gradient norm is {norm} at step {step}. "
                f"{self._checkpoints.last_checkpoint_text()} Lower "
                "training.learning_rate, or raise training.warmup_share, and start from scratch in an empty folder."
            )
        self._interrupted = stop_share > 0
        due = self._checkpoint_every_steps > 0 and step % self._checkpoint_every_steps == 0
        last = self._checkpoint_last_step and step >= self.state.max_steps
        if due or last or self._interrupted:
            # Log the step too, so that the curve in the checkpoint ends at the checkpoint's step.
            self.control.should_log = self.control.should_save = True

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as an artefact. In checkpoints nothing is saved: the run resumes from DeepSpeed's copy."""
        if _internal_call and output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
        else:
            super().save_model(output_dir, _internal_call)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step

        def save() -> None:
            super(PackedTrainer, self)._save_checkpoint(model, trial)
            if self.args.local_process_index == 0:
                # DeepSpeed writes this pointer to its folder only on the first node.
                (self._checkpoints.unsealed_folder(step) / "latest").write_text(f"global_step{step}", encoding="utf-8")

        done = f"interrupted after step {step} of {self.state.max_steps}"
        try:
            self._checkpoints.write(step, save, expected_bytes=self._expected_bytes)
        except TrainingError as error:
            if not self._interrupted and step >= self.state.max_steps:
                # The model is complete and needs less room, so it is written all the same.
                say(error.message)
                return
            if not self._interrupted:
                raise
            # The run stops here in any case, and can resume from an earlier checkpoint.
            raise Interrupted(f"{done}, which could not be saved: {error.message}") from error
        if self._interrupted:
            raise Interrupted(f"{done}: the checkpoint is sealed; the same command goes on from there")


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


def row_order(rows_per_epoch: Sequence[int], *, num_rows: int, seed: int) -> np.ndarray:
    """Indices of the `num_rows` rows that a run reads, int64: epoch after epoch, each shuffled differently.

    Args:
        rows_per_epoch: Number of rows in each stored epoch; the epochs are stored one after the other. Once all are
            read, the run starts over with the first.
    """
    starts = np.concatenate([[0], np.cumsum(rows_per_epoch)])
    parts: list[np.ndarray] = []
    remaining, epoch = num_rows, 0
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


class _StepEnd(TrainerCallback):
    def __init__(self, trainer: PackedTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Resuming restores the checkpoint's logging frequency, but a new start of the run may have set another.
        state.logging_steps = args.logging_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.end_step()
