"""Measurements of one to three models → the report.

    base/        scores, completions, grades ┐
    published/   scores, completions, grades ├─ make_report → EvaluationReport
    fine-tuned/  scores, completions, grades ┘

`evaluation.measure.join_parts` writes the folders, one per model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flyte_llama.corpus import CorpusCard
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation import (
    GENERAL,
    HELDOUT,
    align_scores,
    compare,
    find_comparable,
    measure_memorisation,
    measured_model,
    read_scores,
    repository_names,
)
from flyte_llama.evaluation.completion import read_completions
from flyte_llama.flyte_eval import read_grades
from flyte_llama.model import PinnedModel
from flyte_llama.report.ladder import find_levels
from flyte_llama.report.pairs import compare_completions, compare_grades, match_completions, match_grades
from flyte_llama.report.plots import make_histogram, sum_by_position
from flyte_llama.report.report import EvaluationReport, Protocol, ReportedModel
from flyte_llama.report.samples import choose_completion_samples, choose_grade_samples
from flyte_llama.report.writing import summarise_completions, summarise_grades
from flyte_llama.storage import verify
from flyte_llama.training import TrainingSummary

MAX_MODELS = 3


class MeasuredModel(NamedTuple):
    """A model and the folder of its measurements."""

    name: str
    """The name that the report gives it."""

    identity: PinnedModel
    folder: Path
    """Holds the sealed folders `scores` and, if they were measured, `completions` and `grades`."""


def make_report(
    models: Sequence[MeasuredModel], *, corpus: CorpusCard | None, training: TrainingSummary | None
) -> EvaluationReport:
    """Return the report of one to three models, in the order base, published model, model that the report is about.

    Raises:
        DataError: if a folder is damaged.
        EvaluationError: if the scores are of another model than the one they are given for, or the models were not
            measured in the same way on the same documents.
    """
    # read the scores, and refuse models that cannot be compared
    names = [model.name for model in models]
    if not 1 <= len(set(names)) == len(names) <= MAX_MODELS:
        raise EvaluationError(f"a report needs one to {MAX_MODELS} models with different names, not {names}.")
    read = {model.name: read_scores(model.folder / "scores") for model in models}
    for model in models:
        identity = measured_model(model.folder / "scores", read[model.name][1])
        if identity != model.identity.identity:
            raise EvaluationError(
                f"{model.folder / 'scores'}: are scores of {identity}, not of {model.name}, which is "
                f"{model.identity.identity}. Measure {model.name} again."
            )
    protocols = {name: _protocol(manifest) for name, (_, manifest) in read.items()}
    first, *others = names
    for name in others:
        if protocols[name] != protocols[first]:
            raise EvaluationError(
                f"{first} and {name} were measured differently: {protocols[first]} and {protocols[name]}. "
                "Measure both again with the same settings."
            )

    # compare the models document by document
    scores = align_scores({name: model_scores for name, (model_scores, _) in read.items()})
    compared = compare(scores)
    if compared is None:
        raise EvaluationError("no held-out document was measured. Hold out a source that contains documents.")
    heldout = {
        name: [score for score in model_scores if score.role == HELDOUT] for name, model_scores in scores.items()
    }

    # read the texts that the models wrote, and keep the cases that all of them were measured on
    completions, grades = (
        match_completions({name: read_completions(folder) for name, folder in _folders(models, "completions").items()}),
        match_grades({name: read_grades(folder) for name, folder in _folders(models, "grades").items()}),
    )

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
        memorisation=measure_memorisation(scores),
        comparable=find_comparable(scores),
        positions=sum_by_position(heldout),
        histogram=make_histogram(heldout),
        completions=summarise_completions(completions.rows),
        flyte_eval=summarise_grades(grades.rows),
        flyte_eval_levels=find_levels(grades.rows),
        flyte_eval_reason=next(
            (reason for folder in _folders(models, "grades").values() if (reason := verify(folder).get("reason"))), ""
        ),
        written_changes=compare_completions(completions.rows) + compare_grades(grades.rows),
        left_out=[
            *_not_measured(models, "completions"),
            *completions.left_out,
            *_not_measured(models, "grades"),
            *grades.left_out,
        ],
        samples=choose_completion_samples(
            completions.rows, repository_names(scores), corpus.heldout_revisions if corpus else {}
        )
        + choose_grade_samples(grades.rows),
        corpus=corpus,
        parts=corpus.parts if corpus else [],
        training=training,
    )


def _protocol(manifest: dict[str, Any]) -> Protocol:
    """Return the part of the scores' manifest that must be equal for all models."""
    return Protocol(**{name: manifest[name] for name in Protocol.model_fields})


def _folders(models: Sequence[MeasuredModel], name: str) -> dict[str, Path]:
    """Return model → its folder of this name. Models without one are left out."""
    return {model.name: model.folder / name for model in models if (model.folder / name).is_dir()}


def _not_measured(models: Sequence[MeasuredModel], name: str) -> list[str]:
    """Return a sentence if only some of the models have a folder of this name."""
    missing = [model.name for model in models if not (model.folder / name).is_dir()]
    if not missing or len(missing) == len(models):
        return []
    what = "FlyteEval" if name == "grades" else "completions"
    return [f"{what}: {', '.join(missing)} has none, so it is not compared with the others."]
