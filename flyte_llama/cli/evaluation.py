"""The command `flyte-llama evaluate`: a model of anybody's measured as the workflow measures, without Flyte."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from flyte_llama.config import ExperimentConfig, ModelConfig
from flyte_llama.corpus import CorpusCard, build_corpus
from flyte_llama.documents import collect, write_documents
from flyte_llama.errors import DataError, ModelError
from flyte_llama.measuring import join, make_items, make_suite, measure
from flyte_llama.model import PinnedModel, pin_model, prepare_base
from flyte_llama.progress import say
from flyte_llama.report import EvaluationReport, Measured, markdown, page, summarise
from flyte_llama.sources import first_commits, open_tree, pin

MARK = ".flyte-llama-evaluation"


def evaluated(
    config: ExperimentConfig, model: str, *, base: str | None, heldout: Path | None, train: Path | None, out: Path
) -> EvaluationReport:
    """Measure, and write `report.html`, `report.json` and `report.md` to `out`, what was measured beside them.

    What an earlier call wrote to `out` stays until all is measured, and is then replaced.

    Args:
        model: A folder in the hub's format, or a hub id; with `@` and a revision behind it if that is not `main`.
        base: Another one that it is compared with; so is `evaluation.published`, if there is one.
        heldout: The held-out folder of an earlier run; None reads the configuration's sources.
        train: The train folder of that run, for the memorisation probe.
    """
    out, evaluation = out.expanduser().resolve(), config.evaluation
    names = {"base": base, "published": evaluation.published, "evaluated": model}
    _check(out, [*names.values(), heldout, train])
    work = _emptied(out.with_name(f"{out.name}.part"))
    pinned = {name: _pinned(given) for name, given in names.items() if given is not None}
    for name, identity in pinned.items():
        own, folder = ModelConfig(name=identity.name), work / name / "prepared"
        prepare_base(identity, own, [], longest_input=evaluation.window, folder=folder, is_trained=False)
    card = None
    if heldout is None:
        heldout, train, card = _corpus(config, work / "corpus")
    shards = [work / "suite" / f"{number:02}" for number in range(evaluation.shards)]
    items = work / "items"
    make_items(heldout, evaluation.flyte_eval, out=items)
    make_suite(heldout, train, items, evaluation, config.corpus.documents, shards=shards)
    # The model in question first: if it is broken, no time goes to the others.
    for name, identity in reversed(pinned.items()):
        say(f"measuring {name}: {identity.name}{' at ' + identity.revision[:12] if identity.revision else ''}")
        _measured(work / name, shards, items, config)
    measured = [Measured(name, identity, work / name / "measured") for name, identity in pinned.items()]
    report = summarise(measured, corpus=card, training=None)
    forms = {"html": page(report), "json": report.model_dump_json(indent=2), "md": markdown(report)}
    for ending, text in forms.items():
        (work / f"report.{ending}").write_text(text, encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    work.rename(out)
    return report


def _check(out: Path, inputs: Sequence[str | Path | None]) -> None:
    """Raises DataError if `out` holds what is not ours to replace."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file. Give a folder as --output.")
    if out.exists() and any(out.iterdir()) and not (out / MARK).is_file():
        raise DataError(f"{out}: is not empty, and no evaluation wrote it. Give another --output.")
    for given in inputs:
        if given is not None and Path(given).expanduser().resolve().is_relative_to(out):
            raise DataError(f"{given}: lies in {out}, which is written anew. Move it, or give another --output.")


def _emptied(work: Path) -> Path:
    try:
        if (work / MARK).is_file():
            shutil.rmtree(work)
        work.mkdir(parents=True)
        (work / MARK).touch()
    except OSError as error:
        raise DataError(f"{work}: cannot be made ({error.strerror}). Give another --output.") from None
    return work


def _measured(folder: Path, shards: Sequence[Path], items: Path, config: ExperimentConfig) -> None:
    """Of a folder that holds `prepared`, everything about that model, as its folder `measured`."""
    parts = [folder / "shards" / shard.name for shard in shards]
    prepared, precision = folder / "prepared", config.training.precision
    for shard, part in zip(shards, parts, strict=True):
        measure(prepared, shard, config.evaluation, objective=config.objective, precision=precision, out=part)
    join(parts, items, out=folder / "measured")


def _pinned(given: str) -> PinnedModel:
    if not given:
        raise ModelError("a model's name is empty. Give a folder or a hub id.")
    if Path(given).expanduser().exists():
        return pin_model(ModelConfig(name=str(Path(given).expanduser().resolve())))
    name, _, revision = given.partition("@")
    if revision and Path(name).expanduser().exists():
        raise ModelError(f"{given}: a folder has no revisions. Leave @{revision} out.")
    return pin_model(ModelConfig(name=name, revision=revision or None))


def _corpus(config: ExperimentConfig, folder: Path) -> tuple[Path, Path, CorpusCard]:
    """The held-out and the train folder of the configuration's sources as they are now, and the card of both."""
    corpus, released = config.corpus, config.model.released
    folders, urls = [], []
    for number, source in enumerate([*corpus.train_sources, *corpus.heldout]):
        pinned = pin(source)
        is_held_out = number >= len(corpus.train_sources)
        dates = first_commits(pinned) if released and is_held_out else {}
        with open_tree(pinned) as tree:
            collected = collect(pinned, tree, corpus.documents, first_commits=dates)
        folders.append(folder / f"documents-{number:03}")
        write_documents(folders[-1], collected.documents, source=collected.count.model_dump())
        urls += [pinned.url] if is_held_out else []
    heldout, train = folder / "heldout", folder / "train"
    day = date.fromisoformat(released) if released else None
    card = build_corpus(folders, urls, corpus, released=day, train=train, heldout=heldout)
    return heldout, train, card
