"""The tasks that build the evaluation suite, measure models on it (one pod per shard), and join the results.

No task reads its inputs `generation` and `machine`: they are part of the cache's key, see `cache` and `RunParts`.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from flytekit import Cache, FlyteDirectory, task

from flyte_llama.config import DocumentsConfig, EvaluationConfig, FlyteEvalConfig, ModelConfig, ObjectiveConfig
from flyte_llama.documents import rules_version
from flyte_llama.evaluation.measure import join_parts, make_items, make_suite, measure_model
from flyte_llama.flyte_eval.mining import VERSION
from flyte_llama.model import PinnedModel, prepare_base
from flyte_llama.model import pin_model as pin_one_model
from flyte_llama.tasks.cache import Hashed, MadeBy
from flyte_llama.tasks.folders import Folder, download, fetch_manifest, new_folder, retry_network_errors, upload
from flyte_llama.tasks.resources import CORPUS, HUB_SECRETS, ONE_GPU, SMALL


class Pairs(NamedTuple):
    models: list[Folder]
    shards: list[Folder]


@task(**CORPUS, retries=1, cache=Cache(version=VERSION, serialize=True))
def mine_flyte_eval(heldout: FlyteDirectory, flyte_eval: FlyteEvalConfig, machine: str, generation: str) -> Folder:
    """The items of FlyteEval. Runs held-out code in a sandbox, in a pod without secrets."""
    folder = new_folder("items")
    with retry_network_errors():
        make_items(download(heldout), flyte_eval, out=folder)
    return upload(folder)


@task(**CORPUS, retries=1, cache=Cache(version=f"3 {rules_version()}", serialize=True))
def build_suite(
    heldout: FlyteDirectory,
    train: FlyteDirectory,
    items: FlyteDirectory,
    evaluation: EvaluationConfig,
    documents: DocumentsConfig,
    leak_words: int,
    validation_share: float,
    generation: str,
) -> list[Folder]:
    """The suite that every model is measured on, in `evaluation.shards` folders."""
    shards = [new_folder("suite") for _ in range(evaluation.shards)]
    with retry_network_errors():
        make_suite(
            download(heldout),
            download(train),
            download(items),
            evaluation,
            documents,
            leak_words=leak_words,
            validation_share=validation_share,
            shards=shards,
        )
    return [upload(folder) for folder in shards]


@task(**SMALL, retries=3, secret_requests=HUB_SECRETS)
def pin_published(evaluation: EvaluationConfig) -> list[Hashed[PinnedModel]]:
    """The published model at its current commit; empty if none is configured. Never cached: it may ask the hub."""
    if evaluation.published_model is None:
        return []
    with retry_network_errors():
        return [pin_one_model(ModelConfig(name=evaluation.published_model))]


@task(**CORPUS, retries=3, secret_requests=HUB_SECRETS, cache=Cache(version="3", serialize=True))
def prepare_published(pinned: PinnedModel, window: int, generation: str) -> Folder:
    """The published model's config and tokenizer. A map task, since the list of published models may be empty."""
    folder = new_folder("published")
    with retry_network_errors():
        config = ModelConfig(name=pinned.name)
        prepare_base(pinned, config, [], longest_input=window, folder=folder, for_training=False)
    return upload(folder)


@task(**SMALL, retries=1)
def pair(models: list[FlyteDirectory], shards: list[FlyteDirectory]) -> Pairs:
    """Every combination of a model and a shard, as two lists of equal length. Downloads their manifests alone."""
    with retry_network_errors():
        models, shards = [fetch_manifest(model) for model in models], [fetch_manifest(shard) for shard in shards]
    return Pairs([model for model in models for _ in shards], [shard for _ in models for shard in shards])


@task(**ONE_GPU, retries=3, secret_requests=HUB_SECRETS, cache=Cache(version="7", serialize=True))
def evaluate(
    model: FlyteDirectory,
    shard: FlyteDirectory,
    evaluation: EvaluationConfig,
    objective: ObjectiveConfig,
    precision: str,
    made_by: str,
    generation: str,
) -> Folder:
    """Measure a prepared base or a fine-tuned model on one shard of the suite. A map task: one GPU per shard.

    Args:
        made_by: The steps that made the model: `data` for a base, `training` for a fine-tuned one.
    """
    folder = new_folder("measured")
    with retry_network_errors():
        model_folder = download(model, made_by=cast(MadeBy, made_by))
        measure_model(model_folder, download(shard), evaluation, objective=objective, precision=precision, out=folder)
    return upload(folder)


@task(**CORPUS, retries=1, cache=Cache(version="3", serialize=True))
def join_shards(parts: list[FlyteDirectory], items: FlyteDirectory, generation: str) -> list[Folder]:
    """Join the results of one model into one folder; an empty list stays empty.

    Grades FlyteEval, so it runs code that the model wrote: in a sandbox, in a pod without secrets.
    """
    if not parts:
        return []
    folder = new_folder("scores")
    with retry_network_errors():
        join_parts([download(part, made_by="scoring") for part in parts], download(items), out=folder)
    return [upload(folder)]
