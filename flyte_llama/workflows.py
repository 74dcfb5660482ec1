"""The workflows: `train_flyte_llama`, `tune_batch_size`, `sweep` and `complete_prompts`."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

from flytekit import FlyteDirectory, FlyteFile, map_task, task, workflow
from flytekit.types.error import FlyteError

from flyte_llama.config import ExperimentConfig, PromptsConfig
from flyte_llama.model import PinnedModel
from flyte_llama.report import EvaluationReport
from flyte_llama.report.publish import Verdict
from flyte_llama.tasks.cache import MadeBy
from flyte_llama.tasks.completing import collect_completions, complete_shard, prepare_completing, read_prompts
from flyte_llama.tasks.config_option import read_config_option
from flyte_llama.tasks.data import Corpus, build_corpus, encode, pin_model, pin_sources, prepare_base, read_source
from flyte_llama.tasks.failure import report_run_failure
from flyte_llama.tasks.registration import count_settings, sort_upstream_nodes
from flyte_llama.tasks.reporting import publish, report
from flyte_llama.tasks.resources import READER, SETTINGS
from flyte_llama.tasks.run import RunParts, start_run
from flyte_llama.tasks.scoring import (
    build_suite,
    evaluate,
    join_shards,
    mine_flyte_eval,
    pair,
    pin_published,
    prepare_published,
)
from flyte_llama.tasks.training import fine_tune, fine_tune_on_nodes
from flyte_llama.tasks.tuning import (
    batch_sizes,
    choose_batch_size,
    choose_point,
    sweep_configs,
    try_batch_size,
    try_point,
)
from flyte_llama.training.trials import BatchTrial, SweepTrial

GREEDY = PromptsConfig()


class TrainingResult(NamedTuple):
    model: FlyteDirectory
    report: EvaluationReport
    page: FlyteFile
    card: FlyteFile
    dataset_card: FlyteFile
    verdict: Verdict
    published: str


class PreparedRun(NamedTuple):
    """The inputs of training and evaluation. While Flyte compiles a workflow, these are promises."""

    parts: RunParts
    model: PinnedModel
    documents: list[FlyteDirectory]
    corpus: Corpus
    base: FlyteDirectory
    rows: FlyteDirectory


def prepare(config: ExperimentConfig, *, validate: bool = False) -> PreparedRun:
    """Add the nodes that make packed rows from the configuration. Call it inside a workflow.

    Args:
        validate: Split off a validation part even if the configuration has none.
    """
    parts = start_run(config=config, validate=validate)
    generation = parts.data_generation
    sources = pin_sources(corpus=parts.corpus, released=parts.released)
    model = pin_model(model=parts.model)
    read = functools.partial(read_source, documents=parts.documents, generation=generation)
    documents = map_task(read)(source=sources)
    corpus = build_corpus(documents=documents, corpus=parts.corpus, released=parts.released, generation=generation)
    base = prepare_base(
        pinned=model,
        model=parts.model,
        objective=parts.objective,
        training=parts.adapting,
        train=corpus.train,
        window=parts.window,
        generation=generation,
    )
    rows = encode(
        train=corpus.train,
        base=base,
        composition=parts.composition,
        objective=parts.objective,
        validation_share=parts.validation_share,
        seq_len=parts.seq_len,
        epochs=parts.epochs,
        max_steps=parts.max_steps,
        global_batch_size=parts.global_batch_size,
        generation=generation,
    )
    return PreparedRun(parts, model, documents, corpus, base, rows)


def score_models(
    models: list[FlyteDirectory],
    suite: list[FlyteDirectory],
    items: FlyteDirectory,
    parts: RunParts,
    *,
    made_by: MadeBy = "data",
) -> tuple[list[FlyteDirectory], list[FlyteDirectory]]:
    """Add the nodes that measure a model (or none) on every shard of the suite, and the node that joins them."""
    pairs = pair(models=models, shards=suite)
    on_a_shard = functools.partial(
        evaluate,
        evaluation=parts.evaluation,
        objective=parts.objective,
        precision=parts.precision,
        made_by=made_by,
        generation=parts.scoring_generation,
    )
    measured = map_task(on_a_shard)(model=pairs.models, shard=pairs.shards)
    return measured, join_shards(parts=measured, items=items, generation=parts.scoring_generation)


# The failure node must have the inputs of its workflow. It finds the failed step among the nodes of that workflow.
@task(**READER, retries=1, enable_deck=True, deck_fields=())
def report_failure(config: ExperimentConfig, err: FlyteError | None = None) -> str:
    """What failed, why, and what to do, in the log, in a deck and as output."""
    is_tuning = os.environ.get("FLYTE_INTERNAL_EXECUTION_WORKFLOW", "").endswith("tune_batch_size")
    return report_run_failure(err, tune_batch_size if is_tuning else train_flyte_llama)


@task(**READER, retries=1, enable_deck=True, deck_fields=())
def report_sweep_failure(
    config: ExperimentConfig, learning_rates: list[float], ranks: list[int], err: FlyteError | None = None
) -> str:
    """`report_failure` of a sweep."""
    return report_run_failure(err, sweep)


@task(**READER, retries=1, enable_deck=True, deck_fields=())
def report_completion_failure(
    prompts: FlyteDirectory, model: FlyteDirectory, options: PromptsConfig, err: FlyteError | None = None
) -> str:
    """`report_failure` of a batch of completions."""
    return report_run_failure(err, complete_prompts)


@workflow(on_failure=report_failure)
def train_flyte_llama(config: ExperimentConfig) -> TrainingResult:
    """Fine-tune a code model on repositories, and measure on code held out of its training how much it improved.

    Everything after the two pins is cached by content, so a run on unchanged sources takes seconds.
    """
    # sources → corpus → packed rows, and the suite to measure on
    parts, model, documents, corpus, base, rows = prepare(config)
    items = mine_flyte_eval(
        heldout=corpus.heldout,
        flyte_eval=parts.flyte_eval,
        machine=parts.machine,
        generation=parts.data_generation,
    )
    suite = build_suite(
        heldout=corpus.heldout,
        train=corpus.train,
        items=items,
        evaluation=parts.evaluation,
        documents=parts.documents,
        leak_words=parts.leak_words,
        validation_share=parts.validation_share,
        generation=parts.data_generation,
    )

    # measure the published model, if there is one, and the base
    published = pin_published(evaluation=parts.evaluation)
    prepare_one = functools.partial(prepare_published, window=parts.window, generation=parts.data_generation)
    prepared = map_task(prepare_one)(pinned=published)
    published_parts, published_scores = score_models(prepared, suite, items, parts)
    base_parts, base_scores = score_models([base], suite, items, parts)

    # fine-tune, and measure the result
    train = fine_tune if SETTINGS.nodes == 1 else fine_tune_on_nodes
    tuned = train(
        base=base,
        rows=rows,
        heldout=corpus.heldout,
        training=parts.training,
        generation=parts.training_generation,
        configuration=parts.configuration,
    )
    tuned_parts, tuned_scores = score_models([tuned.model], suite, items, parts, made_by="training")

    # report, and publish if the model is better
    reported = report(
        config=parts.config,
        base_scores=base_scores,
        published_scores=published_scores,
        tuned_scores=tuned_scores,
        base=model,
        published=published,
        card=corpus.card,
        training=tuned.summary,
        model=tuned.model,
        heldout=corpus.heldout,
        results=[
            *(documents, suite, prepared, published_parts, published_scores),
            *(base_parts, base_scores, tuned_parts, tuned_scores),
            [corpus.train, corpus.heldout, base, rows, items, tuned.model],
        ],
        started=parts.started,
    )
    gate = publish(model=tuned.model, report=reported.report, publish=parts.publish, evaluation=parts.evaluation)
    return TrainingResult(
        tuned.model,
        reported.report,
        reported.page,
        reported.card,
        reported.dataset_card,
        verdict=gate.verdict,
        published=gate.url,
    )


@workflow(on_failure=report_failure)
def tune_batch_size(config: ExperimentConfig) -> BatchTrial:
    """The fastest `training.micro_batch_size` that fits the GPUs. Tries each size that the plan does not rule out."""
    parts, _, _, _, base, rows = prepare(config)
    candidates = batch_sizes(training=parts.training, base=base)
    trial = functools.partial(try_batch_size, base=base, rows=rows)
    return choose_batch_size(trials=map_task(trial, concurrency=SETTINGS.trial_concurrency)(training=candidates))


@workflow(on_failure=report_sweep_failure)
def sweep(config: ExperimentConfig, learning_rates: list[float], ranks: list[int]) -> list[SweepTrial]:
    """Train one run for each pair of learning rate and rank, and return them by validation loss, lowest first.

    The validation part is split off the train repositories, 5 % of their files unless the configuration says more or
    less. So the held-out repositories choose nothing.
    """
    parts, _, _, _, base, rows = prepare(config, validate=True)
    points = sweep_configs(training=parts.training, learning_rates=learning_rates, ranks=ranks)
    trial = functools.partial(try_point, base=base, rows=rows)
    return choose_point(trials=map_task(trial, concurrency=SETTINGS.trial_concurrency)(training=points))


@workflow(on_failure=report_completion_failure)
def complete_prompts(prompts: FlyteDirectory, model: FlyteDirectory, options: PromptsConfig = GREEDY) -> FlyteDirectory:
    """Let a model complete a folder of prompts on pods with one GPU, `options.shards` of them.

    Args:
        prompts: A folder with files of JSON lines, `*.jsonl`: each line has `prefix`, perhaps `suffix` and `id`.
        model: The `model` of a training run, a folder in the hub's format, or a hub model as
            `hf://OWNER/NAME@REVISION`; the revision may be left out.

    Returns:
        A folder with the same files, whose lines also have `completion` and how it was made.
    """
    read = read_prompts(prompts=prompts, options=options)
    ready = prepare_completing(model=model)
    complete = functools.partial(complete_shard, model=ready, options=read.options, generation=read.generation)
    return collect_completions(parts=map_task(complete)(shard=read.shards), model=ready)


read_config_option()
count_settings()
for each in (train_flyte_llama, tune_batch_size, sweep, complete_prompts):
    sort_upstream_nodes(each)
