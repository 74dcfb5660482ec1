"""Two runs → everything that differs between them, as one typed record.

    A: run.json, report, configuration, documents, measurements ┐
                                                                ├─ compare_runs → RunComparison
    B: the same                                                 ┘

A is the reference and B the subject, as the base and the fine-tuned model are in a report; so a change below 0 means
that B's model is better. The models are compared by a report of both on what both measured (`common`), with its rules
for intervals and verdicts. `text` and `page` show the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from flyte_llama.config import Frozen
from flyte_llama.evaluation import HELDOUT, read_scores
from flyte_llama.evaluation.completion import read_completions
from flyte_llama.flyte_eval import read_grades
from flyte_llama.model import PinnedModel
from flyte_llama.progress import say
from flyte_llama.report import EvaluationReport, MeasuredModel, make_report
from flyte_llama.runs.common import CommonCount, Digests, write_common
from flyte_llama.runs.differences import (
    HELD_OUT,
    NO_TEXTS,
    TRAIN,
    DocumentsDifference,
    FieldDifference,
    SideTexts,
    SourceDifference,
    compare_configs,
    compare_counts,
    compare_sources,
    compare_texts,
    count_sources,
    read_texts,
)
from flyte_llama.runs.listing import RunLine
from flyte_llama.runs.measured_run import MeasuredRun
from flyte_llama.runs.written import CompletionsDifference, ItemsDifference, compare_written
from flyte_llama.storage import content_digest, verify
from flyte_llama.workspace import temporary_folder

_SETTINGS = {
    "completions": ("evaluation.completion.max_new_tokens",),
    "grades": (
        "evaluation.flyte_eval.samples",
        "evaluation.flyte_eval.temperature",
        "evaluation.flyte_eval.max_new_tokens",
    ),
}
"""Fields that must be equal for texts to compare. Which cases there are may differ: only common ones are compared."""


class ComparedRun(Frozen):
    """One of the two runs."""

    folder: str
    line: RunLine
    model: PinnedModel
    """The model that its report is about."""


class RunComparison(Frozen):
    """Everything that differs between two runs, A and B."""

    a: ComparedRun
    b: ComparedRun
    same_model: bool
    """Whether both have the same weights."""

    same_measurements: bool
    """Whether the scores and texts of these are the same too."""

    configuration: list[FieldDifference] | None
    """None if one of the configurations is unknown."""

    num_sources: int
    """Sources that A or B has, or both."""

    sources: list[SourceDifference] | None
    """None if a report has no corpus."""

    documents: list[DocumentsDifference] | None
    counted_sides: list[str]
    """Sides of which only the numbers of documents were compared, since the documents of a run are not there."""

    common: CommonCount | None
    """The held-out documents that both measured; None if no measurements were compared."""

    report: EvaluationReport | None
    """A report of the two models, named A and B, on what both measured. Its samples are completions that changed."""

    items: Sequence[ItemsDifference]
    completions: Sequence[CompletionsDifference]
    left_out: list[str]
    """Sentences on what could not be compared."""


class ComparedModels(NamedTuple):
    """The part of a comparison that comes from the measurements; empty if they were not compared."""

    common: CommonCount | None = None
    report: EvaluationReport | None = None
    items: Sequence[ItemsDifference] = ()
    completions: Sequence[CompletionsDifference] = ()


def compare_runs(a: MeasuredRun, b: MeasuredRun) -> RunComparison:
    """Compare two runs.

    Raises:
        DataError: if measurements or documents are damaged.
    """
    left_out = [f"{name}: {gap}" for name, run in (("A", a), ("B", b)) for gap in run.gaps]
    card_a, card_b = a.report.corpus, b.report.corpus
    configuration = compare_configs(a.config, b.config) if a.config and b.config else None
    documents, counted_sides, texts = _compare_documents(a, b, left_out)
    models = _compare_models(a, b, texts, configuration or [], left_out)
    return RunComparison(
        a=ComparedRun(folder=str(a.folder), line=a.line, model=a.model),
        b=ComparedRun(folder=str(b.folder), line=b.line, model=b.model),
        same_model=a.model.identity == b.model.identity,
        same_measurements=_have_same_measurements(a, b),
        configuration=configuration,
        num_sources=count_sources(card_a, card_b) if card_a and card_b else 0,
        sources=compare_sources(card_a, card_b) if card_a and card_b else None,
        documents=documents,
        counted_sides=counted_sides,
        common=models.common,
        report=models.report,
        items=models.items,
        completions=models.completions,
        left_out=left_out,
    )


def _compare_documents(
    a: MeasuredRun, b: MeasuredRun, left_out: list[str]
) -> tuple[list[DocumentsDifference] | None, list[str], tuple[Digests | None, Digests | None]]:
    """Return the differences of both sides, the sides of which only numbers were compared, and digests.

    The digests are of A's and B's held-out texts; None if these were not read, or are the same.
    """
    card_a, card_b = a.report.corpus, b.report.corpus
    differences: list[DocumentsDifference] = []
    counted = []
    for side, folder_a, folder_b in ((TRAIN, a.train, b.train), (HELD_OUT, a.heldout, b.heldout)):
        # The held-out side comes last, so its texts are the ones that are returned.
        texts_a = texts_b = NO_TEXTS
        if folder_a is not None and folder_b is not None:
            texts_a, texts_b = _read_if_different(folder_a, folder_b)
            differences += compare_texts(side, texts_a, texts_b)
        elif card_a is not None and card_b is not None:
            counted.append(side)
            differences += compare_counts(side, card_a, card_b)
        else:
            left_out.append("The corpora are not compared: a report of `flyte-llama evaluate --heldout` has none.")
            return None, [], (None, None)
    return differences, counted, (texts_a.digests or None, texts_b.digests or None)


def _read_if_different(a: Path, b: Path) -> tuple[SideTexts, SideTexts]:
    """Read the documents of both; if the folders have the same content, return nothing of them."""
    if content_digest(verify(a)) == content_digest(verify(b)):
        return NO_TEXTS, NO_TEXTS
    say(f"reading {a.name} and {b.name}")
    return read_texts(a), read_texts(b)


def _compare_models(
    a: MeasuredRun,
    b: MeasuredRun,
    texts: tuple[Digests | None, Digests | None],
    configuration: list[FieldDifference],
    left_out: list[str],
) -> ComparedModels:
    """Compare what both measured; add sentences on what could not be compared to `left_out`."""
    if a.measurements is None or b.measurements is None:
        return ComparedModels()
    if a.heldout is None or b.heldout is None:
        left_out.append("Held-out documents of the same path and size are taken for equal: some texts cannot be read.")
    if reasons := _protocol_differences(a.report, b.report):
        left_out.append(
            f"The models are not compared, since they were measured differently: {', '.join(reasons)}. "
            "`flyte-llama evaluate` measures one of them with the other's configuration."
        )
        return ComparedModels()
    kinds = []
    for kind, fields in _SETTINGS.items():
        if differing := [f"{field.key} {field.a} → {field.b}" for field in configuration if field.key in fields]:
            what = "Completions" if kind == "completions" else "Answers to FlyteEval"
            left_out.append(f"{what} are not compared, since they were written differently: {', '.join(differing)}.")
        else:
            kinds.append(kind)
    with temporary_folder("compare") as work:
        count, sentences = write_common(a.measurements, b.measurements, work, texts=texts, kinds=kinds)
        left_out += sentences
        if not count.both:
            left_out.append("The models are not compared, since no held-out document is in both with the same text.")
            return ComparedModels(count)
        models = [MeasuredModel("A", a.model, work / "a"), MeasuredModel("B", b.model, work / "b")]
        report = make_report(models, corpus=None, training=None)
        measured = {score.url for score in read_scores(work / "a" / "scores")[0] if score.role == HELDOUT}
        completions = [read_completions(folder) for folder in _folders(work, "completions")]
        grades = [read_grades(folder) for folder in _folders(work, "grades")]
    revisions = b.report.corpus.heldout_revisions if b.report.corpus else {}
    written = compare_written(completions, grades, revisions=revisions)
    # A part of a repository that either run trained on allows no claim about other repositories.
    parts = {part.url: part for run in (a, b) for part in run.report.parts if part.url in measured}
    report = report.model_copy(update={"samples": written.samples, "parts": [*parts.values()]})
    return ComparedModels(count, report, written.items, written.completions)


def _folders(work: Path, kind: str) -> list[Path]:
    """Return A's and B's folder of this kind, or none if these were not compared."""
    return [work / name / kind for name in "ab" if (work / name / kind).is_dir()]


def _have_same_measurements(a: MeasuredRun, b: MeasuredRun) -> bool:
    """Whether both measured the same model, and got the same scores and texts."""
    if a.measurements is None or b.measurements is None or a.model.identity != b.model.identity:
        return False
    return _digests(a.measurements) == _digests(b.measurements)


def _digests(folder: Path) -> dict[str, str]:
    """Kind of measurement → the digest of its content."""
    kinds = ("scores", "completions", "grades")
    return {kind: content_digest(verify(folder / kind)) for kind in kinds if (folder / kind).is_dir()}


def _protocol_differences(a: EvaluationReport, b: EvaluationReport) -> list[str]:
    """Return the settings of the measurement that differ, each with both values."""
    values_a, values_b = a.protocol.model_dump(), b.protocol.model_dump()
    return [f"{name} {values_a[name]} → {values_b[name]}" for name in values_a if values_a[name] != values_b[name]]
