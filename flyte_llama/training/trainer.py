"""transformers' Trainer for packed rows. Imports transformers, so import this inside the function that needs it.

Decides after every step whether to stop, to measure the validation loss and to save. Where and how a checkpoint is
stored is up to `node_checkpoints`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations.deepspeed import deepspeed_load_checkpoint

from flyte_llama.errors import TrainingError
from flyte_llama.progress import say
from flyte_llama.training.batches import OrderedRows, collate
from flyte_llama.training.metrics import VALIDATION_LOSS
from flyte_llama.training.node_checkpoints import NodeCheckpoints
from flyte_llama.training.processes import Interrupted, Interruption
from flyte_llama.training.update import use_update_in_parts
from flyte_llama.training.validation import Validation


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
        validation: Validation | None,
        callbacks: list[TrainerCallback],
        checkpoints: NodeCheckpoints,
        checkpoint_every_steps: int,
        checkpoint_last_step: bool,
        expected_bytes: int,
        interruption: Interruption,
        new_token_lr_scale: float = 1.0,
    ) -> None:
        """Set up the Trainer without its usual printing.

        Args:
            validation: None measures no validation loss.
            checkpoint_every_steps: 0 saves no step on its way, unless the run is interrupted.
            checkpoint_last_step: Save the last step too, so that a failure after training costs no training.
            expected_bytes: Size of a checkpoint, used until one can be measured.
            new_token_lr_scale: Learning rate of the embedding rows of new tokens, as a multiple of `learning_rate`.
        """
        use_update_in_parts()
        end = _StepEnd(self)
        super().__init__(model=model, args=args, train_dataset=rows, data_collator=collate, callbacks=[end, *callbacks])
        self.remove_callback(PrinterCallback)
        self._validation = validation
        self._checkpoints = checkpoints
        self._checkpoint_every_steps = checkpoint_every_steps
        self._checkpoint_last_step = checkpoint_last_step
        self._expected_bytes = expected_bytes
        self._interruption = interruption
        self._interrupted = False
        self._new_token_lr_scale = new_token_lr_scale
        self._trained_weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._step_loss: Any = 0.0
        self.deepspeed: Any

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        # Stays on the device: reading the value here would wait for the GPU after every micro-batch.
        self._step_loss = self._step_loss + loss
        return loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's optimizer, in which the embedding rows that adapters learn have a learning rate of their own.

        The Trainer does not call this if the optimizer is offloaded.
        """
        # The Trainer asks more than once, and makes the optimizer only the first time.
        is_made = self.optimizer is not None
        optimizer = super().create_optimizer(model)
        if is_made:
            return optimizer
        trained: Any = self.model
        rows = {id(weight) for name, weight in trained.named_parameters() if "trainable_tokens_delta" in name}
        for group in list(optimizer.param_groups):
            moved = [weight for weight in group["params"] if id(weight) in rows]
            if moved:
                group["params"] = [weight for weight in group["params"] if id(weight) not in rows]
                optimizer.add_param_group({**group, "params": moved, "lr": group["lr"] * self._new_token_lr_scale})
        return optimizer

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
        if self._validation is not None and self._validation.is_due(step, num_steps=self.state.max_steps):
            self.control.should_log = True

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step, with the validation loss if it is due. If the best is kept, a step that is the best is saved."""
        step, validation = self.state.global_step, self._validation
        if validation is not None and "loss" in logs and validation.is_due(step, num_steps=self.state.max_steps):
            logs[VALIDATION_LOSS] = validation.measure(self)
            self.control.should_save |= self._checkpoints.is_best(logs[VALIDATION_LOSS])
        super().log(logs, start_time)

    def load_best(self) -> int:
        """Load the weights of the step with the lowest validation loss, and return the step.

        If its checkpoint is damaged or lost, the last step's weights stay, and a message says so.
        """
        last, best = self.state.global_step, self._checkpoints.best
        if best is None or best == last:
            return last
        if not self._checkpoints.is_whole(best):
            if self.is_world_process_zero():
                say(
                    f"the checkpoint of step {best}, which has the lowest validation loss, is lost: keeping step {last}"
                )
            return last
        folder = str(self._checkpoints.sealed_folder(best))
        deepspeed_load_checkpoint(self.model_wrapped, folder, load_module_strict=not hasattr(self.model, "peft_config"))
        if self.is_world_process_zero():
            say(f"keeping the model of step {best} of {last}, which has the lowest validation loss")
        return best

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Make the folder of a checkpoint and save no model in it: the run resumes from DeepSpeed's copy."""
        if output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)

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


class _StepEnd(TrainerCallback):
    def __init__(self, trainer: PackedTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Resuming restores the checkpoint's logging frequency, but a new start of the run may have set another.
        state.logging_steps = args.logging_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.end_step()
