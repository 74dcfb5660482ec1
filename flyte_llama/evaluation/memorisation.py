"""Memorisation check: did the model improve more on text it was trained on than on similar text it was not?

Gain is the reference's bits per byte minus the subject's. Train and held-out documents also differ in language and
kind, so only combinations of language and kind (cells) with enough documents on both sides count, and train's bits per
byte are averaged with the held-out bytes of each cell as weights. The result is a difference-in-differences: the gain
on train minus the gain on held-out. It cannot separate text learned by heart from a style that the train repositories
share.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from flyte_llama.config import Frozen
from flyte_llama.evaluation.comparison import Scores, stack_nats
from flyte_llama.evaluation.intervals import (
    MIN_DOCUMENTS,
    REPLICATES,
    Interval,
    bits_per_byte_replicates,
    percentile_interval,
)
from flyte_llama.evaluation.scores import DocumentScore
from flyte_llama.evaluation.suite import HELDOUT, TRAIN

Cell = tuple[str, str]
"""Language and kind."""


class ExtraGain(Frozen):
    """Gain on train text minus gain on unseen text, in bits per byte; positive if train text gained more."""

    reference: str
    subject: str
    train: float
    """Gain on train text."""

    heldout: float
    """Gain on held-out text."""

    difference: float
    """`train` - `heldout`."""

    interval: Interval
    """95 % interval of the difference; documents are resampled within their side, language and kind."""

    @property
    def is_found(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.interval.low > 0


class Memorisation(Frozen):
    """Bits per byte and gains of all models on train and held-out text."""

    of: list[str]
    """The languages and kinds compared, each as `python source`."""

    num_train: int
    num_heldout: int
    """Number of documents on each side."""

    train_bytes: int
    heldout_bytes: int
    models: list[str]
    train: list[float]
    """Bits per byte of each model on train text, weighted by the held-out bytes of each language and kind."""

    heldout: list[float]
    """Bits per byte of each model on held-out text."""

    extra_gains: list[ExtraGain]
    """One for each reference."""


def measure_memorisation(scores: Scores, *, replicates: int = REPLICATES, seed: int = 0) -> Memorisation | None:
    """Compare the gains on train and held-out text.

    Returns None if no language and kind has at least `MIN_DOCUMENTS` documents on both sides.

    Args:
        scores: The result of `align_scores`; the last model is the subject.
    """
    # choose the cells that have enough documents on both sides
    models = list(scores)
    sides = [_group_by_cell(scores, role) for role in (TRAIN, HELDOUT)]
    cells = sorted(
        cell for cell in sides[0].keys() & sides[1].keys() if all(len(side[cell]) >= MIN_DOCUMENTS for side in sides)
    )
    if not cells:
        return None
    # average the cells' bits per byte and replicates with held-out's bytes as weights, for each side
    weights = np.array([_bytes(scores, sides[1][cell]) for cell in cells], dtype=np.float64)
    weights /= weights.sum()
    # For each side (columns,) and (replicates, columns), with the columns of `stack_nats`.
    figures, spread = [], []
    for side_index, side in enumerate(sides):
        figures.append(sum(weight * _bits(scores, side[cell]) for weight, cell in zip(weights, cells, strict=True)))
        spread.append(
            sum(
                weight * _replicates(scores, side[cell], replicates, [seed, side_index, cell_index])
                for cell_index, (weight, cell) in enumerate(zip(weights, cells, strict=True))
            )
        )
    # compare the sides; the columns after the models' are changes, subject minus reference, so a gain is their negative
    (train, heldout), num_models = figures, len(models)
    cases = min(len(side[cell]) for cell in cells for side in sides)
    gains = [
        ExtraGain(
            reference=reference,
            subject=models[-1],
            train=-float(train[num_models + index]),
            heldout=-float(heldout[num_models + index]),
            difference=float(heldout[num_models + index] - train[num_models + index]),
            interval=percentile_interval((spread[1] - spread[0])[:, num_models + index], cases=cases),
        )
        for index, reference in enumerate(models[:-1])
    ]
    num_train, num_heldout = (sum(len(side[cell]) for cell in cells) for side in sides)
    train_bytes, heldout_bytes = (sum(_bytes(scores, side[cell]) for cell in cells) for side in sides)
    return Memorisation(
        of=[" ".join(cell) for cell in cells],
        num_train=num_train,
        num_heldout=num_heldout,
        train_bytes=train_bytes,
        heldout_bytes=heldout_bytes,
        models=models,
        train=[float(bits) for bits in train[:num_models]],
        heldout=[float(bits) for bits in heldout[:num_models]],
        extra_gains=gains,
    )


def _group_by_cell(scores: Scores, role: str) -> dict[Cell, list[int]]:
    """The rows of each cell's documents with this role."""
    rows = defaultdict(list)
    for row, score in enumerate(_first(scores)):
        if score.role == role:
            rows[score.language, score.kind].append(row)
    return rows


def _first(scores: Scores) -> Sequence[DocumentScore]:
    """The first model's scores; the other models have the same documents in the same order."""
    return next(iter(scores.values()))


def _bytes(scores: Scores, rows: Sequence[int]) -> int:
    return sum(_first(scores)[row].num_bytes for row in rows)


def _select(scores: Scores, rows: Sequence[int]) -> dict[str, list[DocumentScore]]:
    return {model: [model_scores[row] for row in rows] for model, model_scores in scores.items()}


def _bits(scores: Scores, rows: Sequence[int]) -> np.ndarray:
    """Bits per byte for each column of `stack_nats`."""
    bits: np.ndarray = stack_nats(_select(scores, rows)).sum(axis=0) / (math.log(2) * _bytes(scores, rows))
    return bits


def _replicates(scores: Scores, rows: Sequence[int], replicates: int, seed: Sequence[int]) -> np.ndarray:
    # One repository for all: a cell is resampled as a single stratum.
    documents = [_first(scores)[row] for row in rows]
    return bits_per_byte_replicates(
        stack_nats(_select(scores, rows)),
        np.array([score.num_bytes for score in documents]),
        [()] * len(documents),
        [score.sort_key for score in documents],
        scheme="documents",
        replicates=replicates,
        seed=seed,
    )
