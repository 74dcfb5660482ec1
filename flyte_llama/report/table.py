"""The report as text, for a terminal and a pod's log: at most some 120 columns with one or two models."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence

from flyte_llama.evaluation import Line
from flyte_llama.report.headline import forgetting, headline, memorisation, shown, verdicts
from flyte_llama.report.summary import EvaluationReport

_WIDTH = 118


def table(report: EvaluationReport) -> str:
    """Overall, by repository, by language; then what else is to be known, in sentences."""
    sections = [[report.overall], report.heldout.by["repository"], report.heldout.by["language"]]
    text = aligned(_columns(report), *([_cells(line, report) for line in section] for section in sections))
    said = [headline(report), *verdicts(report), *_said(report), *_written(report)]
    return "\n".join([text, *(textwrap.fill(sentence, _WIDTH, subsequent_indent="  ") for sentence in said)])


def aligned(columns: Sequence[str], *sections: Sequence[Sequence[str]]) -> str:
    """Rows under their columns, a rule above and below each section; all but the first column aligned on the right."""
    rows = [columns, *itertools.chain(*sections)]
    widths = [max(len(row[number]) for row in rows) for number in range(len(columns))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_row(columns, widths), rule]
    for section in sections:
        lines += [*(_row(row, widths) for row in section), rule]
    return "\n".join(lines)


def _said(report: EvaluationReport) -> Iterator[str]:
    if report.general is not None:
        yield f"general code: {forgetting(report)}"
    if report.memorisation is not None:
        yield f"train text: {memorisation(report)}"
    if report.training is not None:
        trained = report.training
        yield f"trained on {trained.num_tokens:,} tokens in {trained.num_steps:,} steps, {trained.wall_s:,.0f} s"


def _written(report: EvaluationReport) -> Iterator[str]:
    """A line a task and layout, its models from first to last."""
    for (task, layout), group in itertools.groupby(report.completions, key=lambda own: (own.task, own.layout)):
        completions = list(group)
        exact = " → ".join(f"{own.num_exact:,}" for own in completions)
        similarity = " → ".join(f"{own.similarity:.3f}" for own in completions)
        yield f"{task}, {layout}: exact {exact} of {completions[-1].num_cases:,}, edit similarity {similarity}"
    for layout, summaries in itertools.groupby(report.flyte_eval, key=lambda own: own.layout):
        answered = list(summaries)
        passed = " → ".join(f"{own.pass_at[0].share:.3f} {shown(own.interval, sign=False)}" for own in answered)
        yield f"FlyteEval, {layout}: pass@1 {passed} of {answered[-1].num_items:,} items"


def _shows_perplexity(report: EvaluationReport) -> bool:
    """Where they compare, and there is room."""
    return report.same_tokens and len(report.models) < 3


def _columns(report: EvaluationReport) -> tuple[str, ...]:
    """What the figures are called; a column of a later model has its name alone."""
    first, *others = (model.name for model in report.models)
    perplexity = (f"ppl {first}", *others) if _shows_perplexity(report) else ()
    change = ("change and 95 % of it",) if others else ()
    return ("held out", "docs", "bytes", *perplexity, f"bits/B {first}", *others, *change)


def _cells(line: Line, report: EvaluationReport) -> tuple[str, ...]:
    perplexity = [f"{figure.perplexity:,.2f}" for figure in line.figures] if _shows_perplexity(report) else []
    change = [f"{line.changes[0].difference:+.3f} {shown(line.changes[0].widest)}"] if line.changes else []
    return (
        line.name,
        f"{line.num_documents:,}",
        f"{line.num_bytes:,}",
        *perplexity,
        *(f"{figure.bits_per_byte:.3f}" for figure in line.figures),
        *change,
    )


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *figures = row
    return "  ".join(
        [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True))]
    ).rstrip()
