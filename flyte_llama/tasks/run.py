"""The first task of every workflow: it checks what the run needs, and splits its configuration into parts."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import NamedTuple

from flytekit import task

from flyte_llama.config import (
    CompositionConfig,
    CorpusConfig,
    DocumentsConfig,
    EvaluationConfig,
    ExperimentConfig,
    FlyteEvalConfig,
    ModelConfig,
    ObjectiveConfig,
    PublishConfig,
    TrainingConfig,
    write_config,
)
from flyte_llama.config.problems import report_problems
from flyte_llama.errors import PublishError
from flyte_llama.flyte_eval import describe_machine
from flyte_llama.preflight import preflight_problems
from flyte_llama.progress import INTERRUPTED, escape_unknown_characters, exit_on_interrupt
from flyte_llama.report.repository import check_publishing
from flyte_llama.tasks.cache import CACHE, Hashed, read_generation
from flyte_llama.tasks.folders import local_output, retry_network_errors
from flyte_llama.tasks.resources import HUB_TOKEN, SETTINGS, SMALL, TRAINING_SECRETS
from flyte_llama.trackers import pod_tracker_problems, unset_key_problems
from flyte_llama.workspace import open_output

SWEEP_VALIDATION_SHARE = 0.05
"""The validation part of a sweep whose configuration has none."""


class RunParts(NamedTuple):
    """The parts of a configuration, each the whole input of some task, so that a cached task sees nothing else of it.

    Each has a content hash, see `cache`: a run from the console, the command line or a schedule has the same keys.
    The generations count the damaged folders that earlier runs found; see `cache`. `machine` describes the machine of
    `start_run`, for FlyteEval: what it could not run there is run again where it can be. `started` is the time, in ISO
    8601; only the report reads it. `configuration` is the whole as YAML, for trackers.
    """

    config: ExperimentConfig
    configuration: str
    started: str
    corpus: Hashed[CorpusConfig]
    documents: Hashed[DocumentsConfig]
    leak_words: int
    composition: Hashed[CompositionConfig]
    model: Hashed[ModelConfig]
    released: str
    objective: Hashed[ObjectiveConfig]
    training: Hashed[TrainingConfig]
    adapting: Hashed[TrainingConfig]
    validation_share: float
    seq_len: int
    epochs: float
    max_steps: int
    global_batch_size: int
    precision: str
    evaluation: Hashed[EvaluationConfig]
    window: int
    flyte_eval: Hashed[FlyteEvalConfig]
    machine: str
    publish: Hashed[PublishConfig]
    data_generation: str
    training_generation: str
    scoring_generation: str


@task(**SMALL, retries=3, secret_requests=TRAINING_SECRETS)
def start_run(config: ExperimentConfig, validate: bool = False) -> RunParts:
    """Check what can be checked before anything is fetched or trained, and return the parts of the configuration.

    A local run also takes its output folder, which no other run can use at the same time.

    Args:
        validate: Split off a validation part even if the configuration has none.
    """
    output, started = local_output(), datetime.now(UTC)
    if output is not None:
        escape_unknown_characters()
        exit_on_interrupt(INTERRUPTED)
        open_output(output)
        CACHE.run_name = config.name or "run"
        problems = preflight_problems(dict(config))
    else:
        problems = pod_tracker_problems(config.training, SETTINGS)
        # The pods of training request the same keys, and some secret managers start them without.
        problems = problems or unset_key_problems(config.training, SETTINGS)
    if problems:
        raise report_problems(problems)
    if config.publish.repository is not None:
        with retry_network_errors():
            published = config.evaluation.published_model
            problems = check_publishing(config.publish, published, os.environ.get(HUB_TOKEN))
            if problems:
                raise PublishError("\n  - ".join(["the model could not be published; nothing was trained:", *problems]))
    generations = ["", "", ""]
    if output is None:
        with retry_network_errors():
            generations = [read_generation(made_by) for made_by in ("data", "training", "scoring")]
    training, evaluation = config.training, config.evaluation
    if validate and not training.validation_share:
        training = training.model_copy(update={"validation_share": SWEEP_VALIDATION_SHARE})
    return RunParts(
        config=config,
        configuration=write_config(config),
        started=started.isoformat(),
        corpus=config.corpus,
        documents=config.corpus.documents,
        leak_words=config.corpus.leakage.num_words,
        composition=config.composition,
        model=config.model,
        released=config.model.released,
        objective=config.objective,
        training=training,
        # What decides whether the base can be trained so; all else is as by default.
        adapting=TrainingConfig(
            method=training.method, lora=training.lora, deepspeed=training.deepspeed, seq_len=training.seq_len
        ),
        validation_share=training.validation_share,
        seq_len=training.seq_len,
        epochs=training.epochs,
        max_steps=training.max_steps,
        global_batch_size=training.global_batch_size,
        precision=training.precision,
        evaluation=evaluation,
        window=evaluation.window,
        flyte_eval=evaluation.flyte_eval,
        machine="" if evaluation.flyte_eval.source == "none" else describe_machine(),
        publish=config.publish,
        data_generation=generations[0],
        training_generation=generations[1],
        scoring_generation=generations[2],
    )
