"""What each stage of a run needs on this machine: stages → one line for each problem.

Nothing is fetched over the network, and nothing stays written. Each check uses the function of the room that would meet
the problem later, so the messages are the same. What needs the network is found out by the first tasks of a run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyte_llama.config import (
    CorpusConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    PublishConfig,
    TrainingConfig,
)
from flyte_llama.config.model import names_model
from flyte_llama.config.source_url import same_repository_key
from flyte_llama.config.stage import hint
from flyte_llama.documents import KNOWN_LANGUAGES
from flyte_llama.errors import ConfigError
from flyte_llama.model.checks import (
    adapter_folder_problems,
    adapting_problems,
    cached_config,
    config_problems,
    control_token_problems,
    hub_name_problems,
    model_folder_problems,
)
from flyte_llama.preflight.disk import folder_problems, room_problems
from flyte_llama.preflight.sources import hidden_split_problems, one_source_problems, source_problems
from flyte_llama.report.repository import TOKEN_PROBLEM
from flyte_llama.settings import read_settings
from flyte_llama.trackers import registration_problems, tracker_problems
from flyte_llama.training.devices import machine_problems


def preflight_problems(stages: Mapping[str, Any]) -> list[str]:
    """Return one line for each problem that can be known without a network, before a run on this machine.

    Args:
        stages: Name → the stages of a configuration that are valid. A check is skipped if a stage that it needs is
            absent.
    """
    corpus: CorpusConfig | None = stages.get("corpus")
    model: ModelConfig | None = stages.get("model")
    objective: ObjectiveConfig | None = stages.get("objective")
    training: TrainingConfig | None = stages.get("training")
    evaluation: EvaluationConfig | None = stages.get("evaluation")
    publish: PublishConfig | None = stages.get("publish")
    problems: list[str] = []
    if corpus:
        problems += source_problems(corpus) + hidden_split_problems(corpus)
    problems += language_problems(stages)
    if model:
        found = model_problems(model, training, evaluation) or adapting_problems(model, training)
        if not found and objective and training:
            found = control_token_problems(model, objective, training)
        problems += found
    if evaluation:
        problems += evaluation_problems(evaluation, corpus)
    if training:
        problems += tracker_problems(training) + machine_problems(training)
    if publish:
        problems += publish_problems(publish)
    try:
        output = Path(read_settings().output).absolute()
    except ConfigError as error:
        return problems + list(error.problems)
    unusable = folder_problems(output)
    if model and training and not unusable:
        problems += room_problems(model, training, output)
    return problems + unusable


def remote_problems(stages: Mapping[str, Any]) -> list[str]:
    """Return one line for each problem of a run on a cluster, where other machines read the sources and train."""
    problems = language_problems(stages)
    try:
        if "corpus" in stages:
            problems += source_problems(stages["corpus"], in_pods=True)
        return problems + (registration_problems(stages["training"], read_settings()) if "training" in stages else [])
    except ConfigError as error:
        return problems + list(error.problems)


def language_problems(stages: Mapping[str, Any]) -> list[str]:
    """Return a line for each language with a weight that no document has."""
    corpus, composition = stages.get("corpus"), stages.get("composition")
    languages = KNOWN_LANGUAGES | set(corpus.documents.languages.values() if corpus else ())
    known = f"Languages: {', '.join(sorted(languages))}."
    return [
        f"composition.language_weights: {language!r} is not a known language. "
        f"{hint(language, languages, otherwise=known)}"
        for language in sorted((composition.language_weights if composition else {}).keys() - languages)
    ]


def model_problems(
    model: ModelConfig, training: TrainingConfig | None, evaluation: EvaluationConfig | None
) -> list[str]:
    """Return the problems of the base and its adapter, as far as their files are on this machine."""
    lengths = {}
    if training:
        lengths["training.seq_len"] = training.seq_len
    if evaluation:
        lengths["evaluation.window"] = evaluation.window
    problems = []
    if model.is_local:
        problems += model_folder_problems(model.name, lengths, name=f"model.name = {model.name}")
    elif not model.is_scratch and names_model(model.name):
        problems += hub_name_problems("model.name", model.name)
        if file := cached_config(model):
            problems += config_problems(file, lengths, name=f"model.name = {model.name}", for_training=True)
    if model.adapter is not None and model.adapter_is_local:
        problems += adapter_folder_problems(model.adapter, model)
    elif model.adapter is not None and names_model(model.adapter):
        problems += hub_name_problems("model.adapter", model.adapter)
    return problems


def evaluation_problems(evaluation: EvaluationConfig, corpus: CorpusConfig | None) -> list[str]:
    """Return the problems of the published model, if it is a folder, and of the general code."""
    problems, published = [], evaluation.published_model
    if published is not None and ModelConfig(name=published).is_local:
        problems += model_folder_problems(
            published,
            {"evaluation.window": evaluation.window},
            name=f"evaluation.published = {published}",
            for_training=False,
        )
    elif published is not None and names_model(published):
        problems += hub_name_problems("evaluation.published", published)
    # General code that is in the corpus is left out, and was checked there.
    sources = [*corpus.train_sources, *corpus.heldout_sources] if corpus else []
    in_corpus = {same_repository_key(source.url) for source in sources}
    for index, source in enumerate(evaluation.general if evaluation.probe_bytes else []):
        if same_repository_key(source.url) not in in_corpus:
            problems += one_source_problems(f"evaluation.general[{index}]", source)
    return problems


def publish_problems(publish: PublishConfig) -> list[str]:
    """Return a line if a model is to be published, and the repository's name is wrong or there is no token."""
    if publish.repository is None:
        return []
    problems = hub_name_problems("publish.repository", publish.repository)
    if not os.environ.get("HF_TOKEN", "").strip():
        problems.append(f"publish.repository = {publish.repository}: {TOKEN_PROBLEM}")
    return problems
