"""Rows → fine-tuned model. Runs once in every process of a launcher; rank 0 speaks and writes.

Does not evaluate, and does not read repositories or text.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from flyte_llama.config import TrainingConfig
from flyte_llama.deepspeed_config import deepspeed_config
from flyte_llama.errors import TrainingError
from flyte_llama.model import add_adapters, copy_small_files, load_model, merge_adapter, torch_dtype
from flyte_llama.packing import model_inputs, open_rows
from flyte_llama.progress import say
from flyte_llama.training.processes import on_first_rank
from flyte_llama.training.step_log import step_log

ADAPTER_FOLDER = "adapter"


class LossPoint(BaseModel):
    step: int
    loss: float
    """Mean nats a token since the last point."""

    learning_rate: float


class TrainingSummary(BaseModel):
    """What a run did, for the report."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    num_steps: int
    num_tokens: int
    """Tokens given to the model over all steps and processes, padding included; a token read twice counts twice."""

    num_parameters: int
    num_trainable: int
    num_processes: int
    device: str
    wall_s: float
    """Seconds of `Trainer.train`: DeepSpeed's start and the steps, no loading, no saving."""

    losses: list[LossPoint]


def fine_tune(base: Path, rows_folder: Path, out: Path, training: TrainingConfig) -> TrainingSummary:
    """Train on packed rows and write the model to `out` in the hub's format, with its tokenizer.

    A LoRA run writes the merged model, and the adapter alone under `adapter/`.

    Raises:
        DataError: if the rows are damaged.
        TrainingError: if the batch cannot be shared out over the processes, bf16 is asked of a device that has none, or
            the loss is not finite.
    """
    from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

    rows, _ = open_rows(rows_folder)
    work = out.parent / "trainer"
    # Before the model: with ZeRO-3, DeepSpeed must already be set up when weights are loaded, to split them at once.
    arguments = TrainingArguments(**_arguments(training, work=work))
    set_seed(training.seed)
    dtype = torch_dtype(training.precision)
    model: Any = load_model(base, dtype=dtype, in_4_bits=training.method == "qlora")
    if training.method != "full":
        model = add_adapters(model, training)
        if training.activation_checkpointing:
            model.enable_input_require_grads()
    num_parameters, num_trainable = _count(model.parameters()), _count(p for p in model.parameters() if p.requires_grad)
    use_cache = model.config.use_cache  # the Trainer switches it off, which is nothing to save
    points: list[dict[str, Any]] = []
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=collate,
        callbacks=[step_log(points)],
    )
    trainer.remove_callback(PrinterCallback)
    if arguments.process_index == 0:
        say(f"training {num_trainable:,} of {num_parameters:,} parameters on {arguments.device}")
    start = time.monotonic()
    result = trainer.train()
    wall_s = time.monotonic() - start
    model.config.use_cache = use_cache
    _save(trainer, training, base, out)
    shutil.rmtree(work, ignore_errors=True)
    return TrainingSummary(
        method=training.method,
        num_steps=result.global_step,
        num_tokens=trainer.state.num_input_tokens_seen,
        num_parameters=num_parameters,
        num_trainable=num_trainable,
        num_processes=arguments.world_size,
        device=_device_name(),
        wall_s=wall_s,
        losses=[LossPoint(**point) for point in points],
    )


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as one batch: ids, positions and labels, each int64 of shape (rows, seq_len); no attention mask.

    Without a mask and a KV cache, transformers' sdpa attention takes documents apart where positions restart.
    """
    import numpy as np
    import torch

    inputs = [model_inputs(np.asarray(row["input_ids"], dtype=np.int32), row["length"]) for row in rows]
    return {name: torch.from_numpy(np.stack([row[name] for row in inputs])) for name in inputs[0]}


def _arguments(training: TrainingConfig, *, work: Path) -> dict[str, Any]:
    """The keyword arguments of `TrainingArguments`."""
    import torch

    on_gpu, world_size = torch.cuda.is_available(), torch.distributed.get_world_size()
    rows_at_once = training.micro_batch_size * world_size
    if training.global_batch_size % rows_at_once:
        raise TrainingError(
            f"training.global_batch_size = {training.global_batch_size}: cannot be shared out over {world_size} "
            f"processes of micro_batch_size = {training.micro_batch_size}. Use a multiple of {rows_at_once}."
        )
    if training.precision == "bf16" and on_gpu and not torch.cuda.is_bf16_supported():
        raise TrainingError("training.precision = 'bf16': this GPU has none. Use fp32, or an A10G or newer.")
    return {
        "output_dir": str(work),
        "deepspeed": deepspeed_config(training),
        "use_cpu": not on_gpu,
        "bf16": training.precision == "bf16",
        "per_device_train_batch_size": training.micro_batch_size,
        "gradient_accumulation_steps": training.global_batch_size // rows_at_once,
        "num_train_epochs": training.epochs,
        "max_steps": training.max_steps or -1,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": training.warmup_share,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "activation_checkpointing": training.activation_checkpointing,
        "logging_steps": training.log_every_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "include_num_input_tokens_seen": "all",
        "disable_tqdm": True,
        "save_strategy": "no",
        "report_to": "none",
        "remove_unused_columns": False,
        "seed": training.seed,
    }


def _save(trainer: Any, training: TrainingConfig, base: Path, out: Path) -> None:
    """Write the model from all processes (ZeRO-3 gathers it from them), then what rank 0 adds to it."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    adapter = out / ADAPTER_FOLDER
    trainer.save_model(str(out if training.method == "full" else adapter))

    def finish() -> None:
        if training.method != "full":
            # Else loading the base would split it over all processes, and this one loads it alone.
            unset_hf_deepspeed_config()
            merge_adapter(base, adapter, dtype=torch_dtype(training.precision)).save_pretrained(out)
        copy_small_files(base, out)
        for pickled in out.rglob("training_args.bin"):
            pickled.unlink()
        if not any(out.glob("*.safetensors")):
            raise TrainingError(f"{out}: no weights were written. This is a fault of Flyte Llama; please report it.")

    on_first_rank(finish)


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
