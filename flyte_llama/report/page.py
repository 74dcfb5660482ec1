"""The report as one HTML page: inline styles and SVG, nothing fetched, so it works offline and in a Flyte deck."""

from __future__ import annotations

import math
from typing import NamedTuple

from flyte_llama.report.summary import EvaluationReport, Line
from flyte_llama.report.table import COLUMNS, cells
from flyte_llama.report.template import render

_CURVE_WIDTH, _CURVE_HEIGHT = 640, 220


def page(report: EvaluationReport) -> str:
    """A whole HTML document; every text in it is escaped."""
    return render(
        "page.html.j2",
        report=report,
        columns=COLUMNS,
        cells=cells,
        sections=[("By repository", report.by_repository), ("By language", report.by_language)],
        bars=_bars([report.overall, *report.by_repository, *report.by_language]),
        curve=_curve(report),
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


class Curve(NamedTuple):
    """The training loss as the points of an SVG polyline, and its axes."""

    width: int
    height: int
    points: str
    ticks: list[tuple[float, str]]
    """Height in the picture and label of each whole-numbered loss."""

    last_step: int


def _curve(report: EvaluationReport) -> Curve | None:
    points = report.training.losses
    if len(points) < 2:
        return None
    low, high = math.floor(min(p.loss for p in points)), math.ceil(max(p.loss for p in points))
    last = points[-1].step

    def y(loss: float) -> float:
        return _CURVE_HEIGHT * (high - loss) / max(high - low, 1)

    line = " ".join(f"{_CURVE_WIDTH * point.step / last:.1f},{y(point.loss):.1f}" for point in points)
    ticks = [(y(loss), str(loss)) for loss in range(low, high + 1)]
    return Curve(_CURVE_WIDTH, _CURVE_HEIGHT, line, ticks, last)
