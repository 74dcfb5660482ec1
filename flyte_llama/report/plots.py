"""The pictures of the report: their figures, and the coordinates that the templates draw as inline SVG.

Two of them need figures that no table has, and the report stores these: nats by position in the document
(`PositionLosses`) and the number of documents by bits per byte (`Histogram`). Everything else here is made from the
report and stored nowhere.

Every picture with axes is WIDTH by HEIGHT; y grows downwards, as in SVG. An axis ends at round values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from flyte_llama.config import Frozen
from flyte_llama.evaluation.comparison import Scores
from flyte_llama.evaluation.scores import DocumentScore
from flyte_llama.training import LossPoint

WIDTH, HEIGHT = 480, 190
_INKS = {"reference": "6 3", "published": "2 3", "subject": ""}
_BINS = 24


class PositionRange(Frozen):
    """The scored tokens at positions `first` to `last` of every document, counted from 1."""

    first: int
    last: int
    num_tokens: int
    nats_per_token: float


class PositionLosses(Frozen):
    """One model's nats per token by position."""

    model: str
    places: list[PositionRange]
    """Each twice as long as the one before: 1, 2 to 3, 4 to 7, …; empty if the scores have no sums by position."""


class Histogram(Frozen):
    """Number of documents by bits per byte."""

    width: float
    """Width of a bin in bits per byte. The first bin starts at 0; the last also holds every document above it."""

    models: list[str]
    counts: list[list[int]]
    """For each model, the number of documents in each bin."""


class Ink(NamedTuple):
    """How to draw a model: a colour, and a dash pattern for readers who cannot tell the colours apart."""

    model: str
    colour: str
    """Class of the page's style: `reference`, `published` or `subject`."""

    dash: str


class ModelLine(NamedTuple):
    """The polyline of one model."""

    ink: Ink
    points: str


class LinePicture(NamedTuple):
    """One polyline per model over the same axes."""

    name: str
    """The figure on the vertical axis."""

    across: str
    """The figure on the horizontal axis."""

    lines: list[ModelLine]
    ticks: list[tuple[float, str]]
    """Height in the picture and label of each tick."""

    marks: list[tuple[float, str]]
    """Horizontal position and label of each mark below the picture."""

    width: int = WIDTH
    height: int = HEIGHT


class CurvePicture(NamedTuple):
    """One figure over the steps of training: the points of an SVG polyline, and the axis."""

    name: str
    """The figure's name with its unit."""

    points: str
    ticks: list[tuple[float, str]]
    """Height in the picture and label of each tick."""

    last_step: int
    width: int = WIDTH
    height: int = HEIGHT


def sum_by_position(scores: Scores) -> list[PositionLosses]:
    """Return the nats per token of each model by position in the document."""
    return [
        PositionLosses(model=model, places=_position_ranges(model_scores)) for model, model_scores in scores.items()
    ]


def make_histogram(scores: Scores) -> Histogram:
    """Return the documents' bits per byte in 24 bins, up to at least each model's 99th percentile."""
    bits = {model: sorted(score.loss.bits_per_byte for score in model_scores) for model, model_scores in scores.items()}
    highest = max(values[min(len(values) - 1, math.ceil(0.99 * len(values)))] for values in bits.values())
    # Round the width up to a multiple of 0.01, so that the axis is easy to read.
    width = max(1, math.ceil(100 * highest / _BINS)) / 100
    counts = []
    for values in bits.values():
        bins = [0] * _BINS
        for value in values:
            bins[min(int(value / width), _BINS - 1)] += 1
        counts.append(bins)
    return Histogram(width=width, models=list(bits), counts=counts)


def choose_inks(models: Sequence[str]) -> list[Ink]:
    """Return the ink of each of one to three models. The last is solid in the page's colour, however many there are."""
    colours = {1: ["subject"], 2: ["reference", "subject"], 3: [*_INKS]}[len(models)]
    return [Ink(model, colour, _INKS[colour]) for model, colour in zip(models, colours, strict=True)]


def draw_positions(positions: Sequence[PositionLosses]) -> LinePicture | None:
    """Draw nats per token by position in the document; None if no document reaches the second range.

    Each range is twice as long as the one before it, so the horizontal axis is logarithmic.
    """
    ranges = max((losses.places for losses in positions), key=len, default=[])
    if len(ranges) < 2:
        return None
    values = [range_.nats_per_token for losses in positions for range_ in losses.places]
    ticks = round_ticks(min(values), max(values))
    range_width = WIDTH / (ranges[-1].last.bit_length() - 1)
    lines = []
    for ink, losses in zip(choose_inks([losses.model for losses in positions]), positions, strict=True):
        corners = [
            f"{range_width * (range_.first.bit_length() - 1):.1f},{_height(range_.nats_per_token, ticks):.1f}"
            for range_ in losses.places
        ]
        lines.append(ModelLine(ink, " ".join(corners)))
    # Label at most eight ranges, so that the labels do not overlap.
    every = math.ceil(len(ranges) / 8)
    marks = [(range_width * (range_.first.bit_length() - 1), f"{range_.first:,}") for range_ in ranges[::every]]
    return LinePicture("nats per token", "position of the token in its document", lines, _tick_labels(ticks), marks)


