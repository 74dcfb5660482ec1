"""The report in sentences, the same in all its forms: what changed, by how much, and how sure that is."""

from __future__ import annotations

from flyte_llama.evaluation import FEWEST, Change, Interval
from flyte_llama.report.summary import EvaluationReport, needs_fewer_bits, needs_more_bits


def headline(report: EvaluationReport) -> str:
    """Bits per byte before → after, with the interval of the difference and what it is of."""
    line = report.overall
    bits = " → ".join(f"{figure.bits_per_byte:.3f}" for figure in line.figures)
    text = f"{bits} bits per byte ({' → '.join(model.name for model in report.models)})"
    if report.change is not None:
        text += f", a change of {report.change.difference:+.3f}{_with_intervals(report.change)}"
    documents, repositories = counted(line.num_documents, "document"), counted(line.num_repositories, "repository")
    return f"{text}; {documents} of {repositories}, {line.num_bytes:,} bytes."


def verdicts(report: EvaluationReport) -> list[str]:
    """Whether the model is better than its base, and than the published one."""
    return [_verdict(change) for change in (report.change, report.change_from_published) if change is not None]


def forgetting(report: EvaluationReport) -> str:
    """What became of code that is not of the corpus's kind."""
    if report.general is None:
        return "General code was not measured, so what was forgotten is not known."
    line = report.general.overall
    what = f"{counted(line.num_documents, 'document')} of general code, {line.num_bytes:,} bytes: "
    bits = " → ".join(f"{figure.bits_per_byte:.3f}" for figure in line.figures)
    if not line.changes:
        return f"{what}{bits} bits per byte."
    change = line.changes[0]
    if needs_more_bits(change):
        said = "some of it was forgotten."
    elif needs_fewer_bits(change):
        said = "on average none of it was forgotten."
    else:
        said = "the change cannot be told apart from none."
    return f"{what}{bits} bits per byte, a change of {change.difference:+.3f}{_with_intervals(change)}; {said}"


def memorisation(report: EvaluationReport) -> str:
    """Whether more was gained on train text than on unseen text."""
    probe = report.memorisation
    if probe is None:
        return "Train text like the held-out text was not measured, so what was learned by heart is not known."
    what = (
        f"{counted(probe.num_train, 'train document')} ({probe.train_bytes:,} bytes) beside {probe.num_heldout:,} "
        f"held-out ({probe.heldout_bytes:,} bytes) of {', '.join(probe.of)}, weighted as the held-out text is made up"
    )
    if not probe.extra_gains:
        return f"{what}: {probe.train[0]:.3f} bits per byte of train text, {probe.heldout[0]:.3f} of held-out text."
    gain = probe.extra_gains[0]
    if gain.is_found:
        said = (
            "more on text that was trained on: part of what was learned is that text, or the ways of its repositories"
        )
    elif gain.interval.high < 0:
        said = "less on text that was trained on"
    else:
        said = "the two cannot be told apart"
    return (
        f"{what}: {gain.train:.3f} bits per byte were gained on train text and {gain.heldout:.3f} on unseen text, "
        f"{gain.difference:+.3f} {shown(gain.interval)}; {said}."
    )


def shown(interval: Interval | None, *, digits: int = 3, sign: bool = True) -> str:
    """An interval in brackets; empty if there is none."""
    if interval is None:
        return ""
    form = f"{'+' if sign else ''}.{digits}f"
    return f"[{interval.low:{form}}, {interval.high:{form}}]"


def counted(number: int, noun: str) -> str:
    plural = noun if number == 1 else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"


def _with_intervals(change: Change) -> str:
    if change.documents is None:
        return ", of too few documents for an interval"
    if change.clustered is None:
        return f" (95 % interval: {shown(change.documents)} with documents resampled)"
    return (
        f" (95 % intervals: {shown(change.clustered)} with repositories resampled, {shown(change.documents)} with "
        "documents)"
    )


def _verdict(change: Change) -> str:
    subject, reference = f"The {change.subject} model", f"the {change.reference} model"
    if change.documents is None:
        return f"{subject} cannot be told apart from {reference}: fewer than {FEWEST} documents make no interval."
    if needs_more_bits(change):
        return f"{subject} is worse than {reference}."
    if not needs_fewer_bits(change):
        return f"{subject} is not better than {reference}: the two cannot be told apart on these documents."
    if change.clustered is None:
        return f"{subject} is better than {reference} on this repository; what holds for others is not known."
    if change.clustered.high >= 0:
        return f"{subject} is better than {reference} on these repositories; on others like them it may not be."
    return f"{subject} is better than {reference}."
