"""`train_flyte_llama`: the tasks wired into the line, and the launch plans that start it."""

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
from flyte_llama.report import EvaluationReport
from flyte_llama.tasks.data import build_corpus, encode, pin_model, pin_sources, prepare_base, read_source
from flyte_llama.tasks.reporting import publish, report
from flyte_llama.tasks.resources import SETTINGS
from flyte_llama.tasks.scoring import evaluate
from flyte_llama.tasks.training import fine_tune


class Trained(NamedTuple):
    model: FlyteDirectory
    report: EvaluationReport
    page: FlyteFile
    card: FlyteFile
    dataset_card: FlyteFile
    published: str


@workflow
def train_flyte_llama(config: ExperimentConfig) -> Trained:
    """Fine-tune a code model on repositories, and measure on others how much better it got.

    Everything after the two pins is cached by content: on unchanged sources a run costs seconds.
    """
    sources = pin_sources(corpus=config.corpus, released=config.model.released)
    pinned_model = pin_model(model=config.model)
    read = functools.partial(read_source, documents=config.corpus.documents)
    documents = map_task(read)(source=sources)
    corpus = build_corpus(sources=sources, documents=documents, corpus=config.corpus, released=config.model.released)
    base = prepare_base(
        pinned=pinned_model,
        model=config.model,
        train=corpus.train,
        seq_len=config.training.seq_len,
        window=config.evaluation.window,
    )
    # An attribute of an input is written out at each use: flytekit's local runs resolve such a promise only once.
    base_scores = evaluate(
        model=base, heldout=corpus.heldout, evaluation=config.evaluation, precision=config.training.precision
    )
    rows = encode(
        train=corpus.train,
        base=base,
        composition=config.composition,
        objective=config.objective,
        seq_len=config.training.seq_len,
        min_rows=config.training.global_batch_size,
    )
    tuned = fine_tune(base=base, rows=rows, training=config.training)
    tuned_scores = evaluate(
        model=tuned.model, heldout=corpus.heldout, evaluation=config.evaluation, precision=config.training.precision
    )
    made = report(
        base_scores=base_scores,
        tuned_scores=tuned_scores,
        base=pinned_model,
        card=corpus.card,
        training=tuned.summary,
        model=tuned.model,
        heldout=corpus.heldout,
    )
    published = publish(model=tuned.model, report=made.report, publish=config.publish)
    return Trained(tuned.model, made.report, made.page, made.card, made.dataset_card, published)


def shipped_configs() -> dict[str, Path]:
    """Name → file of the configurations that come with the package; of a checkout, those of its configs/."""
    here = Path(__file__).resolve().parent
    folder = here / "configs" if (here / "configs").is_dir() else here.parent / "configs"
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
    # A run may take longer than a week; the next one then waits for the schedule after.
    concurrency=ConcurrencyPolicy(max_concurrency=1, behavior=ConcurrencyLimitBehavior.SKIP),
    auto_activate=SETTINGS.activate_schedule,
)
