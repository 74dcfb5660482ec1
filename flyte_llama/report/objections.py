"""What speaks against a model that is better over all, and figures of a report that contradict each other.

The gate refuses a model for each objection. The report shows objections and contradictions after its verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from flyte_llama.evaluation import MIN_DOCUMENTS, Change, Line
from flyte_llama.report.pairs import WrittenChange
from flyte_llama.report.report import EvaluationReport

_CONSIDERABLE = 0.1
"""A language with at least this share of the held-out bytes must not get worse."""

_MARGIN = 0.05
"""Bits per byte, or per token for perplexity: a change within it may be chance if there is no interval to tell. As much
may be forgotten by default (`publish.forgetting_budget`)."""


def find_objections(report: EvaluationReport) -> list[str]:
    """Return what is worse than in the base and the published model, one phrase each: `worse than … on …`.

    - clean documents, if contaminated or partly contaminated ones are better; also if a gain is not shown on clean ones
    - a language with a tenth or more of the held-out text
    - FlyteEval or completions, beyond chance

    Documents are worse if their interval lies above 0, or by more than `_MARGIN` if they are too few for an interval.
    """
    return [
        phrase
        for index, change in enumerate(report.overall.changes)
        for phrase in (*_clean_objections(report, index), *_other_objections(report, index, change))
    ]


def find_contradictions(report: EvaluationReport) -> list[str]:
    """Return one phrase for each figure that points the other way than the bits per byte of all held-out text.

    Also for clean text and text that overlaps with train, if these point in opposite ways or only the latter gained.
    """
    phrases: list[str] = []
    for index, change in enumerate(report.overall.changes):
        reference = f"the {change.reference} model"
        clean = _by_stratum(report, index).get("clean")
        if clean is None or not _is_better(clean):
            phrases += _clean_objections(report, index)
        phrases += [f"{strata} than {reference}" for strata in _opposite_strata(report, index)]
        if change.is_better_here:
            phrases += _other_objections(report, index, change)
        if change.is_worse_here:
            phrases += [
                f"better than {reference}, since it {_written_phrase(written)}"
                for written in report.written_changes
                if written.reference == change.reference and written.is_better
            ]
        phrases += [f"{figures} than {reference}" for figures in _other_means(report, index, change)]
    return phrases


def _other_objections(report: EvaluationReport, index: int, change: Change) -> list[str]:
    return [*_language_objections(report, index), *_written_objections(report, change)]


def _clean_objections(report: EvaluationReport, index: int) -> Iterator[str]:
    """Yield a phrase if text that overlaps with train got better, and clean text got worse or is not shown better."""
    overall = report.overall.changes[index]
    strata = _by_stratum(report, index)
    clean = strata.get("clean")
    is_worse = clean is not None and _is_worse(clean)
    better = [
        f"{name}: {_figures(change)}"
        for name in ("partial", "contaminated")
        if (change := strata.get(name))
        and (_is_better(change) or (is_worse and overall.is_better_here and change.difference < 0))
    ]
    if not better or (clean is not None and clean.is_better_here):
        return
    overlapping = f"text that overlaps with train ({', '.join(better)})"
    clean_text = (
        f"the {overall.reference} model on clean held-out text ({_figures(clean) if clean else 'there is none'})"
    )
    remedy = _remedy(clean, "documents that share no text with train")
    if is_worse:
        yield f"worse than {clean_text} and better on {overlapping}{remedy}"
    else:
        yield f"not shown to be better than {clean_text}, only on {overlapping}{remedy}"


def _by_stratum(report: EvaluationReport, index: int) -> dict[str, Change]:
    return {line.name: line.changes[index] for line in report.heldout.by.get("stratum", [])}


def _language_objections(report: EvaluationReport, index: int) -> Iterator[str]:
    for line in report.heldout.by.get("language", []):
        change = line.changes[index]
        if _share(line, report) >= _CONSIDERABLE and _is_worse(change):
            yield (
                f"worse than the {change.reference} model on {line.name}, {_share(line, report):.0%} of the held-out "
                f"text ({_figures(change)}){_remedy(change, f'documents of {line.name}')}"
            )


def _written_objections(report: EvaluationReport, change: Change) -> Iterator[str]:
    for written in report.written_changes:
        if written.reference == change.reference and written.is_worse:
            yield f"worse than the {change.reference} model, since it {_written_phrase(written)}"


def _written_phrase(written: WrittenChange) -> str:
    """Return what the subject does beyond chance, such as `completes fewer lines exactly (…)`."""
    fewer, less = ("fewer", "less") if written.is_worse else ("more", "more")
    spans = "lines" if written.task == "line" else f"{written.task.removesuffix('-span')} spans"
    does, measure, cases = {
        "exact": (f"completes {fewer} {spans} exactly", "", "documents"),
        "similarity": (f"completes {spans} {less} closely", "edit similarity, ", "documents"),
        "pass@1": (f"passes {fewer} items of FlyteEval", "pass@1, ", "definitions"),
    }[written.figure]
    return (
        f"{does} ({measure}{written.layout}, {written.before:.3f} → {written.after:.3f} as the mean of "
        f"{written.num_cases:,} {cases}, beyond chance)"
    )


def _opposite_strata(report: EvaluationReport, index: int) -> Iterator[str]:
    """Yield the strata if clean text got better and text that overlaps with train got worse; an objection if not so."""
    by_name = _by_stratum(report, index)
    worse = [name for name, change in by_name.items() if change.is_worse_here]
    if worse and "clean" in by_name and by_name["clean"].is_better_here:
        yield f"better on clean held-out text and worse on text that overlaps with train ({', '.join(worse)})"


def _other_means(report: EvaluationReport, index: int, change: Change) -> Iterator[str]:
    """Yield the other ways to average the held-out text that point the other way, and perplexity.

    A mean counts if its interval does not contain 0, or without an interval, if it is beyond `_MARGIN`.
    """
    if not (change.is_better_here or change.is_worse_here):
        return
    *_, subject = report.overall.figures
    reference = report.overall.figures[index]
    documents = subject.document_bits_per_byte - reference.document_bits_per_byte
    interval = change.clustered
    is_certain = abs(change.repository_mean) > _MARGIN if interval is None else interval.low > 0 or interval.high < 0
    means = {
        "as the mean of documents": (documents, abs(documents) > _MARGIN),
        f"as the mean of {change.num_repositories} repositories": (change.repository_mean, is_certain),
    }
    for name, (difference, counts) in means.items():
        if counts and difference * change.difference < 0:
            yield f"{'worse' if difference > 0 else 'better'} {name} ({_signed(difference)} bits per byte)"
    tokens = math.log2(subject.perplexity) - math.log2(reference.perplexity)
    if abs(tokens) > _MARGIN and tokens * change.difference < 0:
        direction = "worse" if tokens > 0 else "better"
        yield (
            f"{direction} by perplexity, which does not compare models with different tokenizers "
            f"({reference.perplexity:,.2f} → {subject.perplexity:,.2f}),"
        )


def _is_worse(change: Change) -> bool:
    """Whether these documents got worse beyond chance; with too few to tell, whether beyond the margin."""
    return change.is_worse_here if change.documents else change.difference > _MARGIN


def _is_better(change: Change) -> bool:
    return change.is_better_here if change.documents else change.difference < -_MARGIN


def _remedy(change: Change | None, what: str) -> str:
    """Return the sentence that follows a phrase on too few documents, without its full stop; else empty."""
    if change is not None and change.documents is not None:
        return ""
    return f". Hold out at least {MIN_DOCUMENTS} {what}, near-copies counted once, to tell it from chance"


def _share(line: Line, report: EvaluationReport) -> float:
    return line.num_bytes / report.overall.num_bytes


def _figures(change: Change) -> str:
    interval = (
        f"95 % [{_signed(change.documents.low)}, {_signed(change.documents.high)}]"
        if change.documents
        else "few documents"
    )
    return f"{_signed(change.difference)} bits per byte, {interval}"


def _signed(bits: float) -> str:
    """Return the figure with three decimals, or with one digit if these would all be 0."""
    return f"{bits:+.3f}" if not bits or abs(bits) >= 0.0005 else f"{bits:+.0e}"
