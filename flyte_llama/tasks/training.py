"""The tasks that fine-tune on one node of GPUs, or on several. Imports torch, as Flyte's Elastic does anyway."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from flytekit import Cache, Deck, FlyteDirectory, task
from flytekitplugins.kfpytorch import Elastic

from flyte_llama.config import TrainingConfig
from flyte_llama.documents import read_documents
from flyte_llama.report import training_page
from flyte_llama.tasks.checkpoints import checkpoint_folder, checkpoint_uploader
from flyte_llama.tasks.folders import Folder, download, new_folder, retry_network_errors, upload
from flyte_llama.tasks.resources import ALL_GPUS, HUB_SECRETS, SETTINGS
from flyte_llama.training import TrainingSummary
from flyte_llama.training import fine_tune as train
from flyte_llama.training.processes import node_rank, on_each_node, process_group


class FineTuned(NamedTuple):
    model: Folder
    summary: TrainingSummary


# The pod imports this module again, so there it is the number of GPUs in the pod; 1 on a laptop.
PROCESSES = max(1, torch.cuda.device_count())
ENVIRONMENT = {
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    # Seconds that the launcher gives its processes to seal and upload a checkpoint when the pod is taken away.
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "120",
}
CACHE = Cache(version="3", serialize=True)


@task(
    task_config=Elastic(nnodes=1, nproc_per_node=PROCESSES, monitor_interval=1, increase_shared_mem=False),
    **ALL_GPUS,
    retries=3,
    enable_deck=True,
    secret_requests=HUB_SECRETS,
    environment=ENVIRONMENT,
    cache=CACHE,
)
def fine_tune(
    base: FlyteDirectory, rows: FlyteDirectory, heldout: FlyteDirectory, training: TrainingConfig
) -> FineTuned:
    """The fine-tuned model in the hub's format. Runs in every process; Flyte takes the result of rank 0.

    When a pod is taken away, the next attempt resumes from the checkpoint of the last step.
    """
    return _fine_tune(base, rows, heldout, training)


@task(
    task_config=Elastic(
        nnodes=max(2, SETTINGS.nodes),
        nproc_per_node=torch.cuda.device_count() or SETTINGS.gpu_count,
        monitor_interval=1,
        increase_shared_mem=False,
        # Seconds that a node waits for the others, which may have yet to start and pull the image.
        rdzv_configs={"timeout": 1800, "join_timeout": 1800},
    ),
    **ALL_GPUS,
    retries=3,
    enable_deck=True,
    secret_requests=HUB_SECRETS,
    environment=ENVIRONMENT | {"FLYTE_LLAMA_NODES": str(SETTINGS.nodes)},
    cache=CACHE,
)
def fine_tune_on_nodes(
    base: FlyteDirectory, rows: FlyteDirectory, heldout: FlyteDirectory, training: TrainingConfig
) -> FineTuned:
    """`fine_tune` on FLYTE_LLAMA_NODES nodes, as a PyTorchJob of Kubeflow's operator. Each node writes checkpoints."""
    return _fine_tune(base, rows, heldout, training)


def _fine_tune(
    base: FlyteDirectory, rows: FlyteDirectory, heldout: FlyteDirectory, training: TrainingConfig
) -> FineTuned:
    """Download the inputs once per node, train, and return the model with its summary."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with retry_network_errors(), process_group():
        folders = on_each_node(
            lambda: (
                download(base),
                download(rows),
                download(heldout),
                new_folder("model"),
                checkpoint_folder(base, rows),
            )
        )
        base_folder, rows_folder, heldout_folder, out, checkpoints = folders[node_rank()]
        summary = train(
            base_folder,
            rows_folder,
            out,
            training,
            heldout=read_documents(heldout_folder),
            checkpoints=checkpoints,
            upload=checkpoint_uploader(rows),
        )
        Deck("Training", training_page(summary))
        return FineTuned(upload(out, made_from=rows), summary)
