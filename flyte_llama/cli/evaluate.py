"""The command `flyte-llama evaluate`: measures any model as the workflow does, without Flyte.

It calls the same functions as the tasks, one after the other on this machine. A second call reads the sources and
measures the models again; only FlyteEval's items are cached, in the output folder of local runs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from flyte_llama.config import CorpusConfig, EvaluationConfig, ExperimentConfig, ModelConfig
from flyte_llama.config.model import names_folder
from flyte_llama.corpus import CorpusCard, build_corpus, pin_sources, read_parts
from flyte_llama.documents import write_source
from flyte_llama.errors import DataError, ModelError
from flyte_llama.evaluation.measure import join_parts, make_items, make_suite, measure_model
from flyte_llama.model import PinnedModel, pin_model, prepare_base
from flyte_llama.model.checks import model_folder_problems
from flyte_llama.preflight import evaluation_problems, source_problems
from flyte_llama.progress import say
from flyte_llama.report import (
    EvaluationReport,
    MeasuredModel,
    collect_versions,
    make_report,
    record_provenance,
    write_files,
)
from flyte_llama.settings import read_settings
from flyte_llama.storage import verify

MARKER_FILE = ".flyte-llama-evaluation"
"""An empty file in each folder that this command made, and so may replace."""


def run_evaluation(
    config: ExperimentConfig, model: str, *, base: str | None, heldout: Path | None, train: Path | None, out: Path
) -> EvaluationReport:
    """Measure a model, and write the report, its configuration and all measurements to `out`.

    The results of an earlier call stay in `out` until everything is measured, and are then replaced.

    Args:
        model: A folder in the hub's format, or a hub id, followed by `@` and a revision if that is not `main`.
        base: Another model to compare it with. It is also compared with `evaluation.published`, if that is set.
        heldout: The held-out folder of an earlier run; None reads the configuration's sources.
        train: The train folder of that run, to measure what the model memorised and forgot.
    """
    out, published = _expand(out).resolve(), config.evaluation.published_model
    names = {"base": base, "published": published, "evaluated": model}
    _check_output(out, [*names.values(), heldout, train])
    work = _make_empty(out.with_name(f"{out.name}.part"))
    try:
        report = _evaluate_into(work, names, config, heldout=heldout, train=train)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    if out.exists():
        shutil.rmtree(out)
    work.rename(out)
    return report


def input_problems(
    stages: Mapping[str, Any],
    *,
    model: str,
    base: str | None,
    heldout: Path | None,
    train: Path | None,
    out: Path,
) -> list[str]:
    """Return one line for each problem of the inputs that can be known before any work, as `preflight` does."""
    corpus: CorpusConfig | None = stages.get("corpus")
    evaluation: EvaluationConfig | None = stages.get("evaluation")
    lengths = {"evaluation.window": evaluation.window} if evaluation else {}
    problems = []
    for option, name in (("--model", model), ("--base", base)):
        if name and (_exists(name) or names_folder(name)):
            # A folder's name may contain an @; otherwise the folder is what stands before it.
            folder = name if _exists(name) else name.partition("@")[0]
            problems += model_folder_problems(folder, lengths, name=f"{option} {name}", for_training=False)
    for option, documents in (("--heldout", heldout), ("--train", train)):
        try:
            if documents is not None:
                verify(_expand(documents))
        except DataError as error:
            problems.append(f"{option} {documents}: is not the folder of an earlier run, or damaged. {error.message}")
    if corpus and heldout is None:
        problems += source_problems(corpus)
    if evaluation:
        problems += evaluation_problems(evaluation, corpus)
    try:
        _check_output(_expand(out).resolve(), [model, base, heldout, train])
    except DataError as error:
        problems.append(error.message)
    return problems


def _evaluate_into(
    work: Path, names: Mapping[str, str | None], config: ExperimentConfig, *, heldout: Path | None, train: Path | None
) -> EvaluationReport:
    """Measure the models, and write the report and all measurements to the empty folder `work`."""
    evaluation = config.evaluation
    cache = read_settings().output_folder / "cache" / "flyte-eval"

    # pin and prepare the models
    pinned = {name: _pin(argument) for name, argument in names.items() if argument is not None}
    for name, identity in pinned.items():
        model_config, folder = ModelConfig(name=identity.name), work / name / "prepared"
        prepare_base(identity, model_config, [], longest_input=evaluation.window, folder=folder, for_training=False)

    # build the corpus and choose what to measure
    card = None
    if heldout is None:
        heldout, train, card = _build_corpus(config, work / "corpus")
    shards = [work / "suite" / f"{index:02}" for index in range(evaluation.shards)]
    items = work / "items"
    make_items(heldout, evaluation.flyte_eval, out=items, cache=cache)
    make_suite(
        heldout,
        train,
        items,
        evaluation,
        config.corpus.documents,
        leak_words=config.corpus.leakage.num_words,
        validation_share=config.training.validation_share,
        shards=shards,
    )

    # Measure `model` before the others: if it is broken, no time is spent on them.
    for name, identity in reversed(pinned.items()):
        say(f"measuring {name}: {identity.name}{' at ' + identity.revision[:12] if identity.revision else ''}")
        _measure_all_shards(work / name, shards, items, config)

    # write the report, then put the finished folder in place
    measured = [MeasuredModel(name, identity, work / name / "measured") for name, identity in pinned.items()]
    report = make_report(measured, corpus=card, training=None)
    facts = {"parts": read_parts(heldout), "provenance": record_provenance(config, None, collect_versions())}
    report = report.model_copy(update=facts)
    write_files(work, report, config)
    return report


def _check_output(out: Path, inputs: Sequence[str | Path | None]) -> None:
    """Raise DataError if `out` contains files that this command did not write, or one of its inputs."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file. Give a folder as --output.")
    if out.exists() and any(out.iterdir()) and not (out / MARKER_FILE).is_file():
        raise DataError(f"{out}: is not empty, and no evaluation wrote it. Give another --output.")
    for path in inputs:
        if path is not None and _expand(path).resolve().is_relative_to(out):
            raise DataError(f"{path}: is inside {out}, which is replaced. Move it, or give another --output.")


