"""The rows of `gpu.py`'s table, and how each is measured in its process."""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml
from gpu_inputs import mean_row, model_shape
from gpu_peers import train_by_peer

import flyte_llama
from flyte_llama.config import ResolvedTraining, TrainingConfig
from flyte_llama.documents import Document
from flyte_llama.plan.choice import describe_pair
from flyte_llama.plan.memory import estimate_memory
from flyte_llama.training import TrainingSummary, fine_tune
from flyte_llama.training.launch import TrainingJob, launch_training
from flyte_llama.training.processes import process_group


class Row(NamedTuple):
    """A row of the table."""

    who: str
    method: str
    seconds: int
    """The least that it takes on one H200: it is skipped if less time is left."""

    rows_per_step: int = 16
    warm_up: int = 1
    timed: int = 3
    """Optimizer steps."""


ROWS = {
    "lora": Row("flyte_llama", "lora", 40),
    "full": Row("flyte_llama", "full", 60, rows_per_step=32, timed=2),
    "small": Row("flyte_llama", "full", 30, rows_per_step=32, warm_up=3, timed=20),
    "trainer-lora": Row("Trainer", "lora", 40),
    "sft-lora": Row("SFTTrainer", "lora", 40),
    "trainer-full": Row("Trainer", "full", 45, rows_per_step=32, timed=1),
    "sft-full": Row("SFTTrainer", "full", 45, rows_per_step=32, timed=1),
    "qlora": Row("flyte_llama", "qlora", 50),
    "line": Row("flyte_llama", "lora", 120),
}


@dataclass(frozen=True)
class Measured:
    """The timed steps of a run."""

    settings: str
    num_tokens: int
    flops: int
    """That the model's arithmetic needs."""

    seconds: float
    device: str
    peak_bytes: int
    planned_bytes: int | None
    """None if nothing was planned."""


def measure(name: str, folder: Path, arguments: argparse.Namespace) -> Measured:
    """Train as the row says, and return its timed steps."""
    begin = time.monotonic()
    row = ROWS[name] if arguments.device == "cuda" else ROWS[name]._replace(rows_per_step=2, warm_up=1, timed=1)
    base = folder / "base" if name != "small" else arguments.small or folder / "small"
    config = training(row, arguments)
    if row.who != "flyte_llama":
        return measure_peer(row, base, folder, config)

    # Ours, through the launcher; or the whole of it, which only a task can start by the launcher.
    if name == "line":
        summary = fine_tune_here(base, folder, config)
    else:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            summary = launch_training(TrainingJob(base=base, rows=folder / "rows", training=config), Path(work))
    first, last = summary.losses[row.warm_up - 1], summary.losses[-1]
    resolved = used_settings(config, summary)
    settings = describe_pair(resolved) + (", Liger" if resolved.liger else "")
    if name == "line":
        written = ", ".join(f"{each.artefact} {each.loaded_perplexity:.2f}" for each in summary.verified)
        settings += f"; with merge, writing and verification {time.monotonic() - begin:.0f} s; perplexity {written}"

    # The measured peak is memory that torch allocated, so leave out the planned CUDA context and fragmentation.
    shape, num_tokens = model_shape(base), last.num_tokens - first.num_tokens
    planned = estimate_memory(shape, resolved, num_processes=1, processes_per_node=1)
    planned_bytes = planned.gpu_bytes - planned.gpu["CUDA context"] - planned.gpu["fragmentation"]
    mean = mean_row(shape, folder, resolved)
    return Measured(
        settings=settings,
        num_tokens=num_tokens,
        flops=mean.flops.times(num_tokens / mean.num_tokens).model,
        seconds=last.wall_s - first.wall_s,
        device=summary.device,
        peak_bytes=last.peak_memory_bytes or 0,
        planned_bytes=planned_bytes if arguments.device == "cuda" else None,
    )


def used_settings(config: TrainingConfig, summary: TrainingSummary) -> ResolvedTraining:
    """The settings that a run took."""
    return config.resolved(
        micro_batch_size=summary.micro_batch_size,
        activation_checkpointing=summary.activation_checkpointing,
        liger=summary.liger,
    )


def measure_peer(row: Row, base: Path, folder: Path, config: TrainingConfig) -> Measured:
    """Train by a peer. Its rows come in another order, so its tokens and FLOPs are those of average rows."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        run = train_by_peer(
            row.who,
            row.method,
            base,
            folder / "rows",
            Path(out),
            rows_per_step=row.rows_per_step,
            warm_up=row.warm_up,
            timed=row.timed,
        )
    mean = mean_row(model_shape(base), folder, config.resolved())
    num_rows = row.timed * row.rows_per_step
    return Measured(
        settings=run.settings,
        num_tokens=num_rows * mean.num_tokens,
        flops=mean.flops.times(num_rows).model,
        seconds=run.seconds,
        device=run.device,
        peak_bytes=run.peak_bytes,
        planned_bytes=None,
    )


def training(row: Row, arguments: argparse.Namespace) -> TrainingConfig:
    """The configuration of one of our rows. Full fine-tuning on one GPU needs no ZeRO."""
    settings = {
        "method": row.method,
        "seq_len": arguments.tokens,
        "max_steps": row.warm_up + row.timed,
        "log_every_steps": 1,
        "global_batch_size": row.rows_per_step,
        "learning_rate": 1e-5,
        "deepspeed": {"zero_stage": 0 if row.method == "full" else 2},
        "checkpoint_every_steps": 0,
    }
    changes = dict(pair.split("=", 1) for pair in arguments.set)
    return TrainingConfig.model_validate(settings | {key: yaml.safe_load(value) for key, value in changes.items()})


def fine_tune_here(base: Path, folder: Path, config: TrainingConfig) -> TrainingSummary:
    """Fine-tune in this process, as the only one of its group, and verify the written model on the package's code."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    ranks = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1}
    os.environ |= {
        name: str(value) for name, value in {**ranks, "MASTER_ADDR": "localhost", "MASTER_PORT": port}.items()
    }
    sources = sorted(Path(flyte_llama.__file__).parent.glob("*.py"))
    checkpoints = folder / "checkpoints"
    with process_group():
        return fine_tune(
            base, folder / "rows", folder / "model", config, heldout=[*map(document, sources)], checkpoints=checkpoints
        )


def document(path: Path) -> Document:
    """A Python file as a document."""
    text = path.read_text(encoding="utf-8")
    where = {"repository": "local", "url": "file:", "ref": "", "revision": "", "committed": 0, "path": str(path)}
    kind = {"encoding": "utf-8", "language": "Python", "kind": "source", "licence": "", "first_commit": 0}
    return Document(**where, **kind, blob_id="", start=0, end=len(text.encode()), filters=(), signature=b"", text=text)
