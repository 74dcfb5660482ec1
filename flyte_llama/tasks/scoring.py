"""What models are measured on, the measuring on GPUs, a shard a pod, and what was measured as one folder a model."""

from __future__ import annotations

from typing import NamedTuple

from flytekit import Cache, FlyteDirectory, task

from flyte_llama.config import DocumentsConfig, EvaluationConfig, FlyteEvalConfig, ModelConfig, ObjectiveConfig
from flyte_llama.documents import rules_version
from flyte_llama.measuring import join, make_items, make_suite, measure
from flyte_llama.model import PinnedModel, prepare_base
from flyte_llama.model import pin_model as pin_one_model
from flyte_llama.tasks.resources import (
    CORPUS,
    HUB_SECRETS,
    ONE_GPU,
    SMALL,
    Folder,
    finished,
    local,
    new_folder,
    retried,
)


class Pairs(NamedTuple):
    models: list[FlyteDirectory]
    shards: list[FlyteDirectory]


@task(**CORPUS, retries=1, cache=Cache(version="1", serialize=True))
def mine_flyte_eval(heldout: FlyteDirectory, flyte_eval: FlyteEvalConfig) -> Folder:
    """FlyteEval's tasks. Runs held-out code, confined, in a pod without secrets."""
    folder = new_folder("items")
    make_items(local(heldout), flyte_eval, out=folder)
    return finished(folder)


@task(**CORPUS, retries=1, cache=Cache(version=f"1 {rules_version()}", serialize=True))
def build_suite(
    heldout: FlyteDirectory,
    train: FlyteDirectory,
    items: FlyteDirectory,
    evaluation: EvaluationConfig,
    documents: DocumentsConfig,
) -> list[Folder]:
    """What every model is measured on, in `evaluation.shards` folders."""
    shards = [new_folder("suite") for _ in range(evaluation.shards)]
    make_suite(local(heldout), local(train), local(items), evaluation, documents, shards=shards)
    return [finished(folder) for folder in shards]


@task(**SMALL, retries=3, secret_requests=HUB_SECRETS)
def pin_published(evaluation: EvaluationConfig) -> list[PinnedModel]:
    """The last published model at the commit it has now; none if none is named. Never cached: it may ask the hub."""
    if evaluation.published is None:
        return []
    with retried():
        return [pin_one_model(ModelConfig(name=evaluation.published))]


@task(**CORPUS, retries=3, secret_requests=HUB_SECRETS, cache=Cache(version="1", serialize=True))
def prepare_published(pinned: PinnedModel, window: int) -> Folder:
    """Its config and tokenizer; mapped, since there may be none."""
    folder = new_folder("published")
    with retried():
        config = ModelConfig(name=pinned.name)
        prepare_base(pinned, config, [], longest_input=window, folder=folder, is_trained=False)
    return finished(folder)


@task(**SMALL, retries=1)
def pair(models: list[FlyteDirectory], shards: list[FlyteDirectory]) -> Pairs:
    """Every model with every shard."""
    return Pairs([model for model in models for _ in shards], [shard for _ in models for shard in shards])


@task(**ONE_GPU, retries=3, secret_requests=HUB_SECRETS, cache=Cache(version="3", serialize=True))
def evaluate(
    model: FlyteDirectory,
    shard: FlyteDirectory,
    evaluation: EvaluationConfig,
    objective: ObjectiveConfig,
    precision: str,
) -> Folder:
    """A prepared base or a fine-tuned model on a shard of the suite; mapped, one GPU a shard."""
    folder = new_folder("measured")
    with retried():
        measure(local(model), local(shard), evaluation, objective=objective, precision=precision, out=folder)
    return finished(folder)


@task(**CORPUS, retries=1, cache=Cache(version="1", serialize=True))
def join_shards(parts: list[FlyteDirectory], items: FlyteDirectory) -> list[Folder]:
    """What was measured of a model, as one folder; none of none. Runs what it wrote, confined, without secrets."""
    if not parts:
        return []
    folder = new_folder("scores")
    join([local(part) for part in parts], local(items), out=folder)
    return [finished(folder)]
