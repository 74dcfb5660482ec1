"""Fine-tuning on one node of GPUs. Flyte's Elastic imports torch when the task is decorated, so this module does."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from flytekit import Cache, FlyteDirectory, task
from flytekitplugins.kfpytorch import Elastic

from flyte_llama.config import TrainingConfig
from flyte_llama.tasks.resources import ALL_GPUS, HUB_SECRETS, Folder, finished, local, new_folder, retried
from flyte_llama.training import TrainingSummary
from flyte_llama.training import fine_tune as train
from flyte_llama.training.processes import on_first_rank, process_group


class FineTuned(NamedTuple):
    model: Folder
    summary: TrainingSummary


# Evaluated anew in the pod, so that there it is the number of GPUs that the pod was given; 1 on a laptop.
PROCESSES = max(1, torch.cuda.device_count())


@task(
    task_config=Elastic(nnodes=1, nproc_per_node=PROCESSES, monitor_interval=1, increase_shared_mem=False),
    **ALL_GPUS,
    retries=3,
    secret_requests=HUB_SECRETS,
    environment={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
    cache=Cache(version="1", serialize=True),
)
def fine_tune(base: FlyteDirectory, rows: FlyteDirectory, training: TrainingConfig) -> FineTuned:
    """The fine-tuned model in the hub's format. Runs in every process; only rank 0's answer counts."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with retried(), process_group():
        base_folder, rows_folder, out = on_first_rank(lambda: (local(base), local(rows), new_folder("model")))
        summary = train(base_folder, rows_folder, out, training)
        return FineTuned(finished(out, made_from=rows), summary)
