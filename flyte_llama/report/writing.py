"""The texts that models wrote, completions and answers to FlyteEval, as summaries in figures.

The input is model → its rows, and the last model is the one that the report is about. Whether a completion is exact or
an answer passes was decided when the model was measured, not here. `samples` chooses the ones that people read.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from flyte_llama.config import Frozen
from flyte_llama.evaluation import Interval, wilson_interval
from flyte_llama.evaluation.completion import Completion
from flyte_llama.flyte_eval import LEVELS, Grade


class CompletionSummary(Frozen):
    """One model's completions of one task and layout."""

    model: str
    task: str
    layout: str
    num_cases: int
    num_exact: int
    exact_interval: Interval
    similarity: float
    """Mean edit similarity, from 0 to 1."""

    num_stopped: int
    """Completions that the model ended, rather than the token limit."""


class PassAt(Frozen):
    """pass@k of all items."""

    k: int
    share: float


class GroupResult(Frozen):
    """pass@1 of the items of one tier or topic."""

    name: str
    num_items: int
    pass_at_1: float


class LevelCount(Frozen):
    """The number of answers with this as their highest level."""

    rung: str
    num_answers: int


class FlyteEvalSummary(Frozen):
    """One model's answers in one layout, to whole tasks or to parts."""

    task: str = "FlyteEval"
    """`Grade.task`."""

    model: str
    layout: str
    num_items: int
    num_answers: int
    pass_at: list[PassAt]
    interval: Interval
    """95 % interval of pass@1: Wilson's, with items as cases; with several answers, an item counts the share that
    passed."""

    rungs: list[LevelCount]
    """From the lowest level to the highest."""

    by_tier: list[GroupResult]
    by_topic: list[GroupResult]


def summarise_completions(completions: Mapping[str, Sequence[Completion]]) -> list[CompletionSummary]:
    """Return one summary per task, layout and model, in this order."""
    groups: dict[tuple[str, str, int], list[Completion]] = defaultdict(list)
    for index, rows in enumerate(completions.values()):
        for row in rows:
            groups[row.task, row.layout, index].append(row)
    # Groups are sorted by the model's index, not its name, so that models keep their order.
    models = list(completions)
    return [
        CompletionSummary(
            model=models[index],
            task=task,
            layout=layout,
            num_cases=len(group),
            num_exact=sum(row.exact for row in group),
            exact_interval=wilson_interval(sum(row.exact for row in group), len(group)),
            similarity=math.fsum(row.similarity for row in group) / len(group),
            num_stopped=sum(row.stopped for row in group),
        )
        for (task, layout, index), group in sorted(groups.items())
    ]


def summarise_grades(grades: Mapping[str, Sequence[Grade]]) -> list[FlyteEvalSummary]:
    """Return one summary per task, layout and model, in this order."""
    summaries = []
    for task, layout in sorted({(row.task, row.layout) for rows in grades.values() for row in rows}):
        for model, rows in grades.items():
            answers = [row for row in rows if (row.task, row.layout) == (task, layout)]
            if answers:
                summaries.append(_summarise_answers(task, layout, model, answers))
    return summaries


def pass_at_k(answers: int, passed: int, k: int) -> float:
    """Return the probability that at least one of k answers, drawn without replacement, passes.

    Chen et al. 2021 (arXiv 2107.03374), equation 1.
    """
    return 1 - math.comb(answers - passed, k) / math.comb(answers, k)


def level_sort_key(level: str) -> tuple[int, str]:
    """Return a sort key for levels, from the lowest; unknown names come last."""
    return LEVELS.index(level) if level in LEVELS else len(LEVELS), level


def _summarise_answers(task: str, layout: str, model: str, rows: Sequence[Grade]) -> FlyteEvalSummary:
    items: dict[str, list[Grade]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.item, row.sample)):
        items[row.item].append(row)
    # pass@k needs k answers to every item: report the usual values of k, and the largest one possible.
    fewest = min(len(answers) for answers in items.values())
    usual_ks = [k for k in (1, 5, 10, 100) if k <= fewest]
    pass_at = []
    for k in sorted({*usual_ks, fewest}):
        probabilities = [pass_at_k(len(answers), _num_passed(answers), k) for answers in items.values()]
        pass_at.append(PassAt(k=k, share=math.fsum(probabilities) / len(items)))
    levels = Counter(row.rung for row in rows)
    return FlyteEvalSummary(
        task=task,
        model=model,
        layout=layout,
        num_items=len(items),
        num_answers=len(rows),
        pass_at=pass_at,
        # Answers to one item resemble each other, so an item is one case, however many answers it has.
        interval=wilson_interval(math.fsum(_num_passed(each) / len(each) for each in items.values()), len(items)),
        rungs=[LevelCount(rung=level, num_answers=levels[level]) for level in sorted(levels, key=level_sort_key)],
        by_tier=_pass_by_name(items, lambda row: [row.tier]),
        by_topic=_pass_by_name(items, lambda row: row.topics),
    )


def _num_passed(rows: Sequence[Grade]) -> int:
    return sum(row.passed for row in rows)


def _pass_by_name(items: Mapping[str, list[Grade]], names: Callable[[Grade], Sequence[str]]) -> list[GroupResult]:
    """Return pass@1 of the items of each name. An item with several topics counts under each of them."""
    shares: dict[str, list[float]] = defaultdict(list)
    for answers in items.values():
        for name in names(answers[0]):
            shares[name].append(_num_passed(answers) / len(answers))
    return [
        GroupResult(name=name, num_items=len(item_shares), pass_at_1=math.fsum(item_shares) / len(item_shares))
        for name, item_shares in sorted(shares.items())
    ]
