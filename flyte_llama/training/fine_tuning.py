"""Packed rows → fine-tuned model. Runs once in every process of a launcher; rank 0 logs and writes.

`fine_tune` goes through the run once, in order: rows, checkpoint to resume from, choice of what is `auto`, DeepSpeed,
model, trainer, training, export. `trainer_arguments` translates the configuration into the arguments of transformers'
Trainer.

A run that was interrupted or killed resumes from its last whole checkpoint when it is started again, and its weights
come out the same to the bit if it keeps what it chose for `auto`. Does not evaluate, and does not read repositories or
text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from flyte_llama.config import ResolvedTraining, TrainingConfig, batch_problems
from flyte_llama.documents import Document
from flyte_llama.encoding import open_rows, read_control_tokens
from flyte_llama.errors import TrainingError
from flyte_llama.model import load_trainable_model
from flyte_llama.plan import base_shape, refuse_if_too_large
from flyte_llama.plan.deepspeed import make_deepspeed_config
from flyte_llama.progress import say
from flyte_llama.trackers import Tracking, new_run_id, package_problems
from flyte_llama.training.checkpoints import UNSEALED, Checkpoints, read_run_id
from flyte_llama.training.choice import Chooser, facts_to_seal, read_failed
from flyte_llama.training.devices import device_name, find_devices, precision_problems
from flyte_llama.training.export import export_model, seal_model
from flyte_llama.training.failures import is_disk_error
from flyte_llama.training.metrics import StepTotals, make_step_log
from flyte_llama.training.node_checkpoints import (
    NodeCheckpoints,
    Upload,
    group_fingerprint,
    node_folder,
    open_curve,
)
from flyte_llama.training.processes import Interrupted, Interruption, on_each_node, on_first_rank
from flyte_llama.training.summary import TrainingSummary


def fine_tune(
    base: Path,
    rows_folder: Path,
    out: Path | None,
    training: TrainingConfig,
    *,
    heldout: Sequence[Document],
    checkpoints: Path,
    upload: Upload | None = None,
    keep_unverified: Callable[[Path], str] | None = None,
    tracking: Tracking | None = None,
) -> TrainingSummary:
    """Train on packed rows and write the model to `out` in the hub's format, with its tokenizer.

    A LoRA run writes the merged model, and the adapter alone under `adapter/`. The curve goes to `metrics.jsonl`, next
    to the model.

    Args:
        out: Folder for the model; None writes no model, as in a trial.
        heldout: Documents that were not trained on. A sample of them verifies that the written model is the trained
            one. Pass none to skip this, as in a trial, where the model is measured and thrown away.
        checkpoints: Folder of this run's checkpoints. The run resumes from the newest one that an earlier start left
            there.
        upload: Called with the folder of the checkpoint that the run resumes from, and of each one that it seals.
        keep_unverified: Called with the folder of a model that failed its verification. Moves it to where it survives,
            and returns the new place. By default it stays next to `out`, see `unverified`.
        tracking: The run in the trackers of `training.report_to`; None reports to none.

    Raises:
        ChoiceTooLarge: if the GPU ran out of memory with what the run chose for `auto`; it is noted beside the
            checkpoints, and the next start chooses less.
        DataError: if the rows are damaged.
        Interrupted: if SIGTERM or SIGINT reached any process during the steps. The step is saved as a checkpoint; no
            model is written.
        OutOfMemoryError: if the run does not fit the GPU, by the plan or when it ran.
        TrainingError: if the batch cannot be split evenly over the processes, the device does not support bf16, the
            checkpoints belong to another run (data, model, configuration, processes or packages), the disk has no room
            for them, the loss is not finite, or the written model is not the trained one.
    """
    import torch
    from transformers import TrainingArguments, set_seed

    from flyte_llama.training.batches import OrderedRows, row_order
    from flyte_llama.training.tracking import (
        CurveCallback,
        close_trackers,
        leave_trackers,
        make_trackers,
        open_trackers,
    )
    from flyte_llama.training.trainer import PackedTrainer
    from flyte_llama.training.validation import open_validation

    num_processes = torch.distributed.get_world_size()
    for problem in [
        *batch_problems(training, num_processes),
        *precision_problems(training),
        *package_problems(training),
    ]:
        raise TrainingError(problem)

    # Open the rows, and put them in the order of the whole run.
    rows, manifest = open_rows(rows_folder)
    rows_per_epoch, rows_before = manifest["rows_per_epoch"], manifest.get("rows_before", 0)
    steps = training.run_length.num_steps(rows_per_epoch[0], rows_before=rows_before)
    num_rows = steps * training.global_batch_size
    order = row_order(rows_per_epoch, num_rows=num_rows, seed=training.seed, rows_before=rows_before)
    keep_best = training.keep_best and out is not None

    # Find the checkpoint to resume from, if an earlier start of the same run left one.
    folder, made_from = node_folder(checkpoints), group_fingerprint(base, rows_folder, training)
    curve, sealed = open_curve(checkpoints), Checkpoints(folder, made_from=made_from, keep=training.keep_checkpoints)
    node_checkpoints = NodeCheckpoints(sealed, curve, upload, keep_best=keep_best)
    resume_from = node_checkpoints.resume()

    # Name the run in the trackers: as before if it resumes, so that its curves go on.
    run_id = on_first_rank(lambda: read_run_id(resume_from) or (new_run_id(tracking, made_from) if tracking else None))
    sealed.run_id = run_id
    trackers = make_trackers(tracking, run_id)

    # Choose what is `auto`, the same for all processes, and refuse a run that cannot fit.
    shape, devices = base_shape(base, training), find_devices(training, num_processes=num_processes, try_kernels=True)
    chooser = Chooser(training, base, shape, devices, made_from)
    failed = on_each_node(lambda: read_failed(folder, made_from, devices, upload))
    choice = on_first_rank(lambda: chooser.choose(resume_from, [each for of_node in failed for each in of_node]))
    resolved, sealed.chosen = choice.training, facts_to_seal(choice.training)
    validation = open_validation(rows_folder, resolved)
    if shape is not None and devices is not None and devices.memory_bytes is not None:
        refuse_if_too_large(shape, resolved, device_bytes=devices.memory_bytes, num_processes=num_processes)

    # Set up DeepSpeed, before the model: under ZeRO-3 it splits weights while they are loaded.
    arguments = TrainingArguments(**trainer_arguments(resolved, num_steps=steps, output=folder / UNSEALED))

    # Load the model.
    set_seed(training.seed)
    model = load_trainable_model(base, resolved)
    num_parameters = _count_weights(model.parameters())
    num_trainable = _count_weights(parameter for parameter in model.parameters() if parameter.requires_grad)
    use_cache = model.config.use_cache  # the Trainer switches it off, and the saved model needs it back

    # Build the trainer, after checking that the disk has room for the checkpoints of the whole run.
    totals = StepTotals(rows, order, rows_per_step=training.global_batch_size, shape=shape, training=resolved)
    # A checkpoint has 4 numbers for each trained weight, of at most 4 bytes: the weight, its float32 master copy
    # and two moments.
    expected_bytes = 16 * num_trainable
    if resume_from is None and (out is not None or training.checkpoint_every_steps):
        # The oldest is removed only after the newest is sealed, so there is one more for a moment.
        count = training.num_kept + 1 if training.checkpoint_every_steps or keep_best else 1
        node_checkpoints.check_room(expected_bytes, count=count)
    peak_flops = devices.peak_flops * num_processes if devices and devices.peak_flops else None
    interruption = Interruption()
    tokens = read_control_tokens(base)
    trainer = PackedTrainer(
        model=model,
        args=arguments,
        rows=OrderedRows(rows, order),
        validation=validation,
        callbacks=[make_step_log(curve, totals, peak_flops=peak_flops), CurveCallback(trackers)],
        checkpoints=node_checkpoints,
        checkpoint_every_steps=training.checkpoint_every_steps,
        checkpoint_last_step=out is not None,
        expected_bytes=expected_bytes,
        interruption=interruption,
        new_token_lr_scale=tokens.lr_scale if tokens else 1.0,
    )
    # DeepSpeed has this number too, and accelerate warns at each start if they differ.
    trainer.accelerator.gradient_accumulation_steps = arguments.gradient_accumulation_steps

    # Train. Only now is there something to save when a signal arrives.
    first_step = node_checkpoints.last or 0
    with interruption.catch_signals():
        if arguments.process_index == 0:
            if choice.reason:
                say(choice.reason)
            kernels = f"attention {model.config._attn_implementation}{', Liger' if resolved.liger else ''}"
            say(f"training {num_trainable:,} of {num_parameters:,} parameters on {arguments.device}; {kernels}")
            if resume_from is not None:
                say(f"resuming after step {node_checkpoints.last} of {steps}, from {resume_from}")
        open_trackers(trackers, resumed_after=first_step)
        try:
            result = trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        except Exception as error:
            num_done = trainer.state.global_step - first_step
            explained = chooser.note_failure(error, resolved, num_steps=num_done, node=folder, upload=upload)
            if interruption.requested or isinstance(error, Interrupted):
                leave_trackers(trackers)
            else:
                close_trackers(trackers, succeeded=False)
            if explained is None:
                raise
            raise explained from error
        if interruption.requested:
            leave_trackers(trackers)
        else:
            close_trackers(trackers, succeeded=True)
        model.config.use_cache = use_cache
    if interruption.requested:
        raise Interrupted("interrupted after the last step; the same command goes on from there")

    # Go back to the best step if it is kept.
    exported_step = result.global_step
    if keep_best:
        exported_step = trainer.load_best()
    elif training.keep_best and curve.best is not None:
        exported_step = curve.best.step  # a trial writes no model
    summary = TrainingSummary(
        method=training.method,
        objective=manifest["objective"],
        psm_share=manifest.get("psm_share", 0.5),
        num_steps=result.global_step,
        exported_step=exported_step,
        num_tokens=curve.num_tokens,
        num_parameters=num_parameters,
        num_trainable=num_trainable,
        num_processes=num_processes,
        device=device_name(),
        micro_batch_size=resolved.micro_batch_size,
        activation_checkpointing=resolved.activation_checkpointing,
        liger=resolved.liger,
        wall_s=curve.wall_s,
        losses=curve.points,
        flops=totals.flops(steps=result.global_step),
        verified=[],
        tracker_run=run_id,
    )
    if out is None:
        return summary

    # Export the model and verify it.
    try:
        on_first_rank(lambda: out.mkdir(parents=True, exist_ok=True))
        on_first_rank(lambda: curve.copy_into(out))
        verified = export_model(
            trainer, training, base, out, heldout, summary=summary, made_from=made_from, keep=keep_unverified
        )
    except Exception as error:
        if not is_disk_error(error):
            raise
        raise TrainingError(
            f"{out}: the model could not be written: {error}. {node_checkpoints.last_checkpoint_text()} "
            "Check whether the disk is full, and start again: the run resumes from there."
        ) from error
    summary = summary.model_copy(update={"verified": verified})
    on_first_rank(lambda: seal_model(out, summary, made_from))
    return summary


def trainer_arguments(training: ResolvedTraining, *, num_steps: int, output: Path) -> dict[str, Any]:
    """The keyword arguments of `TrainingArguments` for one pass over the rows of a run, in their order.

    Args:
        num_steps: Optimizer steps of the whole run.
        output: Folder in which the Trainer writes its checkpoints.
    """
    import torch

    on_gpu, world_size = torch.cuda.is_available(), torch.distributed.get_world_size()
    return {
        "output_dir": str(output),
        "save_on_each_node": True,  # DeepSpeed too writes its part of a checkpoint on every node
        "deepspeed": make_deepspeed_config(training, num_processes=world_size),
        "use_cpu": not on_gpu,
        "accelerator_config": {"non_blocking": on_gpu},  # batches are copied to the GPU while it computes
        "bf16": training.precision == "bf16",
        "per_device_train_batch_size": training.micro_batch_size,
        "gradient_accumulation_steps": training.global_batch_size // (training.micro_batch_size * world_size),
        "max_steps": num_steps,
        "train_sampling_strategy": "sequential",
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": training.warmup_share,  # a value below 1 is a share of all steps
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "activation_checkpointing": training.activation_checkpointing,
        "logging_steps": training.log_every_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "save_strategy": "no",  # PackedTrainer decides when to save
        "report_to": "none",  # see `CurveCallback`
        "remove_unused_columns": False,
        "seed": training.seed,
    }


def _count_weights(parameters: Iterable[Any]) -> int:
    """Number of weights. ZeRO-3 keeps the size of a split parameter in `ds_numel`; in 4 bits, a byte holds two."""
    total = 0
    for parameter in parameters:
        elements = getattr(parameter, "ds_numel", parameter.numel())
        if type(parameter).__name__ == "Params4bit":
            elements *= 2 * parameter.element_size()
        total += elements
    return total