def _make_empty(work: Path) -> Path:
    """Make the folder, and first delete one that an interrupted call left."""
    try:
        if (work / MARKER_FILE).is_file():
            shutil.rmtree(work)
        work.mkdir(parents=True)
        (work / MARKER_FILE).touch()
    except OSError as error:
        raise DataError(f"{work}: cannot be created ({error.strerror}). Give another --output.") from None
    return work


def _measure_all_shards(folder: Path, shards: Sequence[Path], items: Path, config: ExperimentConfig) -> None:
    """Measure the model in `folder / "prepared"` on every shard, and write the results to `folder / "measured"`."""
    parts = [folder / "shards" / shard.name for shard in shards]
    prepared, precision = folder / "prepared", config.training.precision
    for shard, part in zip(shards, parts, strict=True):
        measure_model(prepared, shard, config.evaluation, objective=config.objective, precision=precision, out=part)
    join_parts(parts, items, out=folder / "measured")


def _pin(model: str) -> PinnedModel:
    """Pin a model named by a folder, a hub id, or `id@revision`."""
    if not model:
        raise ModelError("a model's name is empty. Give a folder or a hub id.")
    # A folder may have an @ in its name, so look for the folder first.
    if _exists(model):
        return pin_model(ModelConfig(name=str(_expand(model).resolve())))
    name, _, revision = model.partition("@")
    if revision and _exists(name):
        raise ModelError(f"{model}: a folder has no revisions. Leave @{revision} out.")
    return pin_model(ModelConfig(name=name, revision=revision or None))


def _expand(path: str | Path) -> Path:
    """Return the path with the home of a user in place of `~`, if there is such a user."""
    return Path(os.path.expanduser(path))


def _exists(path: str) -> bool:
    return os.path.exists(_expand(path))


def _build_corpus(config: ExperimentConfig, folder: Path) -> tuple[Path, Path, CorpusCard]:
    """Read the sources as they are now; return the held-out folder, the train folder and the card of both."""
    corpus, released = config.corpus, config.model.released
    sources = pin_sources(corpus, released=released)
    folders = [folder / f"documents-{index:03}" for index in range(len(sources))]
    for source, source_folder in zip(sources, folders, strict=True):
        write_source(source, corpus.documents, source_folder)
    num_train = len(corpus.train_sources)
    heldout, train = folder / "heldout", folder / "train"
    release_date = date.fromisoformat(released) if released else None
    card = build_corpus(
        folders[:num_train], folders[num_train:], corpus, released=release_date, train=train, heldout=heldout
    )
    return heldout, train, card
