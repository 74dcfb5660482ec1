"""The Trainer of transformers as it runs here. Imports transformers: import it inside the function that needs it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from flyte_llama.errors import TrainingError
from flyte_llama.progress import say
from flyte_llama.training.batches import OrderedRows, collate
from flyte_llama.training.interruption import Interrupted, Interruption
from flyte_llama.training.saving import SharedCheckpoints


class PackedTrainer(Trainer):
    """Trains on rows in their order, and says nothing itself.

    At the end of every step all processes agree, in one small exchange, whether the step was sound and whether any of
    them was told to end. A step that was not sound ends the run before anything of it can be saved; where one was told
    to end, the step is saved and all raise `Interrupted`, so that `train` never returns from half a run.
    """

    def __init__(
        self,
        *,
        model: Any,
        args: TrainingArguments,
        rows: OrderedRows,
        callbacks: list[TrainerCallback],
        checkpoints: SharedCheckpoints,
        checkpoint_every_steps: int,
        expected_bytes: int,
        interruption: Interruption,
    ) -> None:
        """
        Args:
            checkpoint_every_steps: 0 saves only a step after which the run is interrupted; else the last one is saved
                too, so that what comes after training can fail and be done again.
            expected_bytes: Size of a checkpoint, before there is one.
        """
        end = _StepEnd(self)
        super().__init__(model=model, args=args, train_dataset=rows, data_collator=collate, callbacks=[end, *callbacks])
        self.remove_callback(PrinterCallback)
        self._checkpoints = checkpoints
        self._every = checkpoint_every_steps
        self._expected_bytes = expected_bytes
        self._interruption = interruption
        self._interrupted = False
        self._trained = [weight for weight in model.parameters() if weight.requires_grad]
        self._step_loss: Any = 0.0
        self.deepspeed: Any

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        # A sum on the device: looking at it here would wait for the GPU after every micro-batch.
        self._step_loss = self._step_loss + loss
        return loss

    def end_step(self) -> None:
        """Agree on the step that was just taken.

        Raises:
            TrainingError: in every process, if the loss or the gradient norm of any is not finite.
        """
        norm = self.deepspeed.get_global_grad_norm()
        if norm is None:
            # DeepSpeed keeps none at stage 0 in float32; a gradient that was not finite is in the weights by now.
            norm = torch.stack([weight.detach().sum() for weight in self._trained]).sum()
        together = torch.zeros(3, dtype=torch.float64, device=self.args.device)
        together[0], together[1], together[2] = float(self._interruption.requested), self._step_loss, norm
        self._step_loss = 0.0
        torch.distributed.all_reduce(together)
        told, loss, norm = (together / self.args.world_size).tolist()
        step = self.state.global_step
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"the loss is {loss} and the gradients come to {norm} at step {step}. {self._checkpoints.place()} "
                "Lower training.learning_rate, or lengthen training.warmup_share, and begin anew in an empty folder."
            )
        self._interrupted = told > 0
        due = self._every > 0 and (step % self._every == 0 or step >= self.state.max_steps)
        if due or self._interrupted:
            # Logged too, so that the curve in the checkpoint ends where the checkpoint does.
            self.control.should_log = self.control.should_save = True

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The model as an artefact; not in checkpoints, where DeepSpeed's own copy is the one that is read again."""
        if _internal_call and output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
        else:
            super().save_model(output_dir, _internal_call)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step

        def save() -> None:
            super(PackedTrainer, self)._save_checkpoint(model, trial)
            if self.args.local_process_index == 0:
                # DeepSpeed leaves this pointer to its folder on the first node alone.
                (self._checkpoints.written(step) / "latest").write_text(f"global_step{step}", encoding="utf-8")

        try:
            self._checkpoints.write(step, save, expected_bytes=self._expected_bytes)
        except TrainingError as error:
            if not self._interrupted:
                raise
            # The run ends here either way, and may go on from what there is.
            say(f"step {step} was interrupted and could not be saved: {error.message}")
        if self._interrupted:
            message = f"interrupted after step {step} of {self.state.max_steps}. {self._checkpoints.place()}"
            if self.args.process_index == 0:
                say(message)  # a launcher that was told to end itself does not say why its processes did
            raise Interrupted(message)


class _StepEnd(TrainerCallback):
    def __init__(self, trainer: PackedTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # A checkpoint's state brings the frequency of logging with it, which a run may change.
        state.logging_steps = args.logging_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.end_step()
