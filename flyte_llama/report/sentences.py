"""The report in sentences, shared by all its forms: did the model change, by how much, and how certain is it?

Plain text: the page and Markdown escape it, each in its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from flyte_llama.config import describe_split
from flyte_llama.evaluation import MIN_DOCUMENTS, Change, ComparableText, Interval
from flyte_llama.inference import PSM, SPM
from flyte_llama.report.objections import find_contradictions
from flyte_llama.report.report import EvaluationReport

_FEWEST_ENDED = 0.5
"""Share of the infilled spans that a model has to end itself."""

_MAX_NAMES = 6
"""Languages and kinds that a sentence lists."""


def overall_sentence(report: EvaluationReport) -> str:
    """Return bits per byte before → after, the interval of the difference, and the amount of text that was scored."""
    line = report.overall
    bits = " → ".join(f"{figure.bits_per_byte:.3f}" for figure in line.figures)
    text = f"{bits} bits per byte ({' → '.join(model.name for model in report.models)})"
    if report.change is not None:
        text += f", a change of {report.change.difference:+.3f}{_with_intervals(report.change)}"
    documents = count_text(line.num_documents, "document")
    if line.num_cases < line.num_documents:
        documents += f" ({line.num_cases:,} with near-copies counted once)"
    repositories = count_text(line.num_repositories, "repository")
    return f"{text}; {documents} of {repositories}, {line.num_bytes:,} bytes."


def alone_sentence(report: EvaluationReport) -> str:
    """Return the figure of a report of one model, which is compared with nothing."""
    figure = report.overall.figures[-1]
    return f"The {figure.model} model needs {figure.bits_per_byte:.3f} bits per byte of held-out text."


def verdict_sentences(report: EvaluationReport) -> list[str]:
    """Return one sentence per reference (base, published): is the model better, worse, or indistinguishable?

    Then one for each figure that contradicts them, and for what could not be compared.
    """
    verdicts = [
        _verdict(change, report) for change in (report.change, report.change_from_published) if change is not None
    ]
    return [
        *verdicts,
        *(f"The figures contradict each other: it is {phrase}." for phrase in find_contradictions(report)),
        *infilling_sentences(report),
        *report.left_out,
    ]


def infilling_sentences(report: EvaluationReport) -> list[str]:
    """Return a sentence if the model does not end most of the middles that it infills; none if it does."""
    subject = report.models[-1].name
    counts = []
    for layout in (PSM, SPM):
        summaries = [each for each in report.completions if each.model == subject and each.layout == layout]
        num_cases = sum(each.num_cases for each in summaries)
        num_stopped = sum(each.num_stopped for each in summaries)
        if num_stopped < _FEWEST_ENDED * num_cases:
            counts.append(f"{num_stopped:,} of {num_cases:,} in {layout}")
    if not counts:
        return []
    return [
        f"The {subject} model does not end its middles: of the spans that it infilled it ended only "
        f"{' and '.join(counts)}; the others ran on until they were cut off. Train it longer to infill, raise "
        "training.learning_rate or objective.new_token_lr_scale, or use a base that has infill tokens."
    ]


def unchanged_sentences(report: EvaluationReport) -> list[str]:
    """Return a sentence if the run made nothing new; none if it did, or if that is not known."""
    if report.unchanged is None:
        return []
    since = report.unchanged.since.astimezone(UTC)
    results = count_text(report.unchanged.num_results, "result")
    return [f"Nothing moved since {since:%Y-%m-%d %H:%M} UTC: all {results} came from the cache."]


def forgetting_sentence(report: EvaluationReport) -> str:
    """Return the change on general code that shares no text with train: did the model forget any of it?"""
    line = report.general_clean
    if line is None:
        reason, remedy = forgetting_gap(report)
        return f"{reason[0].upper()}{reason[1:]}, so forgetting is unknown. {remedy}."
    sample = f"{count_text(line.num_documents, 'document')} of general code not in train, {line.num_bytes:,} bytes: "
    bits = " → ".join(f"{figure.bits_per_byte:.3f}" for figure in line.figures)
    if not line.changes:
        return f"{sample}{bits} bits per byte.{_general_in_train(report)}"
    change = line.changes[0]
    if change.is_worse_here:
        conclusion = "some of it was forgotten."
    elif change.is_better_here:
        conclusion = "on average nothing was forgotten."
    else:
        conclusion = "the change cannot be told apart from zero."
    text = f"{sample}{bits} bits per byte, a change of {change.difference:+.3f}{_with_intervals(change)}; {conclusion}"
    return text + _general_in_train(report)


def forgetting_gap(report: EvaluationReport) -> tuple[str, str]:
    """Return why a report has no `general_clean`, beginning in lower case, and what to do."""
    if report.general is None:
        return (
            "general code was not measured",
            "Name packages in evaluation.general that are not in the corpus, and set evaluation.probe_bytes above 0",
        )
    if "stratum" not in report.general.by:
        return "general code was not compared with train text", "Give the train folder with --train"
    whole = report.general.overall
    sample = f"{count_text(whole.num_documents, 'document')}, {whole.num_bytes:,} bytes"
    return (
        f"all general code that was measured ({sample}) shares text with train",
        "Name packages in evaluation.general that train does not contain",
    )


def memorisation_sentence(report: EvaluationReport) -> str:
    """Return the gain on train text compared with the gain on similar unseen text: did the model memorise?"""
    check = report.memorisation
    if check is None:
        return _memorisation_gap(report.comparable)
    sample = (
        f"{count_text(check.num_train, 'train document')} ({check.train_bytes:,} bytes) against {check.num_heldout:,} "
        f"held-out ({check.heldout_bytes:,} bytes) of {_name_some(check.of)}, weighted like the held-out text"
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


def _general_in_train(report: EvaluationReport) -> str:
    """Return the sentences that follow the figure of `general_clean`: what is not in it, and what it lacks."""
    clean, general = report.general_clean, report.general
    if clean is None or general is None:
        return ""
    whole, text = general.overall, ""
    if clean.num_documents < whole.num_documents:
        with_them = f"the model needs {whole.figures[-1].bits_per_byte:.3f} bits per byte"
        if whole.changes:
            with_them = f"the change is {whole.changes[0].difference:+.3f}{_with_intervals(whole.changes[0])}"
        text = (
            f" {whole.num_documents - clean.num_documents:,} of {whole.num_documents:,} documents of general code "
            f"({whole.num_bytes - clean.num_bytes:,} of {whole.num_bytes:,} bytes) share text with train and do not "
            f"count; with them, {with_them}."
        )
    if clean.figures[-1].interval is None:
        text += (
            " Name more packages in evaluation.general that train does not contain, or raise evaluation.probe_bytes."
        )
    return text


def _memorisation_gap(text: ComparableText) -> str:
    """Return why memorisation was not measured, and what to do."""
    if not text.measured_train:
        return (
            "No train text was measured, so memorisation is unknown. Set evaluation.probe_bytes above 0, and train on "
            "some of the languages and kinds that are held out; `flyte-llama evaluate` also needs --train."
        )
    counts = (
        f"{text.num_train:,} of {text.measured_train:,} train documents and {text.num_heldout:,} of "
        f"{text.measured_heldout:,} held-out documents are of a language and kind that both sides have"
    )
    more_train = "Raise evaluation.probe_bytes to measure more of train, or add such documents to corpus.train."
    more_heldout = "Hold out more documents of the languages and kinds that are in train."
    few_train, few_heldout = text.train_cases < MIN_DOCUMENTS, text.heldout_cases < MIN_DOCUMENTS
    if few_train or few_heldout:
        reason = f"the comparison needs {MIN_DOCUMENTS} of each, near-copies counted once"
        remedies = [more_train] * few_train + [more_heldout] * few_heldout
    else:
        reason = "one of them weighs more than all others of its side"
        remedies = [more_train, more_heldout]
    return f"{counts}; {reason}, so memorisation is unknown. {' '.join(remedies)}"


def _name_some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def split_sentence(report: EvaluationReport) -> str:
    """Return what is held out of the repositories that were trained on, as a sentence."""
    text = describe_split(report.parts, [])
    return f"{text[:1].upper()}{text[1:]}."


def _with_intervals(change: Change) -> str:
    if change.documents is None:
        return " (too few documents for an interval)"
    text = f" (95 % interval: {interval_text(change.documents)}, documents resampled"
    if change.clustered is not None:
        text += (
            f"; mean of {change.num_repositories} repositories {change.repository_mean:+.3f}, 95 % interval: "
            f"{interval_text(change.clustered)}"
        )
    return f"{text})"


def _verdict(change: Change, report: EvaluationReport) -> str:
    subject, reference = f"The {change.subject} model", f"the {change.reference} model"
    if change.documents is None:
        return (
            f"{subject} cannot be told apart from {reference}: an interval needs at least {MIN_DOCUMENTS} documents, "
            "near-copies counted once."
        )
    if report.parts and (change.is_better_here or change.is_worse_here):
        is_whole = len(report.parts) == report.overall.num_repositories
        files = "other files of the repositories that were trained on"
        return (
            f"{subject} is {'better' if change.is_better_here else 'worse'} than {reference} on "
            f"{files if is_whole else f'these documents, some of them {files}'}. This says nothing about other "
            "repositories."
        )
    if change.is_better or change.is_worse:
        return f"{subject} is {'better' if change.is_better else 'worse'} than {reference}."
    if change.is_better_here or change.is_worse_here:
        repositories = count_text(change.num_repositories, "repository")
        reason = "too few" if change.has_few_repositories else "too different"
        return (
            f"{subject} is {'better' if change.is_better_here else 'worse'} than {reference} on these documents of "
            f"{repositories}: {reason} to say so of other repositories."
        )
    return f"{subject} is not better than {reference}: the two cannot be told apart on these documents."
