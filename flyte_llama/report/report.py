"""The typed report of one to three models measured on the same text. It holds every figure once.

    base/        scores, completions, grades ┐
    published/   scores, completions, grades ├─ make_report → EvaluationReport
    fine-tuned/  scores, completions, grades ┘

`evaluation.measure.join_parts` writes the folders, one per model. The report has figures and samples, but no prose:
`sentences`, `tables` and `plots` turn its figures into text and pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from flyte_llama.config import Frozen, HeldOutPart
from flyte_llama.corpus import CorpusCard
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation import (
    GENERAL,
    HELDOUT,
    Change,
    ComparableText,
    Comparison,
    Line,
    Memorisation,
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
from flyte_llama.report.pairs import (
    WrittenChange,
    compare_completions,
    compare_grades,
    match_completions,
    match_grades,
)
from flyte_llama.report.plots import Histogram, PositionLosses, make_histogram, sum_by_position
from flyte_llama.report.writing import (
    CompletionSummary,
    FlyteEvalSummary,
    Sample,
    choose_completion_samples,
    choose_grade_samples,
    summarise_completions,
    summarise_grades,
)
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


class Protocol(Frozen):
    """How the figures were measured. All models of a report must share it, or their figures do not compare."""

    measure: str
    """`perplexity`, or `pseudo-perplexity` for an encoder."""

    window: int
    stride: int
    precision: str


class ReportedModel(Frozen):
    """A model as the report names it, and its tokenizer."""

    name: str
    """`base`, `published` or `fine-tuned`; in a report of `flyte-llama evaluate`, its model is `evaluated`."""

    identity: PinnedModel
    tokenizer_sha256: str
    start: str
    """The token that precedes a document's first token: `bos`, or `eos` if the tokenizer has no bos."""


class Unchanged(Frozen):
    """A run that made nothing: every result came from the cache."""

    since: datetime
    """When the newest of the results was made."""

    num_results: int
    """Folders that cached tasks returned: documents, corpus, rows, model, scores and so on."""


class EvaluationReport(Frozen):
    """All figures of an evaluation, the samples, and the corpus and training run they belong to."""

    models: list[ReportedModel]
    """One to three: the base, the published model if there is one, and last the model that the report is about."""

    protocol: Protocol
    heldout: Comparison
    general: Comparison | None
    """General code, unlike the corpus; None if not measured. Its lines by stratum tell how much of it is in train."""

    memorisation: Memorisation | None
    """None if there is too little text that can be compared."""

    comparable: ComparableText
    """The train and held-out text that can be compared to check for memorisation."""

    positions: list[PositionLosses]
    histogram: Histogram
    completions: list[CompletionSummary]
    flyte_eval: list[FlyteEvalSummary]
    flyte_eval_reason: str = ""
    """Why FlyteEval has no items, as a sentence; empty if it has some, or was not asked for."""

    written_changes: list[WrittenChange]
    """How completions and FlyteEval changed from each reference, on the same cases."""

    left_out: list[str]
    """Sentences on completions and answers that were not measured on all models, so they are not compared."""

    samples: list[Sample]
    corpus: CorpusCard | None
    parts: list[HeldOutPart] = Field([])
    """Held-out parts of repositories that train has other files of; the figures then say nothing about others."""

    training: TrainingSummary | None
    unchanged: Unchanged | None = None
    """None if the run made some of its results, or that is not known."""

    @property
    def overall(self) -> Line:
        """All held-out text together."""
        return self.heldout.overall

    @property
    def same_tokens(self) -> bool:
        """Whether the models split text into the same tokens, so that their perplexities compare."""
        return self.heldout.same_tokens and len({model.tokenizer_sha256 for model in self.models}) == 1

    @property
    def change(self) -> Change | None:
        """The change from the base; None if the report has one model."""
        return self.overall.changes[0] if self.overall.changes else None

    @property
    def change_from_published(self) -> Change | None:
        """The change from the published model; None if none was measured."""
        return self.overall.changes[1] if len(self.overall.changes) > 1 else None

    @property
    def is_better(self) -> bool:
        """Whether the model is better than its base beyond the held-out documents: on others like them too."""
        return self.change is not None and self.change.is_better

    @property
    def beats_published(self) -> bool | None:
        """Whether it is better than the published model in the same way; None if none was measured."""
        change = self.change_from_published
        return None if change is None else change.is_better

    @property
    def general_clean(self) -> Line | None:
        """The general code that shares no text with train; None if there is none, or it was not compared with train."""
        strata = self.general.by.get("stratum", []) if self.general else []
        return next((line for line in strata if line.name == "clean"), None)

    @property
    def general_change(self) -> Change | None:
        """The change from the base on `general_clean`; None without such code, or without a base."""
        return self.general_clean.changes[0] if self.general_clean and self.general_clean.changes else None

    @property
    def forgotten(self) -> float | None:
        """Additional bits per byte that the model needs for `general_clean`; negative if fewer than its base."""
        return None if self.general_change is None else self.general_change.difference

    def __repr__(self) -> str:
        """One line, since `pyflyte run` prints the report."""
        figures = self.overall.figures
        perplexities = " → ".join(f"{figure.perplexity:.2f}" for figure in figures)
        bits = " → ".join(f"{figure.bits_per_byte:.3f}" for figure in figures)
        return f"EvaluationReport({self.protocol.measure} {perplexities}, bits per byte {bits})"


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
    protocols, first = {name: _protocol(manifest) for name, (_, manifest) in read.items()}, names[0]
    for name in names[1:]:
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
        samples=choose_completion_samples(completions.rows, repository_names(scores))
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
    what = "FlyteEval" if name == "grades" else "completions"
    is_partial = 0 < len(missing) < len(models)
    return [f"{what}: {', '.join(missing)} has none, so it is not compared with the others."] if is_partial else []
