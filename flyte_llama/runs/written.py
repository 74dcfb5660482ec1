"""What the models of two runs wrote for the same prompts: items of FlyteEval gained and lost, completions that changed.

The rows are those of `common.write_common`: the same cases for both, A's and B's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from flyte_llama.config import Frozen
from flyte_llama.evaluation.completion import Completion
from flyte_llama.flyte_eval import Grade
from flyte_llama.report.samples import LONG_ENOUGH, Sample, make_completion_sample

_SAMPLES = 5
"""Completions shown of each kind: closer to the wanted text than before, and farther from it."""


class ChangedItem(Frozen):
    """An item that more, or fewer, answers of B pass than of A."""

    item: str
    passed_a: int
    """Answers that passed."""

    passed_b: int
    num_answers: int


class ItemsDifference(Frozen):
    """FlyteEval in one layout: the tasks, or the parts, that both answered."""

    task: str
    """`FlyteEval` or `FlyteEval parts`."""

    layout: str
    num_items: int
    passed_a: int
    """Items that at least one answer passed."""

    passed_b: int
    gained: list[ChangedItem]
    """By name; so are the lost ones."""

    lost: list[ChangedItem]


class CompletionsDifference(Frozen):
    """The completions of one task in one layout."""

    task: str
    layout: str
    num_cases: int
    num_changed: int
    """Completions of which B wrote another text than A."""

    exact_gained: int
    exact_lost: int
    closer: int
    """Changed ones that are more similar to the wanted text than before."""

    farther: int


class Written(NamedTuple):
    """Everything that two models wrote, compared."""

    items: list[ItemsDifference]
    completions: list[CompletionsDifference]
    samples: list[Sample]


def compare_written(
    completions: Sequence[Sequence[Completion]],
    grades: Sequence[Sequence[Grade]],
    *,
    revisions: Mapping[str, str] = MappingProxyType({}),
) -> Written:
    """Compare what A and B wrote.

    Args:
        completions: A's and B's, of the same cases; empty if they are not compared.
        grades: Likewise, of the same answers.
        revisions: URL of a source → the revision that B read, for links to files.
    """
    pairs = _pair(*completions) if completions else []
    return Written(
        _compare_items(*grades) if grades else [], _compare_completions(pairs), _choose_samples(pairs, revisions)
    )


def _compare_items(a: Sequence[Grade], b: Sequence[Grade]) -> list[ItemsDifference]:
    counts: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0, 0]))
    for index, grades in enumerate((a, b)):
        for grade in grades:
            answers = counts[grade.task, grade.layout][grade.item]
            answers[index] += grade.passed
            answers[2] += index
    differences = []
    for (task, layout), items in sorted(counts.items()):
        changed = [
            ChangedItem(item=item, passed_a=passed_a, passed_b=passed_b, num_answers=num_answers)
            for item, (passed_a, passed_b, num_answers) in sorted(items.items())
            if passed_a != passed_b
        ]
        differences.append(
            ItemsDifference(
                task=task,
                layout=layout,
                num_items=len(items),
                passed_a=sum(passed > 0 for passed, _, _ in items.values()),
                passed_b=sum(passed > 0 for _, passed, _ in items.values()),
                gained=[item for item in changed if item.passed_b > item.passed_a],
                lost=[item for item in changed if item.passed_b < item.passed_a],
            )
        )
    return differences


def _pair(a: Sequence[Completion], b: Sequence[Completion]) -> list[tuple[Completion, Completion]]:
    """Return each case's two completions, by task, layout and place."""
    by_key = {_key(row): row for row in a}
    return [(by_key[_key(row)], row) for row in sorted(b, key=_key)]


def _key(row: Completion) -> tuple[str, str, str, str, int]:
    return row.task, row.layout, row.url, row.path, row.begin


def _compare_completions(pairs: Sequence[tuple[Completion, Completion]]) -> list[CompletionsDifference]:
    groups: dict[tuple[str, str], list[tuple[Completion, Completion]]] = defaultdict(list)
    for a, b in pairs:
        groups[a.task, a.layout].append((a, b))
    return [
        CompletionsDifference(
            task=task,
            layout=layout,
            num_cases=len(group),
            num_changed=sum(a.written != b.written for a, b in group),
            exact_gained=sum(b.exact and not a.exact for a, b in group),
            exact_lost=sum(a.exact and not b.exact for a, b in group),
            closer=sum(b.similarity > a.similarity for a, b in group),
            farther=sum(b.similarity < a.similarity for a, b in group),
        )
        for (task, layout), group in sorted(groups.items())
    ]


def _choose_samples(pairs: Sequence[tuple[Completion, Completion]], revisions: Mapping[str, str]) -> list[Sample]:
    """Choose the completions that came closer to the wanted text than A's, then those that went farther from it.

    The largest changes, one of a file at most, and long texts before short ones, which are alike by chance.
    """
    changed = [(b.similarity - a.similarity, a, b) for a, b in pairs]
    chosen = []
    for is_good, sign in ((True, 1), (False, -1)):
        rows = sorted(
            (row for row in changed if sign * row[0] > 0),
            key=lambda row: (len(row[1].wanted.strip()) < LONG_ENOUGH, -sign * row[0], _key(row[1])),
        )
        by_file: dict[tuple[str, str], tuple[float, Completion, Completion]] = {}
        for row in rows:
            by_file.setdefault((row[1].url, row[1].path), row)
        shown = list(by_file.values())[:_SAMPLES]
        chosen += [
            make_completion_sample(
                {"A": a, "B": b}, repository=b.repository, revision=revisions.get(b.url, ""), is_good=is_good
            )
            for _, a, b in shown
        ]
    return chosen
