"""Held-out perplexity of one model on one GPU."""

from __future__ import annotations

from flytekit import Cache, FlyteDirectory, task

from flyte_llama.config import EvaluationConfig, ObjectiveConfig
from flyte_llama.documents import read_documents
from flyte_llama.evaluation import score_folder
from flyte_llama.tasks.resources import HUB_SECRETS, ONE_GPU, Folder, finished, local, new_folder, retried


@task(
    **ONE_GPU,
    retries=3,
    secret_requests=HUB_SECRETS,
    cache=Cache(version="2", serialize=True),
)
def evaluate(
    model: FlyteDirectory,
    heldout: FlyteDirectory,
    evaluation: EvaluationConfig,
    objective: ObjectiveConfig,
    precision: str,
) -> Folder:
    """Nats of every held-out document under a prepared base or a fine-tuned model."""
    folder = new_folder("scores")
    with retried():
        documents = read_documents(local(heldout))
        score_folder(local(model), documents, evaluation, objective=objective, precision=precision, out=folder)
    return finished(folder)
