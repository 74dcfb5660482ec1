"""The report as text, for a terminal and a pod's log."""

from __future__ import annotations

import itertools

from flyte_llama.report.summary import EvaluationReport, Line

COLUMNS = ("held out", "documents", "tokens", "perplexity base", "fine-tuned", "bits/byte base", "fine-tuned")


def table(report: EvaluationReport) -> str:
    """Overall, by repository, by language; figures aligned on the right."""
    sections = [[report.overall], report.by_repository, report.by_language]
    rows = [[cells(line) for line in section] for section in sections]
    widths = [max(len(row[i]) for row in [COLUMNS, *itertools.chain(*rows)]) for i in range(len(COLUMNS))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_aligned(COLUMNS, widths)]
    for section in rows:
        lines += [rule, *(_aligned(row, widths) for row in section)]
    trained = report.training
    lines += [rule, f"trained on {trained.num_tokens:,} tokens in {trained.num_steps:,} steps, {trained.wall_s:,.0f} s"]
    return "\n".join(lines)


def cells(line: Line) -> tuple[str, ...]:
    """The figures of a line as they are shown, in the order of `COLUMNS`."""
    return (
        line.name,
        f"{line.num_documents:,}",
        f"{line.num_tokens:,}",
        f"{line.base_perplexity:,.2f}",
        f"{line.tuned_perplexity:,.2f}",
        f"{line.base_bits_per_byte:.3f}",
        f"{line.tuned_bits_per_byte:.3f}",
    )


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    name, *figures = row
    return "  ".join(
        [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True))]
    ).rstrip()
