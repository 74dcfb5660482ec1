"""The report as one HTML page: inline styles and SVG, nothing fetched, so it works offline and in a Flyte deck."""

from __future__ import annotations

from typing import NamedTuple

from flyte_llama.report.curves import curves
from flyte_llama.report.summary import EvaluationReport, Line
from flyte_llama.report.table import cells, columns
from flyte_llama.report.template import render


def page(report: EvaluationReport) -> str:
    """A whole HTML document; every text in it is escaped."""
    return render(
        "page.html.j2",
        report=report,
        columns=columns(report),
        cells=cells,
        sections=[("By repository", report.by_repository), ("By language", report.by_language)],
        bars=_bars([report.overall, *report.by_repository, *report.by_language]),
        curves=curves(report.training.losses),
        train_bytes=f"{report.corpus.train.documents.num_bytes / 1e6:,.2f} MB",
        heldout_bytes=f"{report.corpus.heldout.documents.num_bytes / 1e6:,.2f} MB",
    )


class Bar(NamedTuple):
    """One pair of bars, widths in per cent of the longest."""

    line: Line
    base: float
    tuned: float


def _bars(lines: list[Line]) -> list[Bar]:
    longest = max(max(line.base_bits_per_byte, line.tuned_bits_per_byte) for line in lines) or 1.0
    return [
        Bar(line, 100 * line.base_bits_per_byte / longest, 100 * line.tuned_bits_per_byte / longest) for line in lines
    ]
