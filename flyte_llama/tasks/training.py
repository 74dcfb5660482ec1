"""Fine-tuning on one node of GPUs, or on several. Flyte's Elastic imports torch with a task, so this does."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from flytekit import Cache, Deck, FlyteDirectory, task
from flytekitplugins.kfpytorch import Elastic

from flyte_llama.config import TrainingConfig
from flyte_llama.documents import read_documents
from flyte_llama.report import training_page
from flyte_llama.tasks.checkpoints import carrier, checkpoint_folder
from flyte_llama.tasks.resources import ALL_GPUS, HUB_SECRETS, SETTINGS, Folder, finished, local, new_folder, retried
from flyte_llama.training import TrainingSummary
from flyte_llama.training import fine_tune as train
from flyte_llama.training.processes import node, on_each_node, process_group


class FineTuned(NamedTuple):
    model: Folder
    summary: TrainingSummary


# Evaluated anew in the pod, so that there it is the number of GPUs that the pod was given; 1 on a laptop.
PROCESSES = max(1, torch.cuda.device_count())
ENVIRONMENT = {
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    # Seconds that the launcher leaves its processes to seal and upload a checkpoint when the pod is taken away.
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
    """The fine-tuned model in the hub's format. Runs in every process; only rank 0's answer counts.

    When a pod is taken away, the next attempt goes on from the last step's checkpoint.
    """
    return _fine_tuned(base, rows, heldout, training)


@task(
    task_config=Elastic(
        nnodes=max(2, SETTINGS.nodes),
        nproc_per_node=torch.cuda.device_count() or SETTINGS.gpu_count,
        monitor_interval=1,
        increase_shared_mem=False,
        # Seconds that a node waits for the others: one may still have to be started, and to pull the image.
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
    """The same on FLYTE_LLAMA_NODES nodes, as a PyTorchJob of Kubeflow's training operator; a checkpoint a node."""
    return _fine_tuned(base, rows, heldout, training)


def _fine_tuned(
    base: FlyteDirectory, rows: FlyteDirectory, heldout: FlyteDirectory, training: TrainingConfig
) -> FineTuned:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with retried(), process_group():
        folders = on_each_node(
            lambda: (local(base), local(rows), local(heldout), new_folder("model"), checkpoint_folder(base, rows))
        )
        base_folder, rows_folder, heldout_folder, out, checkpoints = folders[node()]
        summary = train(
            base_folder,
            rows_folder,
            out,
            training,
            heldout=read_documents(heldout_folder),
            checkpoints=checkpoints,
            carry=carrier(rows),
        )
        Deck("Training", training_page(summary))
        return FineTuned(finished(out, made_from=rows), summary)
