"""The course of a training run as inline SVG: loss, learning rate, gradient norm, tokens/s and memory by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from flyte_llama.report.template import render
from flyte_llama.training import LossPoint, TrainingSummary

WIDTH, HEIGHT = 640, 220


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


def curves(points: Sequence[LossPoint]) -> list[Curve]:
    """A curve for each figure that was measured at two steps or more."""
    figures: dict[str, Callable[[LossPoint], float | None]] = {
        "training loss, nats a token": lambda point: point.loss,
        "learning rate": lambda point: point.learning_rate,
        "gradient norm": lambda point: point.grad_norm,
        "tokens/s": lambda point: point.tokens_per_s,
        "model FLOPs utilisation": lambda point: point.mfu,
        "peak memory of the first process, GiB": _gib,
    }
    found = []
    for name, figure in figures.items():
        measured = [(point.step, value) for point in points if (value := figure(point)) is not None]
        if len(measured) > 1:
            found.append(curve(name, [step for step, _ in measured], [value for _, value in measured]))
    return found


def _gib(point: LossPoint) -> float | None:
    return None if point.peak_memory_bytes is None else point.peak_memory_bytes / 2**30


def training_page(summary: TrainingSummary) -> str:
    """A whole HTML document, as the deck of a training task."""
    return render("training_page.html.j2", training=summary, curves=curves(summary.losses))


def curve(name: str, steps: Sequence[int], values: Sequence[float]) -> Curve:
    ticks = _round_values(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def y(value: float) -> float:
        return HEIGHT * (high - value) / (high - low)

    line = " ".join(f"{WIDTH * step / steps[-1]:.1f},{y(value):.1f}" for step, value in zip(steps, values, strict=True))
    return Curve(name, line, [(y(value), f"{value:,.6g}") for value in ticks], steps[-1])


def _round_values(low: float, high: float) -> list[float]:
    """From at most `low` to at least `high`, in steps of 1, 2 or 5 times a power of ten; two to eight of them."""
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 3))
    step = next(times * unit for times in (1, 2, 5, 10) if span / (times * unit) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
