"""Rows → fine-tuned model. Runs once in every process of a launcher; rank 0 speaks and writes.

A run that was interrupted, killed or stopped goes on from its last whole checkpoint when it is started again, and comes
out the same to the bit. Does not evaluate, and does not read repositories or text.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flyte_llama.config import TrainingConfig
from flyte_llama.documents import Document
from flyte_llama.model import trainable_model
from flyte_llama.packing import num_steps, open_rows
from flyte_llama.plan import ModelShape, base_shape, recognise, refuse_if_too_large
from flyte_llama.progress import say
from flyte_llama.training.arguments import trainer_arguments
from flyte_llama.training.batches import OrderedRows, row_order
from flyte_llama.training.checkpoints import UNSEALED, Checkpoints
from flyte_llama.training.export import export
from flyte_llama.training.fingerprint import fingerprint
from flyte_llama.training.interruption import Interruption
from flyte_llama.training.processes import on_each_node, on_first_rank
from flyte_llama.training.saving import Carry, SharedCheckpoints, curve_of, node_folder
from flyte_llama.training.step_log import step_log
from flyte_llama.training.summary import TrainingSummary
from flyte_llama.training.work import Work


def fine_tune(
    base: Path,
    rows_folder: Path,
    out: Path | None,
    training: TrainingConfig,
    *,
    heldout: Sequence[Document],
    checkpoints: Path,
    carry: Carry | None = None,
) -> TrainingSummary:
    """Train on packed rows and write the model to `out` in the hub's format, with its tokenizer.

    A LoRA run writes the merged model, and the adapter alone under `adapter/`; beside the model lies `metrics.jsonl`.

    Args:
        out: None writes no model, as for a trial.
        heldout: Documents that were not trained on. A sample of them proves that what was written is what was
            trained; without any that is not looked at, as for a trial whose model is measured and thrown away.
        checkpoints: Folder of this run's checkpoints. What an earlier start of the run left there is gone on from; it
            is removed when the model is written.
        carry: Is given the folder of the checkpoint that the run goes on from, and of each one it seals.

    Raises:
        DataError: if the rows are damaged.
        Interrupted: if SIGTERM or SIGINT reached any process; the step is sealed as a checkpoint, no model is written.
        TrainingError: if the batch cannot be shared out over the processes, bf16 is asked of a device that has none,
            the checkpoints were made from other data, model, configuration, processes or packages, there is no room for
            them, the loss is not finite, or what was written is not the trained model.
    """
    from transformers import TrainingArguments, set_seed

    from flyte_llama.training.trainer import PackedTrainer

    interruption = Interruption()
    with interruption.awaited():
        rows, manifest = open_rows(rows_folder)
        steps = num_steps(
            manifest["rows_per_epoch"][0],
            epochs=training.epochs,
            max_steps=training.max_steps,
            global_batch_size=training.global_batch_size,
        )
        order = row_order(manifest["rows_per_epoch"], num_rows=steps * training.global_batch_size, seed=training.seed)
        # Before the model: with ZeRO-3, DeepSpeed must be set up already when weights are loaded, to split them then.
        own = node_folder(checkpoints)
        arguments = TrainingArguments(**trainer_arguments(training, num_steps=steps, work=own / UNSEALED))
        made_from = on_first_rank(
            lambda: fingerprint(
                base, rows_folder, training, num_processes=arguments.world_size, device=arguments.device.type
            )
        )
        curve = curve_of(checkpoints)
        kept = SharedCheckpoints(Checkpoints(own, made_from=made_from, keep=training.keep_checkpoints), curve, carry)
        resumed = kept.find()
        shape = base_shape(base, training)
        if shape is not None:
            _refuse_if_too_large(shape, training, arguments.world_size)
        set_seed(training.seed)
        model = trainable_model(base, training)
        num_parameters, num_trainable = (
            _count(model.parameters()),
            _count(p for p in model.parameters() if p.requires_grad),
        )
        use_cache = model.config.use_cache  # the Trainer switches it off, which is nothing to save
        work = Work(rows, order, rows_per_step=training.global_batch_size, shape=shape, training=training)
        # Weights, float32 master weights and two moments of each; frozen ones are not saved.
        expected_bytes = 16 * num_trainable
        if resumed is None:
            kept.check_room(
                expected_bytes, count=training.keep_checkpoints + 1 if training.checkpoint_every_steps else 1
            )
        trainer = PackedTrainer(
            model=model,
            args=arguments,
            rows=OrderedRows(rows, order),
            callbacks=[step_log(curve, work, peak_flops=_peak_flops(training, arguments.world_size))],
            checkpoints=kept,
            checkpoint_every_steps=training.checkpoint_every_steps,
            expected_bytes=expected_bytes,
            interruption=interruption,
        )
        if arguments.process_index == 0:
            say(f"training {num_trainable:,} of {num_parameters:,} parameters on {arguments.device}")
            if resumed is not None:
                say(f"going on after step {kept.last} of {steps}, from {resumed}")
        result = trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        model.config.use_cache = use_cache
        verified = []
        if out is not None:
            verified = export(trainer, training, base, out, heldout)
            on_first_rank(lambda: curve.copy_into(out))
        on_each_node(lambda: shutil.rmtree(own))
        with contextlib.suppress(OSError):  # another node's may lie beside it
            checkpoints.rmdir()
        return TrainingSummary(
            method=training.method,
            objective=manifest["objective"],
            num_steps=result.global_step,
            num_tokens=curve.num_tokens,
            num_parameters=num_parameters,
            num_trainable=num_trainable,
            num_processes=arguments.world_size,
            device=_device_name(),
            wall_s=curve.wall_s,
            losses=curve.points,
            flops=work.flops(steps=result.global_step),
            verified=verified,
        )


def _refuse_if_too_large(shape: ModelShape, training: TrainingConfig, num_processes: int) -> None:
    import torch

    if torch.cuda.is_available():
        device_bytes = torch.cuda.get_device_properties().total_memory
        refuse_if_too_large(shape, training, device_bytes=device_bytes, num_processes=num_processes)


def _peak_flops(training: TrainingConfig, num_processes: int) -> float | None:
    """Of all GPUs together; None where it is not known."""
    gpu = recognise(_device_name())
    peak = gpu.peak_flops(training.precision) if gpu else None
    return peak * num_processes if peak else None


def _count(parameters: Iterable[Any]) -> int:
    """Elements; a parameter that ZeRO-3 has split says its whole size in `ds_numel`, one in 4 bits holds two a byte."""
    total = 0
    for parameter in parameters:
        elements = getattr(parameter, "ds_numel", parameter.numel())
        if type(parameter).__name__ == "Params4bit":
            elements *= 2 * parameter.element_size()
        total += elements
    return total


def _device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
