"""The report as text, for a terminal and a pod's log."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from flyte_llama.report.summary import EvaluationReport, Line


def table(report: EvaluationReport) -> str:
    """Overall, by repository, by language."""
    sections = [[report.overall], report.by_repository, report.by_language]
    text = aligned(columns(report), *([cells(line) for line in section] for section in sections))
    trained = report.training
    return f"{text}\ntrained on {trained.num_tokens:,} tokens in {trained.num_steps:,} steps, {trained.wall_s:,.0f} s"


def aligned(columns: Sequence[str], *sections: Sequence[Sequence[str]]) -> str:
    """Rows under their columns, a rule above and below each section; all but the first column aligned on the right."""
    rows = [columns, *itertools.chain(*sections)]
    widths = [max(len(row[number]) for row in rows) for number in range(len(columns))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_row(columns, widths), rule]
    for section in sections:
        lines += [*(_row(row, widths) for row in section), rule]
    return "\n".join(lines)


def columns(report: EvaluationReport) -> tuple[str, ...]:
    """What the figures are called."""
    measure = report.protocol.measure
    return ("held out", "documents", "tokens", f"{measure} base", "fine-tuned", "bits/byte base", "fine-tuned")


def cells(line: Line) -> tuple[str, ...]:
    """The figures of a line as they are shown, in the order of `columns`."""
    return (
        line.name,
        f"{line.num_documents:,}",
        f"{line.num_tokens:,}",
        f"{line.base_perplexity:,.2f}",
        f"{line.tuned_perplexity:,.2f}",
        f"{line.base_bits_per_byte:.3f}",
        f"{line.tuned_bits_per_byte:.3f}",
    )


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *figures = row
    return "  ".join(
        [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True))]
    ).rstrip()
