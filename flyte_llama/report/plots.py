"""Figures → places in a picture: what the templates draw as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from flyte_llama.evaluation import Histogram, Line, Positions

WIDTH, HEIGHT = 480, 190
_COLOURS = ("#7b8494", "#1f8a80", "#7652a2")
_DASHES = ("6 3", "2 3", "")


class Curve(NamedTuple):
    """One figure as the points of an SVG polyline, and its axis."""

    name: str
    """With its unit."""

    points: str
    ticks: list[tuple[float, str]]
    """Height in the picture and label of each round value."""

    last_step: int
    width: int = WIDTH
    height: int = HEIGHT


class Ink(NamedTuple):
    """How a model is drawn: in a colour, and a dash for those who do not see it."""

    model: str
    colour: str
    dash: str


class Drawn(NamedTuple):
    ink: Ink
    points: str


class Lines(NamedTuple):
    """A polyline a model over the same axes."""

    name: str
    across: str
    drawn: list[Drawn]
    ticks: list[tuple[float, str]]
    marks: list[tuple[float, str]]
    """Place and label along the picture."""

    width: int = WIDTH
    height: int = HEIGHT


class Whisker(NamedTuple):
    """A change with its interval, in per cent of the picture's width."""

    line: Line
    at: float
    low: float
    high: float


class Whiskers(NamedTuple):
    rows: list[Whisker]
    zero: float
    lowest: str
    highest: str


def inks(models: Sequence[str]) -> list[Ink]:
    """The first model grey and dashed, the last one, if another, in the page's colour."""
    places = [0, 1, 2] if len(models) == 3 else [0, 2] if len(models) == 2 else [2]
    return [Ink(model, _COLOURS[place], _DASHES[place]) for model, place in zip(models, places, strict=True)]


def curve(name: str, steps: Sequence[int], values: Sequence[float]) -> Curve:
    ticks = round_values(min(values), max(values))
    line = " ".join(
        f"{WIDTH * step / steps[-1]:.1f},{_height(value, ticks):.1f}" for step, value in zip(steps, values, strict=True)
    )
    return Curve(name, line, _labelled(ticks), steps[-1])


def loss_by_position(positions: Sequence[Positions]) -> Lines | None:
    """Nats a token by place in the document, each doubling as wide as the one before; None if there is none."""
    places = max((own.places for own in positions), key=len, default=[])
    if len(places) < 2:
        return None
    values = [place.nats_per_token for own in positions for place in own.places]
    ticks = round_values(min(values), max(values))
    apart = WIDTH / (places[-1].last.bit_length() - 1)
    drawn = [
        Drawn(
            ink,
            " ".join(
                f"{apart * (place.first.bit_length() - 1):.1f},{_height(place.nats_per_token, ticks):.1f}"
                for place in own.places
            ),
        )
        for ink, own in zip(inks([own.model for own in positions]), positions, strict=True)
    ]
    every = math.ceil(len(places) / 8)
    marks = [(apart * (place.first.bit_length() - 1), f"{place.first:,}") for place in places[::every]]
    return Lines("nats a token", "number of the token in its document", drawn, _labelled(ticks), marks)


def spread(histogram: Histogram) -> Lines:
    """Documents by their own bits per byte, as steps."""
    ticks = round_values(0, max(max(own) for own in histogram.counts))
    bins = len(histogram.counts[0])
    wide = WIDTH / bins
    drawn = []
    for ink, counts in zip(inks(histogram.models), histogram.counts, strict=True):
        corners = [
            f"{x:.1f},{_height(count, ticks):.1f}"
            for number, count in enumerate(counts)
            for x in (wide * number, wide * (number + 1))
        ]
        drawn.append(Drawn(ink, " ".join(corners)))
    marks = [(wide * number, f"{histogram.width * number:.3g}") for number in range(0, bins + 1, 4)]
    return Lines(
        "documents", "bits per byte of the document; the last bin has all above", drawn, _labelled(ticks), marks
    )


def whiskers(lines: Sequence[Line]) -> Whiskers | None:
    """Change from the base of each line, all on one scale that has 0 on it; None without a base."""
    if not lines or not lines[0].changes:
        return None
    ends = [0.0]
    for line in lines:
        change = line.changes[0]
        ends += [change.difference, *((change.widest.low, change.widest.high) if change.widest else ())]
    low, high = min(ends), max(ends)
    margin = 0.04 * ((high - low) or 1.0)
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    rows = []
    for line in lines:
        change = line.changes[0]
        own = change.widest
        at = place(change.difference)
        rows.append(Whisker(line, at, place(own.low) if own else at, place(own.high) if own else at))
    return Whiskers(rows, place(0.0), f"{low + margin:+.3f}", f"{high - margin:+.3f}")


def round_values(low: float, high: float) -> list[float]:
    """From at most `low` to at least `high`, in steps of 1, 2 or 5 times a power of ten; two to eight of them."""
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 3))
    step = next(times * unit for times in (1, 2, 5, 10) if span / (times * unit) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _height(value: float, ticks: Sequence[float]) -> float:
    return HEIGHT * (ticks[-1] - value) / (ticks[-1] - ticks[0])


def _labelled(ticks: Sequence[float]) -> list[tuple[float, str]]:
    return [(_height(value, ticks), f"{value:,.6g}") for value in ticks]
