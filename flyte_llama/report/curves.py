"""The course of a training run as inline SVG: loss, learning rate, gradient norm, tokens/s and memory by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flyte_llama.report.plots import Curve, curve
from flyte_llama.report.template import render
from flyte_llama.training import LossPoint, TrainingSummary


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
