"""FlyteEval item by item: the highest level of each model's answers, for the ladders of the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from flyte_llama.config import Frozen
from flyte_llama.documents import draw
from flyte_llama.flyte_eval import LEVELS, Grade

MOST_ITEMS = 200
"""Items of a report; of more, some are drawn by a hash of their names."""


class BestAnswer(Frozen):
    """The best answer of one model to an item."""

    model: str
    rung: str
    """The highest level that any of its answers reached: one of `LEVELS`."""

    passed: bool
    """Whether any of its answers passed."""


class ItemLevels(Frozen):
    """One item of FlyteEval in one layout."""

    item: str
    tier: str
    layout: str
    link: str
    """URL of the function's line; empty if the host is not known."""

    answers: list[BestAnswer]
    """One for each model that answered it, in the order of the models."""


def find_levels(grades: Mapping[str, Sequence[Grade]]) -> list[ItemLevels]:
    """Return the items, `MOST_ITEMS` at most, best answered first by the last model.

    Args:
        grades: Model → its grades, on the same items.
    """
    answers: dict[tuple[str, str], dict[str, list[Grade]]] = defaultdict(lambda: defaultdict(list))
    for model, rows in grades.items():
        for row in rows:
            answers[row.item, row.layout][model].append(row)
    chosen = sorted(answers, key=lambda key: draw(*key))[:MOST_ITEMS]
    items = [_best_answers(answers[key]) for key in chosen]
    return sorted(items, key=lambda item: (_order(item), item.item, item.layout))


def _best_answers(by_model: Mapping[str, list[Grade]]) -> ItemLevels:
    row = next(iter(by_model.values()))[0]
    best = {model: max(rows, key=_rank) for model, rows in by_model.items()}
    return ItemLevels(
        item=row.item,
        tier=row.tier,
        layout=row.layout,
        link=row.permalink,
        answers=[BestAnswer(model=model, rung=grade.rung, passed=grade.passed) for model, grade in best.items()],
    )


def _order(item: ItemLevels) -> list[tuple[bool, int]]:
    """Sort key: the last model's highest level first."""
    return [(not answer.passed, -level_index(answer.rung)) for answer in reversed(item.answers)]


def _rank(grade: Grade) -> tuple[bool, int]:
    return grade.passed, level_index(grade.rung)


def level_index(level: str) -> int:
    """Return the number of steps up the ladder: 0 for `nothing`, and for a level that is not known."""
    return LEVELS.index(level) if level in LEVELS else 0
