"""The tasks that fine-tune on one node of GPUs, or on several. Imports torch, as Flyte's Elastic does anyway.

No task reads its input `generation`: it is part of the cache's key, see `cache`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import torch
from flytekit import Cache, Deck, FlyteDirectory, task
from flytekit.configuration import LocalConfig

from flyte_llama.config import TrainingConfig
from flyte_llama.documents import read_documents
from flyte_llama.progress import say
from flyte_llama.report import training_page
from flyte_llama.tasks.checkpoints import bucket_checkpoints, checkpoint_folder
from flyte_llama.tasks.elastic import Launcher
from flyte_llama.tasks.folders import Folder, download, keep_apart, new_folder, stored_folders, upload
from flyte_llama.tasks.resources import ALL_GPUS, SETTINGS, TRAINING_SECRETS
from flyte_llama.tasks.stored_model import find_noted_model, note_model, pass_on_note, store_model
from flyte_llama.tasks.tracking import make_tracking
from flyte_llama.training import TrainingSummary
from flyte_llama.training import fine_tune as train
from flyte_llama.training.checkpoints import VERSION
from flyte_llama.training.export import find_model, seal_model
from flyte_llama.training.node_checkpoints import group_fingerprint, remove_checkpoints
from flyte_llama.training.processes import (
    node_rank,
    on_each_node,
    on_first_rank,
    on_first_rank_however_long,
    process_group,
)
from flyte_llama.training.unverified import UNVERIFIED, find_unverified, take_verified, verify_again


class FineTuned(NamedTuple):
    model: Folder
    summary: TrainingSummary


# The pod imports this module again, so there it is the number of GPUs in the pod; 1 on a laptop.
PROCESSES = max(1, torch.cuda.device_count())
# A process that was killed is noticed before others fail for want of it, so the message names the cause.
SECONDS_BETWEEN_LOOKS = 0.1
# Only trackers get to know the whole configuration. As a part of the key, its name alone would start a training.
CACHE = Cache(version=VERSION, serialize=True, ignored_inputs=("configuration",))


@task(
    task_config=Launcher(
        nnodes=1, nproc_per_node=PROCESSES, monitor_interval=SECONDS_BETWEEN_LOOKS, increase_shared_mem=False
    ),
    **ALL_GPUS,
    retries=3,
    enable_deck=True,
    deck_fields=(),
    secret_requests=TRAINING_SECRETS,
    cache=CACHE,
)
def fine_tune(
    base: FlyteDirectory,
    rows: FlyteDirectory,
    heldout: FlyteDirectory,
    training: TrainingConfig,
    generation: str,
    configuration: str = "",
) -> FineTuned:
    """The fine-tuned model in the hub's format. Runs in every process; Flyte takes the result of rank 0.

    When a pod is taken away, the next attempt resumes from the checkpoint of the last step.

    Args:
        configuration: The whole configuration as YAML, for trackers.
    """
    return _fine_tune(base, rows, heldout, training, configuration)


@task(
    task_config=Launcher(
        nnodes=max(2, SETTINGS.nodes),
        nproc_per_node=torch.cuda.device_count() or SETTINGS.gpu_count,
        monitor_interval=SECONDS_BETWEEN_LOOKS,
        increase_shared_mem=False,
        # Seconds that a node waits for the others, which may have yet to start and pull the image: for the first of
        # them to answer at all (read_timeout), and then for all.
        rdzv_configs={"timeout": 1800, "join_timeout": 1800, "read_timeout": 1800},
    ),
    **ALL_GPUS,
    retries=3,
    enable_deck=True,
    deck_fields=(),
    secret_requests=TRAINING_SECRETS,
    cache=CACHE,
)
def fine_tune_on_nodes(
    base: FlyteDirectory,
    rows: FlyteDirectory,
    heldout: FlyteDirectory,
    training: TrainingConfig,
    generation: str,
    configuration: str = "",
) -> FineTuned:
    """`fine_tune` on FLYTE_LLAMA_NODES nodes, as a PyTorchJob of Kubeflow's operator. Each node writes checkpoints."""
    return _fine_tune(base, rows, heldout, training, configuration)


def _fine_tune(
    base: FlyteDirectory, rows: FlyteDirectory, heldout: FlyteDirectory, training: TrainingConfig, configuration: str
) -> FineTuned:
    """Download the inputs once per node, train, and return the model with its summary.

    If an earlier start of this run was ended after it had stored the model, that model is returned.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with process_group() as rank:
        # Pass on what the previous attempt stored, then download the inputs.
        on_first_rank(lambda: pass_on_note(rows))
        folders = on_each_node(
            lambda: (download(base), download(rows), download(heldout), checkpoint_folder(base, rows))
        )
        base_folder, rows_folder, heldout_folder, checkpoints = folders[node_rank()]

        # Take the model of an earlier start, or train one and hand it over.
        made_from = group_fingerprint(base_folder, rows_folder, training)
        stored = None
        if not LocalConfig.auto().cache_overwrite:
            stored = on_first_rank_however_long(lambda: _find_stored(rows, made_from))
        in_bucket = bucket_checkpoints(rows, made_from)
        if stored is not None:
            model, summary = stored
            if rank == 0:
                say(f"an earlier start of this run trained the model: {model.remote_source or model.path}")
        else:
            # Processes that were started again find what the first ones downloaded, but not in a new pod.
            if in_bucket is not None and not all(on_each_node(checkpoints.is_dir)):
                in_bucket.fetch(checkpoints, with_older=training.keep_best)
            out = on_each_node(lambda: new_folder("model", made_from=rows))[node_rank()]
            summary = train(
                base_folder,
                rows_folder,
                out,
                training,
                heldout=read_documents(heldout_folder),
                checkpoints=checkpoints,
                upload=in_bucket.upload if in_bucket is not None else None,
                keep_unverified=lambda folder: keep_apart(folder, made_from=rows),
                tracking=make_tracking(training, configuration, made_from=rows) if rank == 0 else None,
            )
            # Here and not by Flyte, which would upload it when this pod's processes have ended and other pods too.
            model = on_first_rank_however_long(lambda: store_model(upload(out, made_from=rows), rows=rows))
        on_first_rank(lambda: note_model(model, made_from=made_from, rows=rows))

        # The model is now where it survives, and where the next start finds it.
        remove_checkpoints(checkpoints, made_from)
        if in_bucket is not None:
            in_bucket.remove_all()
        Deck("Training", training_page(summary))
        return FineTuned(model, summary)


def _find_stored(rows: FlyteDirectory, made_from: Mapping[str, str]) -> tuple[FlyteDirectory, TrainingSummary] | None:
    """The model that an earlier start of this run stored, and its summary; None if there is none.

    One that failed its verification is verified again.

    Raises:
        FlyteLlamaError: if it fails again.
    """
    noted = find_noted_model(rows, made_from)
    if noted is not None:
        return noted
    stored = find_model(stored_folders("model", made_from=rows), made_from)
    if stored is not None:
        return FlyteDirectory(str(stored[0]), remote_directory=False), stored[1]
    unverified = find_unverified(stored_folders(UNVERIFIED, made_from=rows), made_from)
    if unverified is None:
        return None
    say(f"{unverified}: the model of an earlier start, which failed its verification; verifying it again")
    verified = verify_again(unverified)
    out = new_folder("model", made_from=rows)
    record = take_verified(unverified, out, verified)
    seal_model(out, record.summary, made_from)
    return upload(out, made_from=rows), record.summary
