"""Folders of what was measured, one a model → the typed report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flyte_llama.completion import read_completions
from flyte_llama.corpus import CorpusCard
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation import (
    GENERAL,
    HELDOUT,
    compare,
    histogram,
    matched,
    positions,
    probe,
    read_scores,
)
from flyte_llama.flyte_eval import read_grades
from flyte_llama.model import PinnedModel
from flyte_llama.report.samples import completion_samples, grade_samples
from flyte_llama.report.summary import EvaluationReport, Protocol, ReportedModel
from flyte_llama.report.written import summarise_completions, summarise_grades
from flyte_llama.training import TrainingSummary

MOST_MODELS = 3


class Measured(NamedTuple):
    """A model and what was measured of it."""

    name: str
    """As the report is to call it."""

    identity: PinnedModel
    folder: Path
    """Holds the sealed folders scores, and, where they were made, completions and grades."""


def summarise(
    models: Sequence[Measured], *, corpus: CorpusCard | None, training: TrainingSummary | None
) -> EvaluationReport:
    """The report of one to three models, the references first, the base before all.

    Raises:
        DataError: if a folder is damaged.
        EvaluationError: if the models were not measured alike on the same documents.
    """
    names = [model.name for model in models]
    if not 1 <= len(set(names)) == len(names) <= MOST_MODELS:
        raise EvaluationError(f"a report is of one to {MOST_MODELS} models of different names, not of {names}.")
    read = {model.name: read_scores(model.folder / "scores") for model in models}
    protocols = {name: _protocol(manifest) for name, (_, manifest) in read.items()}
    first, *others = names
    for name in others:
        if protocols[name] != protocols[first]:
            raise EvaluationError(
                f"{first} and {name} were measured differently: {protocols[first]} and {protocols[name]}. "
                "Measure both anew, alike."
            )
    scores = matched({name: own for name, (own, _) in read.items()})
    compared = compare(scores)
    if compared is None:
        raise EvaluationError("no held-out document was measured. Hold out a source that has some.")
    heldout = {name: [score for score in own if score.role == HELDOUT] for name, own in scores.items()}
    completions = {name: read_completions(folder) for name, folder in _folders(models, "completions").items()}
    grades = {name: read_grades(folder) for name, folder in _folders(models, "grades").items()}
    return EvaluationReport(
        models=[
            ReportedModel(
                name=model.name,
                identity=model.identity,
                tokenizer_sha256=read[model.name][1]["tokenizer_sha256"],
                start=read[model.name][1]["start"],
            )
            for model in models
        ],
        protocol=protocols[first],
        heldout=compared,
        general=compare(scores, role=GENERAL),
        memorisation=probe(scores),
        positions=positions(heldout),
        histogram=histogram(heldout),
        completions=summarise_completions(completions),
        flyte_eval=summarise_grades(grades),
        samples=completion_samples(completions) + grade_samples(grades),
        corpus=corpus,
        training=training,
    )


def _protocol(manifest: dict[str, Any]) -> Protocol:
    return Protocol(**{name: manifest[name] for name in Protocol.model_fields})


def _folders(models: Sequence[Measured], name: str) -> dict[str, Path]:
    """Model → its folder of that name, of the models that have it."""
    return {model.name: model.folder / name for model in models if (model.folder / name).is_dir()}
