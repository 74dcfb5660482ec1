"""What models wrote, summed up: completions, and answers to FlyteEval. Rows come as the tables hold them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from flyte_llama.completion import Completion
from flyte_llama.evaluation import Interval, wilson_interval
from flyte_llama.evaluation.bootstrap import REPLICATES
from flyte_llama.evaluation.interval import percentile_interval
from flyte_llama.flyte_eval import RUNGS, Grade


class _Summary(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CompletionSummary(_Summary):
    """One model's completions of one task and layout."""

    model: str
    task: str
    layout: str
    num_cases: int
    num_exact: int
    exact_interval: Interval
    similarity: float
    """Mean edit similarity, 0 to 1."""

    num_stopped: int
    """Ended by the model itself, not by the limit."""


class PassAt(_Summary):
    k: int
    share: float


class Passed(_Summary):
    """Items of one tier, topic or other kind."""

    name: str
    num_items: int
    pass_at_1: float


class Reached(_Summary):
    """Answers that got to a rung of the ladder and no higher."""

    rung: str
    num_answers: int


class FlyteEvalSummary(_Summary):
    """One model's answers in one layout."""

    model: str
    layout: str
    num_items: int
    num_answers: int
    pass_at: list[PassAt]
    interval: Interval
    """95 % of pass@1: Wilson's with one answer an item, of items resampled with several."""

    rungs: list[Reached]
    """In the order of the ladder."""

    by_tier: list[Passed]
    by_topic: list[Passed]


def summarise_completions(rows: Mapping[str, Sequence[Completion]]) -> list[CompletionSummary]:
    """By task and layout, then by model."""
    groups: dict[tuple[str, str, int], list[Completion]] = defaultdict(list)
    for number, own in enumerate(rows.values()):
        for row in own:
            groups[row.task, row.layout, number].append(row)
    models = list(rows)
    return [
        CompletionSummary(
            model=models[number],
            task=task,
            layout=layout,
            num_cases=len(own),
            num_exact=sum(row.exact for row in own),
            exact_interval=wilson_interval(sum(row.exact for row in own), len(own)),
            similarity=math.fsum(row.similarity for row in own) / len(own),
            num_stopped=sum(row.stopped for row in own),
        )
        for (task, layout, number), own in sorted(groups.items())
    ]


def summarise_grades(rows: Mapping[str, Sequence[Grade]]) -> list[FlyteEvalSummary]:
    """By layout, then by model."""
    layouts = sorted({row.layout for own in rows.values() for row in own})
    chosen = [
        (model, layout, [row for row in own if row.layout == layout])
        for layout in layouts
        for model, own in rows.items()
    ]
    return [_flyte_eval(model, layout, own) for model, layout, own in chosen if own]


def pass_at_k(answers: int, passed: int, k: int) -> float:
    """The chance that one of k answers drawn from these passes: Chen et al. 2021 (arXiv 2107.03374), equation 1."""
    return 1 - math.comb(answers - passed, k) / math.comb(answers, k)


def step(rung: str) -> tuple[int, str]:
    """Sorts rungs as the ladder has them; one that is not known comes last."""
    return RUNGS.index(rung) if rung in RUNGS else len(RUNGS), rung


def _flyte_eval(model: str, layout: str, rows: Sequence[Grade]) -> FlyteEvalSummary:
    items: dict[str, list[Grade]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.item, row.sample)):
        items[row.item].append(row)
    fewest = min(len(own) for own in items.values())
    most = [k for k in (1, 5, 10, 100) if k <= fewest]
    rungs = Counter(row.rung for row in rows)
    return FlyteEvalSummary(
        model=model,
        layout=layout,
        num_items=len(items),
        num_answers=len(rows),
        pass_at=[
            PassAt(
                k=k,
                share=math.fsum(pass_at_k(len(own), _num_passed(own), k) for own in items.values()) / len(items),
            )
            for k in sorted({*most, fewest})
        ],
        interval=_pass_interval([(_num_passed(own), len(own)) for own in items.values()]),
        rungs=[Reached(rung=rung, num_answers=rungs[rung]) for rung in sorted(rungs, key=step)],
        by_tier=_passed(items, lambda row: [row.tier]),
        by_topic=_passed(items, lambda row: row.topics),
    )


def _num_passed(rows: Sequence[Grade]) -> int:
    return sum(row.passed for row in rows)


def _pass_interval(items: Sequence[tuple[int, int]]) -> Interval:
    """Of (passed, answers) of each item."""
    if all(answers == 1 for _, answers in items):
        return wilson_interval(sum(passed for passed, _ in items), len(items))
    shares = np.array([passed / answers for passed, answers in items])
    drawn = np.random.default_rng(0).integers(0, len(shares), size=(REPLICATES, len(shares)))
    return percentile_interval(shares[drawn].mean(axis=1), cases=max(2, len(shares)))


def _passed(items: Mapping[str, list[Grade]], names: Callable[[Grade], Sequence[str]]) -> list[Passed]:
    shares: dict[str, list[float]] = defaultdict(list)
    for own in items.values():
        for name in names(own[0]):
            shares[name].append(_num_passed(own) / len(own))
    return [
        Passed(name=name, num_items=len(own), pass_at_1=math.fsum(own) / len(own))
        for name, own in sorted(shares.items())
    ]
