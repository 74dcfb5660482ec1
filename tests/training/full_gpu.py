"""Trains in the processes of `run_launcher` as on a GPU that runs out of memory above a number of rows at once."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from flyte_llama.plan import Devices
from flyte_llama.training import TrainingSummary, fine_tuning
from flyte_llama.training.launch import TrainingJob, run_launcher
from flyte_llama.training.processes import process_group


def launch_on_full_gpu(job: TrainingJob, folder: Path, *, max_rows: int) -> TrainingSummary:
    """As `launch_training`, but with such a GPU, and with the checkpoints left in place."""

    def launch() -> dict[int, TrainingSummary]:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=1,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
        )
        summaries: dict[int, TrainingSummary] = elastic_launch(config, train)(job, folder / "checkpoints", max_rows)
        return summaries

    folder.mkdir(parents=True, exist_ok=True)
    return run_launcher(launch, folder)[0]


def train(job: TrainingJob, checkpoints: Path, max_rows: int) -> TrainingSummary:
    """Run one process of the job."""
    from flyte_llama.training.trainer import PackedTrainer

    compute_loss = PackedTrainer.compute_loss

    def compute_loss_if_it_fits(trainer: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if len(inputs["input_ids"]) > max_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return compute_loss(trainer, model, inputs, *args, **kwargs)

    PackedTrainer.compute_loss = compute_loss_if_it_fits
    # The model is trained on the CPU; only the choice is made for a GPU, with room for everything by the plan.
    fine_tuning.find_devices = lambda *_, num_processes, **__: Devices("GPU", num_processes, 2**35, None, False)
    with process_group():
        return fine_tuning.fine_tune(job.base, job.rows, job.out, job.training, heldout=[], checkpoints=checkpoints)
