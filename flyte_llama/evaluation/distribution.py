"""How a model's nats lie: by place in a document, and over documents."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from flyte_llama.evaluation.comparison import Scores
from flyte_llama.evaluation.loss import DocumentLoss

_BINS = 24


class Place(BaseModel):
    """Scored tokens number `first` to `last` of their documents, counted from 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: int
    last: int
    num_tokens: int
    nats_per_token: float


class Positions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    places: list[Place]
    """Doubling in length; empty if positions were not kept."""


class Histogram(BaseModel):
    """Documents by their own bits per byte."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: float
    """Of a bin, in bits per byte; the first begins at 0, the last holds all above too."""

    models: list[str]
    counts: list[list[int]]
    """Of each model, by bin."""


def positions(scores: Scores) -> list[Positions]:
    return [Positions(model=model, places=_places(own)) for model, own in scores.items()]


def histogram(scores: Scores) -> Histogram:
    """In 24 bins of one round width, to the highest of the models' 99th percentiles or a little further."""
    bits = {model: sorted(score.loss.bits_per_byte for score in own) for model, own in scores.items()}
    highest = max(own[min(len(own) - 1, math.ceil(0.99 * len(own)))] for own in bits.values())
    # Whole multiples of 0.01 are round enough to read.
    width = max(1, math.ceil(100 * highest / _BINS)) / 100
    counts = []
    for own in bits.values():
        bins = [0] * _BINS
        for value in own:
            bins[min(int(value / width), _BINS - 1)] += 1
        counts.append(bins)
    return Histogram(width=width, models=list(bits), counts=counts)


def _places(scores: Sequence[DocumentLoss]) -> list[Place]:
    places = []
    for number in range(max((len(score.position_nats) for score in scores), default=0)):
        own = [score for score in scores if len(score.position_nats) > number]
        num_tokens = sum(score.position_tokens[number] for score in own)
        if num_tokens:
            nats = math.fsum(score.position_nats[number] for score in own)
            places.append(
                Place(
                    first=2**number, last=2 ** (number + 1) - 1, num_tokens=num_tokens, nats_per_token=nats / num_tokens
                )
            )
    return places
