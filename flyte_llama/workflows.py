"""The workflows: `train_flyte_llama` and its launch plans, `tune_batch_size` and `sweep`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
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
from flyte_llama.errors import ConfigError
from flyte_llama.model import PinnedModel
from flyte_llama.progress import say
from flyte_llama.report import EvaluationReport
from flyte_llama.tasks.cache import MadeBy
from flyte_llama.tasks.config_option import read_config_option
from flyte_llama.tasks.data import Corpus, build_corpus, encode, pin_model, pin_sources, prepare_base, read_source
from flyte_llama.tasks.reporting import publish, report
from flyte_llama.tasks.resources import SETTINGS
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


class TrainingResult(NamedTuple):
    model: FlyteDirectory
    report: EvaluationReport
    page: FlyteFile
    card: FlyteFile
    dataset_card: FlyteFile
    published: str


class PreparedRun(NamedTuple):
    """The inputs of training and evaluation. While Flyte compiles a workflow, these are promises."""

    parts: RunParts
    model: PinnedModel
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
    corpus = build_corpus(
        sources=sources, documents=documents, corpus=parts.corpus, released=parts.released, generation=generation
    )
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
    return PreparedRun(parts, model, corpus, base, rows)


def score_models(
    models: list[FlyteDirectory],
    suite: list[FlyteDirectory],
    items: FlyteDirectory,
    parts: RunParts,
    *,
    made_by: MadeBy = "data",
) -> list[FlyteDirectory]:
    """Add the nodes that measure a model (or none) on every shard of the suite and join the results."""
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
    joined: list[FlyteDirectory] = join_shards(parts=measured, items=items, generation=parts.scoring_generation)
    return joined


@workflow
def train_flyte_llama(config: ExperimentConfig) -> TrainingResult:
    """Fine-tune a code model on some repositories, and measure on others how much it improved.

    Everything after the two pins is cached by content, so a run on unchanged sources takes seconds.
    """
    # sources → corpus → packed rows, and the suite to measure on
    parts, model, corpus, base, rows = prepare(config)
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
    published_scores = score_models(map_task(prepare_one)(pinned=published), suite, items, parts)
    base_scores = score_models([base], suite, items, parts)

    # fine-tune, and measure the result
    train = fine_tune if SETTINGS.nodes == 1 else fine_tune_on_nodes
    tuned = train(
        base=base,
        rows=rows,
        heldout=corpus.heldout,
        training=parts.training,
        generation=parts.training_generation,
    )
    tuned_scores = score_models([tuned.model], suite, items, parts, made_by="training")

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
    )
    url = publish(model=tuned.model, report=reported.report, publish=parts.publish, evaluation=parts.evaluation)
    return TrainingResult(tuned.model, reported.report, reported.page, reported.card, reported.dataset_card, url)


@workflow
def tune_batch_size(config: ExperimentConfig) -> BatchTrial:
    """The fastest `training.micro_batch_size` that fits the GPUs. Tries each size that the plan does not rule out."""
    parts, _, _, base, rows = prepare(config)
    candidates = batch_sizes(training=parts.training, base=base)
    trial = functools.partial(try_batch_size, base=base, rows=rows)
    return choose_batch_size(trials=map_task(trial, concurrency=1)(training=candidates))


@workflow
def sweep(config: ExperimentConfig, learning_rates: list[float], ranks: list[int]) -> list[SweepTrial]:
    """Train one run for each pair of learning rate and rank, and return them by validation loss, lowest first.

    The validation part is split off the train repositories, 5 % of their files unless the configuration says more or
    less. So the held-out repositories choose nothing.
    """
    parts, _, _, base, rows = prepare(config, validate=True)
    points = sweep_configs(training=parts.training, learning_rates=learning_rates, ranks=ranks)
    trial = functools.partial(try_point, base=base, rows=rows)
    return choose_point(trials=map_task(trial)(training=points))


def shipped_configs() -> dict[str, Path]:
    """Name → file of the configurations in the installed package or, in a checkout, in configs/."""
    package = Path(__file__).resolve().parent
    folder = package / "configs" if (package / "configs").is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_usable(files: Mapping[str, Path]) -> dict[str, ExperimentConfig]:
    """Name → configuration of each file. One that cannot be used is named on standard error, and left out."""
    configs = {}
    for name, path in files.items():
        try:
            if name == WEEKLY_REFRESH or name.startswith("workflows."):
                raise ConfigError(f"{path}: another launch plan is called flyte_llama.{name}. Rename the file.")
            configs[name] = load_config(path)
        except ConfigError as error:
            num_more = len(error.problems) - 1
            reason = f"{path}: {error.problems[0]}" if error.problems else error.message
            more = f" ({num_more} more problem{'s' if num_more > 1 else ''})" if num_more > 0 else ""
            say(f"no launch plan flyte_llama.{name}: {reason}{more}")
    return configs


def make_weekly_refresh(config: ExperimentConfig | None) -> LaunchPlan | None:
    """Return the scheduled launch plan; None, and a line on standard error, without its configuration."""
    if config is None:
        say(f"no launch plan flyte_llama.{WEEKLY_REFRESH}: it uses configs/{REFRESHED}.yaml, which cannot be used.")
        return None
    return LaunchPlan.get_or_create(
        train_flyte_llama,
        name=f"flyte_llama.{WEEKLY_REFRESH}",
        default_inputs={"config": config},
        schedule=CronSchedule(schedule=SETTINGS.schedule),
        # A run may take longer than a week; the next scheduled run is then skipped.
        concurrency=ConcurrencyPolicy(max_concurrency=1, behavior=ConcurrencyLimitBehavior.SKIP),
        auto_activate=SETTINGS.activate_schedule,
    )


WEEKLY_REFRESH, REFRESHED = "weekly_refresh", "code_llama_7b_lora"
read_config_option()
SHIPPED = load_usable(shipped_configs())

launch_plans = {
    name: LaunchPlan.get_or_create(train_flyte_llama, name=f"flyte_llama.{name}", default_inputs={"config": config})
    for name, config in SHIPPED.items()
}
weekly_refresh = make_weekly_refresh(SHIPPED.get(REFRESHED))
