"""Memorisation check: did the model improve more on text it was trained on than on similar text it was not?

Gain is the reference's bits per byte minus the subject's. Train and held-out documents also differ in language and
kind, so only combinations of the two (cells) that have documents on both sides count, and train documents are weighted
so that each cell has the share of bytes that it has on the held-out side (direct standardisation). The result is a
difference-in-differences: the gain on train minus the gain on held-out. It cannot separate text learned by heart from a
style that the train repositories share.

However small a cell is, it counts in the figure. It is too small to tell how much its documents differ, so for the
interval all cells of a side with fewer than `MIN_DOCUMENTS` documents are resampled together, see `intervals`. This
makes the interval wider, since their means differ too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from flyte_llama.config import Frozen
from flyte_llama.evaluation.comparison import Scores, stack_nats
from flyte_llama.evaluation.intervals import (
    MIN_DOCUMENTS,
    REPLICATES,
    Cases,
    Interval,
    bits_per_byte_replicates,
    merge_near_copies,
    percentile_interval,
)
from flyte_llama.evaluation.scores import DocumentScore
from flyte_llama.evaluation.suite import HELDOUT, TRAIN

MIN_EFFECTIVE_COUNT = 2
"""With a lower effective count on a side, a nominal 95 % interval was found to cover less than 90 %."""

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
    """95 % interval of the difference. Documents are resampled within their side, language and kind; small languages
    and kinds are resampled together."""

    @property
    def is_found(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.interval.low > 0


class ComparableText(Frozen):
    """How many train and held-out documents were measured, and how many of them can be compared."""

    of: list[str]
    """The languages and kinds that both sides have, each as `python source`."""

    num_train: int
    num_heldout: int
    """Number of documents of these languages and kinds."""

    measured_train: int
    measured_heldout: int
    """Number of all documents of the side."""

    train_cases: int
    heldout_cases: int
    """The same with near-copies counted once."""

    effective_count: float
    """How many cases of equal weight would tell as much, on the side where it is fewer; 0 without documents. Below
    `MIN_EFFECTIVE_COUNT` one case weighs more than all others of its side."""

    @property
    def is_enough(self) -> bool:
        """Whether both sides have enough documents for an interval that covers the true difference 95 % of the time."""
        has_cases = min(self.train_cases, self.heldout_cases) >= MIN_DOCUMENTS
        return has_cases and self.effective_count >= MIN_EFFECTIVE_COUNT


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


def find_comparable(scores: Scores) -> ComparableText:
    """Return how much text can be compared. It tells whether memorisation can be measured and, if not, what is missing.

    Args:
        scores: The result of `align_scores`.
    """
    return _count_comparable(scores, *_comparable_sides(scores))


def measure_memorisation(scores: Scores, *, replicates: int = REPLICATES, seed: int = 0) -> Memorisation | None:
    """Compare the gains on train and held-out text.

    Returns None if there is too little text that can be compared; `find_comparable` tells what is missing.

    Args:
        scores: The result of `align_scores`; the last model is the subject.
    """
    sides = _comparable_sides(scores)
    comparable = _count_comparable(scores, *sides)
    if not comparable.is_enough:
        return None
    # For each side (columns,) and (replicates, columns), with the columns of `stack_nats`.
    models, figures, spread = list(scores), [], []
    for side_index, (_, cases) in enumerate(sides):
        figures.append(cases.nats.sum(axis=0) / (math.log(2) * cases.num_bytes.sum()))
        spread.append(bits_per_byte_replicates(*cases, replicates=replicates, seed=[seed, side_index]))
    # compare the sides; the columns after the models' are changes, subject minus reference, so a gain is their negative
    (train, heldout), num_models = figures, len(models)
    num_cases = int(comparable.effective_count)
    gains = [
        ExtraGain(
            reference=reference,
            subject=models[-1],
            train=-float(train[num_models + index]),
            heldout=-float(heldout[num_models + index]),
            difference=float(heldout[num_models + index] - train[num_models + index]),
            interval=percentile_interval((spread[1] - spread[0])[:, num_models + index], cases=num_cases),
        )
        for index, reference in enumerate(models[:-1])
    ]
    train_bytes, heldout_bytes = (sum(score.num_bytes for score in side.documents) for side in sides)
    return Memorisation(
        of=comparable.of,
        num_train=comparable.num_train,
        num_heldout=comparable.num_heldout,
        train_bytes=train_bytes,
        heldout_bytes=heldout_bytes,
        models=models,
        train=[float(bits) for bits in train[:num_models]],
        heldout=[float(bits) for bits in heldout[:num_models]],
        extra_gains=gains,
    )


class _Side(NamedTuple):
    """The documents of a side whose language and kind the other side has too."""

    documents: list[DocumentScore]
    """Of the first model; the other models have the same documents in the same order."""

    cases: Cases
    """Scaled so that each cell has as many bytes as on the held-out side."""


def _comparable_sides(scores: Scores) -> tuple[_Side, _Side]:
    """The train and the held-out side."""
    documents = next(iter(scores.values()))
    train, heldout = (
        [row for row, score in enumerate(documents) if score.role == role and score.num_bytes]
        for role in (TRAIN, HELDOUT)
    )
    shared = {_cell(documents[row]) for row in train} & {_cell(documents[row]) for row in heldout}
    train, heldout = ([row for row in rows if _cell(documents[row]) in shared] for rows in (train, heldout))
    wanted = _bytes_by_cell(documents[row] for row in heldout)
    return _make_side(scores, train, wanted), _make_side(scores, heldout, wanted)


def _make_side(scores: Scores, rows: Sequence[int], wanted: Counter[Cell]) -> _Side:
    side = {model: [model_scores[row] for row in rows] for model, model_scores in scores.items()}
    documents = next(iter(side.values()))
    own = _bytes_by_cell(documents)
    weights = np.array([wanted[_cell(score)] / own[_cell(score)] for score in documents])
    nats, num_bytes = stack_nats(side), np.array([score.num_bytes for score in documents])
    cells, keys = [_cell(score) for score in documents], [score.sort_key for score in documents]
    cases = Cases(nats * weights.reshape(-1, 1), num_bytes * weights, cells, keys)
    return _Side(documents, merge_near_copies(cases, [score.near_copies for score in documents]))


def _count_comparable(scores: Scores, train: _Side, heldout: _Side) -> ComparableText:
    roles = Counter(score.role for score in next(iter(scores.values())))
    return ComparableText(
        of=sorted({" ".join(_cell(score)) for score in heldout.documents}),
        num_train=len(train.documents),
        num_heldout=len(heldout.documents),
        measured_train=roles[TRAIN],
        measured_heldout=roles[HELDOUT],
        train_cases=len(train.cases.keys),
        heldout_cases=len(heldout.cases.keys),
        effective_count=min(_effective_count(side.cases.num_bytes) for side in (train, heldout)),
    )


def _cell(score: DocumentScore) -> Cell:
    return score.language, score.kind


def _bytes_by_cell(documents: Iterable[DocumentScore]) -> Counter[Cell]:
    num_bytes = Counter[Cell]()
    for score in documents:
        num_bytes[_cell(score)] += score.num_bytes
    return num_bytes


def _effective_count(weights: np.ndarray) -> float:
    """How many documents of equal weight would tell as much: (Σ weight)² / Σ weight² (Kish 1965, Survey Sampling)."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0
