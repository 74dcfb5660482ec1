"""The workflows: `train_flyte_llama` and its launch plans, `tune_batch_size` and `sweep`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from flytekit import (
    ConcurrencyLimitBehavior,
    ConcurrencyPolicy,
    CronSchedule,
    FlyteDirectory,
    FlyteFile,
    LaunchPlan,
    map_task,
    workflow,
)

from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.evaluation.sweep import SweepTrial
from flyte_llama.model import PinnedModel
from flyte_llama.report import EvaluationReport
from flyte_llama.tasks.data import Corpus, build_corpus, encode, pin_model, pin_sources, prepare_base, read_source
from flyte_llama.tasks.reporting import publish, report
from flyte_llama.tasks.resources import SETTINGS
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
from flyte_llama.training.trials import BatchTrial


class TrainingResult(NamedTuple):
    model: FlyteDirectory
    report: EvaluationReport
    page: FlyteFile
    card: FlyteFile
    dataset_card: FlyteFile
    published: str


class PreparedRun(NamedTuple):
    """The inputs of training and evaluation. While Flyte compiles a workflow, these are promises."""

    model: PinnedModel
    corpus: Corpus
    base: FlyteDirectory
    rows: FlyteDirectory


def prepare(config: ExperimentConfig) -> PreparedRun:
    """Add the nodes that make packed rows from the configuration. Call it inside a workflow."""
    sources = pin_sources(corpus=config.corpus, released=config.model.released)
    model = pin_model(model=config.model)
    read = functools.partial(read_source, documents=config.corpus.documents)
    documents = map_task(read)(source=sources)
    corpus = build_corpus(sources=sources, documents=documents, corpus=config.corpus, released=config.model.released)
    # `config.x` is repeated at each use: flytekit's local runs can resolve the promise of an attribute only once.
    base = prepare_base(
        pinned=model,
        model=config.model,
        objective=config.objective,
        train=corpus.train,
        seq_len=config.training.seq_len,
        window=config.evaluation.window,
    )
    rows = encode(
        train=corpus.train,
        base=base,
        composition=config.composition,
        objective=config.objective,
        seq_len=config.training.seq_len,
        epochs=config.training.epochs,
        max_steps=config.training.max_steps,
        global_batch_size=config.training.global_batch_size,
    )
    return PreparedRun(model, corpus, base, rows)


def score_models(
    models: list[FlyteDirectory], suite: list[FlyteDirectory], items: FlyteDirectory, config: ExperimentConfig
) -> list[FlyteDirectory]:
    """Add the nodes that measure a model (or none) on every shard of the suite and join the results."""
    pairs = pair(models=models, shards=suite)
    on_a_shard = functools.partial(
        evaluate,
        evaluation=config.evaluation,
        objective=config.objective,
        precision=config.training.precision,
    )
    joined: list[FlyteDirectory] = join_shards(
        parts=map_task(on_a_shard)(model=pairs.models, shard=pairs.shards), items=items
    )
    return joined


@workflow
def train_flyte_llama(config: ExperimentConfig) -> TrainingResult:
    """Fine-tune a code model on some repositories, and measure on others how much it improved.

    Everything after the two pins is cached by content, so a run on unchanged sources takes seconds.
    """
    # sources → corpus → packed rows, and the suite to measure on
    model, corpus, base, rows = prepare(config)
    items = mine_flyte_eval(heldout=corpus.heldout, flyte_eval=config.evaluation.flyte_eval)
    suite = build_suite(
        heldout=corpus.heldout,
        train=corpus.train,
        items=items,
        evaluation=config.evaluation,
        documents=config.corpus.documents,
    )

    # measure the published model, if there is one, and the base
    published = pin_published(evaluation=config.evaluation)
    prepare_one = functools.partial(prepare_published, window=config.evaluation.window)
    published_scores = score_models(map_task(prepare_one)(pinned=published), suite, items, config)
    base_scores = score_models([base], suite, items, config)

    # fine-tune, and measure the result
    train = fine_tune if SETTINGS.nodes == 1 else fine_tune_on_nodes
    tuned = train(base=base, rows=rows, heldout=corpus.heldout, training=config.training)
    tuned_scores = score_models([tuned.model], suite, items, config)

    # report, and publish if the model is better
    reported = report(
        base_scores=base_scores,
        published_scores=published_scores,
        tuned_scores=tuned_scores,
        base=model,
        published=published,
        card=corpus.card,
        training=tuned.summary,
        model=tuned.model,
        heldout=corpus.heldout,
    )
    url = publish(model=tuned.model, report=reported.report, publish=config.publish)
    return TrainingResult(tuned.model, reported.report, reported.page, reported.card, reported.dataset_card, url)


@workflow
def tune_batch_size(config: ExperimentConfig) -> BatchTrial:
    """The largest `training.micro_batch_size` that fits the GPUs. Tries each size that the plan does not rule out."""
    _, _, base, rows = prepare(config)
    candidates = batch_sizes(training=config.training, base=base)
    trial = functools.partial(try_batch_size, base=base, rows=rows)
    return choose_batch_size(trials=map_task(trial, concurrency=1)(training=candidates))


@workflow
def sweep(config: ExperimentConfig, learning_rates: list[float], ranks: list[int]) -> list[SweepTrial]:
    """Train and measure one run for each pair of learning rate and rank; best first.

    Runs are compared on the held-out text, so the best run's figure is slightly optimistic: measure the final model on
    repositories that the sweep did not use.
    """
    _, corpus, base, rows = prepare(config)
    points = sweep_configs(training=config.training, learning_rates=learning_rates, ranks=ranks)
    trial = functools.partial(
        try_point,
        base=base,
        rows=rows,
        heldout=corpus.heldout,
        objective=config.objective,
        evaluation=config.evaluation,
    )
    return choose_point(trials=map_task(trial)(training=points))


def shipped_configs() -> dict[str, Path]:
    """Name → file of the configurations in the installed package or, in a checkout, in configs/."""
    package = Path(__file__).resolve().parent
    folder = package / "configs" if (package / "configs").is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


SHIPPED = {name: load_config(path) for name, path in shipped_configs().items()}

launch_plans = {
    name: LaunchPlan.get_or_create(train_flyte_llama, name=f"flyte_llama.{name}", default_inputs={"config": config})
    for name, config in SHIPPED.items()
}

weekly_refresh = LaunchPlan.get_or_create(
    train_flyte_llama,
    name="flyte_llama.weekly_refresh",
    default_inputs={"config": SHIPPED["code_llama_7b_lora"]},
    schedule=CronSchedule(schedule=SETTINGS.schedule),
    # A run may take longer than a week; the next scheduled run is then skipped.
    concurrency=ConcurrencyPolicy(max_concurrency=1, behavior=ConcurrencyLimitBehavior.SKIP),
    auto_activate=SETTINGS.activate_schedule,
)
