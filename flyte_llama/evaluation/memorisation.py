"""The memorisation probe: was more gained on text that was trained on than on like text that was not?

Gain is bits per byte of a reference less those of the subject. Train and held-out documents differ in language and
kind too, so only languages and kinds with enough documents on both sides are taken, and train's bits per byte are
weighted by held-out's bytes of each: what is left is a difference-in-differences. It cannot tell text learned by heart
from the ways of its repositories, which train documents share with each other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from flyte_llama.evaluation.bootstrap import FEWEST, REPLICATES, bits_per_byte_replicates
from flyte_llama.evaluation.comparison import Scores, key_of, nats_of
from flyte_llama.evaluation.interval import Interval, percentile_interval
from flyte_llama.evaluation.loss import DocumentLoss
from flyte_llama.evaluation.roles import HELDOUT, TRAIN


class ExtraGain(BaseModel):
    """In bits per byte; positive where more was gained on train text than on unseen text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str
    subject: str
    train: float
    heldout: float
    difference: float
    interval: Interval
    """95 %, documents resampled within their side, language and kind."""

    @property
    def is_found(self) -> bool:
        return self.interval.low > 0


class Memorisation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    of: list[str]
    """Language and kind of the documents taken, as `python source`."""

    num_train: int
    num_heldout: int
    """Documents."""

    train_bytes: int
    heldout_bytes: int
    models: list[str]
    train: list[float]
    """Bits per byte of each model on train text, weighted as the held-out text is made up."""

    heldout: list[float]
    extra_gains: list[ExtraGain]
    """From each reference."""


Cell = tuple[str, str]


def probe(scores: Scores, *, replicates: int = REPLICATES, seed: int = 0) -> Memorisation | None:
    """None where there is no language and kind of which both train and held-out have `bootstrap.FEWEST` documents.

    Args:
        scores: As `matched` gives them.
    """
    models = list(scores)
    sides = [_cells(scores, role) for role in (TRAIN, HELDOUT)]
    cells = sorted(
        cell for cell in sides[0].keys() & sides[1].keys() if all(len(side[cell]) >= FEWEST for side in sides)
    )
    if not cells:
        return None
    weights = np.array([_bytes(scores, sides[1][cell]) for cell in cells], dtype=np.float64)
    weights /= weights.sum()
    # (columns,) and (replicates, columns), columns as of `nats_of`.
    figures, spread = [], []
    for number, side in enumerate(sides):
        figures.append(sum(weight * _bits(scores, side[cell]) for weight, cell in zip(weights, cells, strict=True)))
        spread.append(
            sum(
                weight * _replicates(scores, side[cell], replicates, [seed, number, place])
                for place, (weight, cell) in enumerate(zip(weights, cells, strict=True))
            )
        )
    (train, heldout), count = figures, len(models)
    cases = min(len(side[cell]) for cell in cells for side in sides)
    gains = [
        ExtraGain(
            reference=reference,
            subject=models[-1],
            train=-float(train[count + number]),
            heldout=-float(heldout[count + number]),
            difference=float(heldout[count + number] - train[count + number]),
            interval=percentile_interval((spread[1] - spread[0])[:, count + number], cases=cases),
        )
        for number, reference in enumerate(models[:-1])
    ]
    sizes = [[sum(len(side[cell]) for cell in cells) for side in sides]]
    sizes.append([sum(_bytes(scores, side[cell]) for cell in cells) for side in sides])
    return Memorisation(
        of=[" ".join(cell) for cell in cells],
        num_train=sizes[0][0],
        num_heldout=sizes[0][1],
        train_bytes=sizes[1][0],
        heldout_bytes=sizes[1][1],
        models=models,
        train=[float(bits) for bits in train[:count]],
        heldout=[float(bits) for bits in heldout[:count]],
        extra_gains=gains,
    )


def _cells(scores: Scores, role: str) -> dict[Cell, list[int]]:
    rows = defaultdict(list)
    for row, score in enumerate(_first(scores)):
        if score.role == role:
            rows[score.language, score.kind].append(row)
    return rows


def _first(scores: Scores) -> Sequence[DocumentLoss]:
    return next(iter(scores.values()))


def _bytes(scores: Scores, rows: Sequence[int]) -> int:
    return sum(_first(scores)[row].num_bytes for row in rows)


def _chosen(scores: Scores, rows: Sequence[int]) -> dict[str, list[DocumentLoss]]:
    return {model: [own[row] for row in rows] for model, own in scores.items()}


def _bits(scores: Scores, rows: Sequence[int]) -> np.ndarray:
    found: np.ndarray = nats_of(_chosen(scores, rows)).sum(axis=0) / (math.log(2) * _bytes(scores, rows))
    return found


def _replicates(scores: Scores, rows: Sequence[int], replicates: int, seed: Sequence[int]) -> np.ndarray:
    own = [_first(scores)[row] for row in rows]
    return bits_per_byte_replicates(
        nats_of(_chosen(scores, rows)),
        np.array([score.num_bytes for score in own]),
        [""] * len(own),
        [key_of(score) for score in own],
        scheme="documents",
        replicates=replicates,
        seed=seed,
    )
