"""The picture of all models by repository or language: a dot for each model's bits per byte, all on one scale.

    base  o────────●  fine-tuned      -1.260 [-1.301, -1.220]

Positions are per cent of the picture's width. A dot has a line as long as its interval, if it has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flyte_llama.evaluation import Change, Line
from flyte_llama.report.plots import Ink, choose_inks, round_ticks

MOST_ROWS = 40
"""Groups that one picture has; the tables have all of them."""


class Dot(NamedTuple):
    """One model's bits per byte, and its interval; `low` and `high` are `at` without one."""

    ink: Ink
    bits_per_byte: float
    at: float
    low: float
    high: float


class DotRow(NamedTuple):
    """All models on one group of documents."""

    line: Line
    dots: list[Dot]

    @property
    def change(self) -> Change | None:
        """The change from the first model; None if there is one model."""
        return self.line.changes[0] if self.line.changes else None

    @property
    def colour(self) -> str:
        """Class of the change: `better` or `worse` if its interval says so, otherwise empty."""
        if self.change is None:
            return ""
        return "better" if self.change.is_better_here else "worse" if self.change.is_worse_here else ""

    @property
    def ends(self) -> tuple[float, float]:
        """The outermost dots."""
        places = [dot.at for dot in self.dots]
        return min(places), max(places)


class DotPicture(NamedTuple):
    """The rows, and the scale below them."""

    rows: list[DotRow]
    num_more: int
    """Groups that are not drawn."""

    marks: list[tuple[float, str]]
    """Position and label of each round value."""


def draw_groups(overall: Line, by: Mapping[str, Sequence[Line]]) -> list[tuple[str, DotPicture]]:
    """Draw all models by repository and, if there are several languages, by language; each with its title.

    Args:
        by: As of a `Comparison`.
    """
    pictures = [("", draw_dots(overall, by["repository"]))]
    if len(by["language"]) > 1:
        pictures.append(("By language", draw_dots(overall, by["language"])))
    return pictures


def draw_dots(overall: Line, groups: Sequence[Line]) -> DotPicture:
    """Draw a row for all documents, and one for each group; of many groups, the ones with the most bytes.

    A group that has all documents is left out: it would repeat the first row.
    """
    parts = [line for line in groups if line.num_bytes < overall.num_bytes]
    drawn = sorted(parts, key=lambda line: -line.num_bytes)[:MOST_ROWS]
    lines = [overall, *drawn]
    values = [figure.bits_per_byte for line in lines for figure in line.figures]
    intervals = [figure.interval for line in lines for figure in line.figures if figure.interval is not None]
    values += [end for interval in intervals for end in (interval.low, interval.high)]
    ticks = round_ticks(min(values), max(values))
    rows = []
    for line in lines:
        dots = []
        for ink, figure in zip(choose_inks([figure.model for figure in line.figures]), line.figures, strict=True):
            at, interval = _percent(figure.bits_per_byte, ticks), figure.interval
            low, high = (_percent(interval.low, ticks), _percent(interval.high, ticks)) if interval else (at, at)
            dots.append(Dot(ink, figure.bits_per_byte, at, low, high))
        rows.append(DotRow(line, dots))
    return DotPicture(rows, len(parts) - len(drawn), [(_percent(tick, ticks), f"{tick:,.6g}") for tick in ticks])


def _percent(value: float, ticks: Sequence[float]) -> float:
    return 100 * (value - ticks[0]) / (ticks[-1] - ticks[0])
