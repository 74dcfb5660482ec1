"""The report in sentences, shared by all its forms: did the model change, by how much, and how certain is it?

Plain text: the page escapes it, and Markdown and the table take it as it is.
"""

from __future__ import annotations

from flyte_llama.evaluation import MIN_DOCUMENTS, Change, Interval
from flyte_llama.report.report import EvaluationReport, needs_fewer_bits, needs_more_bits


def overall_sentence(report: EvaluationReport) -> str:
    """Return bits per byte before → after, the interval of the difference, and the amount of text that was scored."""
    line = report.overall
    bits = " → ".join(f"{figure.bits_per_byte:.3f}" for figure in line.figures)
    text = f"{bits} bits per byte ({' → '.join(model.name for model in report.models)})"
    if report.change is not None:
        text += f", a change of {report.change.difference:+.3f}{_with_intervals(report.change)}"
    documents = count_text(line.num_documents, "document")
    repositories = count_text(line.num_repositories, "repository")
    return f"{text}; {documents} of {repositories}, {line.num_bytes:,} bytes."


def verdict_sentences(report: EvaluationReport) -> list[str]:
    """Return one sentence per reference (base, published): is the model better, worse, or indistinguishable?"""
    return [_verdict(change) for change in (report.change, report.change_from_published) if change is not None]


def forgetting_sentence(report: EvaluationReport) -> str:
    """Return the change on general code, which is unlike the corpus: did the model forget any of it?"""
    if report.general is None:
        return "General code was not measured, so forgetting is unknown."
    line = report.general.overall
    sample = f"{count_text(line.num_documents, 'document')} of general code, {line.num_bytes:,} bytes: "
    bits = " → ".join(f"{figure.bits_per_byte:.3f}" for figure in line.figures)
    if not line.changes:
        return f"{sample}{bits} bits per byte."
    change = line.changes[0]
    if needs_more_bits(change):
        conclusion = "some of it was forgotten."
    elif needs_fewer_bits(change):
        conclusion = "on average nothing was forgotten."
    else:
        conclusion = "the change cannot be told apart from zero."
    return f"{sample}{bits} bits per byte, a change of {change.difference:+.3f}{_with_intervals(change)}; {conclusion}"


def memorisation_sentence(report: EvaluationReport) -> str:
    """Return the gain on train text compared with the gain on similar unseen text: did the model memorise?"""
    check = report.memorisation
    if check is None:
        return "No train text comparable with the held-out text was measured, so memorisation is unknown."
    sample = (
        f"{count_text(check.num_train, 'train document')} ({check.train_bytes:,} bytes) against {check.num_heldout:,} "
        f"held-out ({check.heldout_bytes:,} bytes) of {', '.join(check.of)}, weighted like the held-out text"
    )
    if not check.extra_gains:
        return f"{sample}: {check.train[0]:.3f} bits per byte on train text, {check.heldout[0]:.3f} on held-out text."
    gain = check.extra_gains[0]
    if gain.is_found:
        conclusion = (
            "more on text that was trained on: the model learned part of that text, or the habits of its repositories"
        )
    elif gain.interval.high < 0:
        conclusion = "less on text that was trained on"
    else:
        conclusion = "the two cannot be told apart"
    return (
        f"{sample}: the model gained {gain.train:.3f} bits per byte on train text and {gain.heldout:.3f} on unseen "
        f"text, a difference of {gain.difference:+.3f} {interval_text(gain.interval)}; {conclusion}."
    )


def interval_text(interval: Interval | None, *, digits: int = 3, sign: bool = True) -> str:
    """Return an interval in brackets, as `[-0.123, -0.045]`; empty for None."""
    if interval is None:
        return ""
    form = f"{'+' if sign else ''}.{digits}f"
    return f"[{interval.low:{form}}, {interval.high:{form}}]"


def count_text(count: int, noun: str) -> str:
    """Return the number and its noun, in the singular or plural."""
    plural = noun if count == 1 else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {plural}"


def _with_intervals(change: Change) -> str:
    if change.documents is None:
        return " (too few documents for an interval)"
    if change.clustered is None:
        return f" (95 % interval: {interval_text(change.documents)}, documents resampled)"
    return (
        f" (95 % intervals: {interval_text(change.clustered)} with repositories resampled, "
        f"{interval_text(change.documents)} with documents resampled)"
    )


def _verdict(change: Change) -> str:
    subject, reference = f"The {change.subject} model", f"the {change.reference} model"
    if change.documents is None:
        return f"{subject} cannot be told apart from {reference}: an interval needs at least {MIN_DOCUMENTS} documents."
    if needs_more_bits(change):
        return f"{subject} is worse than {reference}."
    if not needs_fewer_bits(change):
        return f"{subject} is not better than {reference}: the two cannot be told apart on these documents."
    if change.clustered is None:
        return f"{subject} is better than {reference} on this repository; other repositories were not measured."
    if change.clustered.high >= 0:
        return f"{subject} is better than {reference} on these repositories, but perhaps not on similar ones."
    return f"{subject} is better than {reference}."
