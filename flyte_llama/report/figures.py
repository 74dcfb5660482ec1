"""The figures of a report by name, as a tracker shows them beside the curve of the training.

    heldout/base/bits_per_byte        heldout/change/bits_per_byte, …/low, …/high       95 % interval over documents
    heldout/fine-tuned/perplexity     heldout/change/repository_mean, …/repository_low  over repositories
    completions/line/psm/fine-tuned/exact        flyte_eval/psm/fine-tuned/pass_at_1, flyte_eval_parts/…
    verdict/passed                    verdict/reasons                                   a text

The names of models, tasks and layouts are those of the report.
"""

from __future__ import annotations

from flyte_llama.evaluation import Change, Line
from flyte_llama.report.publish import Verdict
from flyte_llama.report.report import EvaluationReport
from flyte_llama.trackers import Figures


def list_figures(report: EvaluationReport, verdict: Verdict) -> Figures:
    """The main figures of every model, the changes with their intervals, and the verdict of the gate."""
    figures = _line_figures("heldout", report.overall)
    if report.general is not None:
        figures |= _line_figures("general", report.general.overall)
    if report.general_clean is not None:
        figures |= _line_figures("general_clean", report.general_clean)
    for written in report.completions:
        name = f"completions/{written.task}/{written.layout}/{written.model}"
        figures |= {f"{name}/exact": written.num_exact / written.num_cases, f"{name}/similarity": written.similarity}
    for answers in report.flyte_eval:
        task = {"FlyteEval": "flyte_eval", "FlyteEval parts": "flyte_eval_parts"}[answers.task]
        name = f"{task}/{answers.layout}/{answers.model}"
        figures |= {f"{name}/pass_at_{each.k}": each.share for each in answers.pass_at}
        figures |= {f"{name}/low": answers.interval.low, f"{name}/high": answers.interval.high}
    return figures | {
        "verdict/passed": float(verdict.passed),
        "verdict/better_than_base": float(report.is_better),
        "verdict/reasons": "; ".join(verdict.reasons) or "none against it",
    }


def _line_figures(name: str, line: Line) -> Figures:
    figures: Figures = {}
    for figure in line.figures:
        figures[f"{name}/{figure.model}/bits_per_byte"] = figure.bits_per_byte
        figures[f"{name}/{figure.model}/perplexity"] = figure.perplexity
    for change in line.changes:
        which = "change" if change.reference == line.figures[0].model else f"change_from_{change.reference}"
        figures |= _change_figures(f"{name}/{which}", change)
    return figures


def _change_figures(name: str, change: Change) -> Figures:
    figures: Figures = {f"{name}/bits_per_byte": change.difference, f"{name}/repository_mean": change.repository_mean}
    if change.documents is not None:
        figures |= {f"{name}/low": change.documents.low, f"{name}/high": change.documents.high}
    if change.clustered is not None:
        figures |= {f"{name}/repository_low": change.clustered.low, f"{name}/repository_high": change.clustered.high}
    return figures