def draw_histogram(histogram: Histogram) -> LinePicture:
    """Draw the number of documents in each bin of bits per byte, as steps."""
    ticks = round_ticks(0, max(max(counts) for counts in histogram.counts))
    num_bins = len(histogram.counts[0])
    bin_width = WIDTH / num_bins
    lines = []
    for ink, counts in zip(choose_inks(histogram.models), histogram.counts, strict=True):
        corners = [
            f"{x:.1f},{_height(count, ticks):.1f}"
            for index, count in enumerate(counts)
            for x in (bin_width * index, bin_width * (index + 1))
        ]
        lines.append(ModelLine(ink, " ".join(corners)))
    marks = [(bin_width * index, f"{histogram.width * index:.3g}") for index in range(0, num_bins + 1, 4)]
    across = "bits per byte of the document; the last bin holds everything above"
    return LinePicture("documents", across, lines, _tick_labels(ticks), marks)


def draw_losses(points: Sequence[LossPoint]) -> LinePicture | None:
    """Draw the training loss, and the validation loss if it was measured; None with fewer than two logged steps."""
    losses = {
        Ink("training", "subject", ""): [(point.step, point.loss) for point in points],
        Ink("validation", "published", "6 3"): [
            (point.step, point.validation_loss) for point in points if point.validation_loss is not None
        ],
    }
    if len(points) < 2:
        return None
    values = [value for curve in losses.values() for _, value in curve]
    ticks, last_step = round_ticks(min(values), max(values)), points[-1].step
    marks = [(WIDTH * step / last_step, f"{step:,.0f}") for step in round_ticks(0, last_step) if step <= last_step]
    lines = [
        ModelLine(ink, " ".join(f"{WIDTH * step / last_step:.1f},{_height(value, ticks):.1f}" for step, value in curve))
        for ink, curve in losses.items()
        if len(curve) > 1
    ]
    return LinePicture("loss in nats per token", "step", lines, _tick_labels(ticks), marks)


def draw_training(points: Sequence[LossPoint]) -> list[CurvePicture]:
    """Draw one curve for each figure but the losses that was logged at two or more steps."""
    figures: dict[str, Callable[[LossPoint], float | None]] = {
        "learning rate": lambda point: point.learning_rate,
        "gradient norm": lambda point: point.grad_norm,
        "tokens/s": lambda point: point.tokens_per_s,
        "model FLOPs utilisation": lambda point: point.mfu,
        "peak memory of the first process, GiB": _peak_gib,
    }
    curves = []
    for name, figure in figures.items():
        logged = [(point.step, value) for point in points if (value := figure(point)) is not None]
        if len(logged) > 1:
            curves.append(draw_curve(name, [step for step, _ in logged], [value for _, value in logged]))
    return curves


def draw_curve(name: str, steps: Sequence[int], values: Sequence[float]) -> CurvePicture:
    """Draw the values as a curve; the horizontal axis runs from step 0 to the last step."""
    ticks = round_ticks(min(values), max(values))
    points = " ".join(
        f"{WIDTH * step / steps[-1]:.1f},{_height(value, ticks):.1f}" for step, value in zip(steps, values, strict=True)
    )
    return CurvePicture(name, points, _tick_labels(ticks), steps[-1])


def round_ticks(low: float, high: float) -> list[float]:
    """Return two to eight round values that cover `low` to `high`, in steps of 1, 2 or 5 times a power of ten."""
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 3))
    step = next(times * unit for times in (1, 2, 5, 10) if span / (times * unit) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _position_ranges(scores: Sequence[DocumentScore]) -> list[PositionRange]:
    """Sum over the documents that reach each range of positions."""
    ranges = []
    for power in range(max((len(score.position_nats) for score in scores), default=0)):
        reaching = [score for score in scores if len(score.position_nats) > power]
        num_tokens = sum(score.position_tokens[power] for score in reaching)
        if num_tokens:
            nats_per_token = math.fsum(score.position_nats[power] for score in reaching) / num_tokens
            first, last = 2**power, 2 ** (power + 1) - 1
            ranges.append(PositionRange(first=first, last=last, num_tokens=num_tokens, nats_per_token=nats_per_token))
    return ranges


def _peak_gib(point: LossPoint) -> float | None:
    return None if point.peak_memory_bytes is None else point.peak_memory_bytes / 2**30


def _height(value: float, ticks: Sequence[float]) -> float:
    return HEIGHT * (ticks[-1] - value) / (ticks[-1] - ticks[0])


def _tick_labels(ticks: Sequence[float]) -> list[tuple[float, str]]:
    return [(_height(value, ticks), f"{value:,.6g}") for value in ticks]
