"""The cases that several models were measured on: matched, and compared case by case.

    model → completions or grades → the same cases for all models, and what was left out
                                  → how the share of right cases changed, and whether by chance

Models are compared on the same cases or not at all. What is matched is a completed line or span, or an answer to an
item of FlyteEval. What chance is judged by is coarser, since lines of one document rise and fall together, as do the
items of one definition: its body and its whole. So a case is a document, or a definition of FlyteEval.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from flyte_llama.config import Frozen
from flyte_llama.evaluation.completion import Completion
from flyte_llama.evaluation.intervals import chance_of_fall
from flyte_llama.flyte_eval import Grade

_LEVEL = 0.025
"""The chance below which a change is none, one-sided, as of a 95 % interval. All figures of FlyteEval share it, and all
figures of completions do."""

Row = TypeVar("Row", Completion, Grade)
_Figure = tuple[str, str, str]
"""Figure, task and layout, as in `WrittenChange`."""


class WrittenChange(Frozen):
    """How one figure of the texts that models wrote changed from a reference to the subject, on the same cases."""

    figure: Literal["exact", "similarity", "pass@1"]
    """The share of exact completions, their mean edit similarity, or pass@1 of FlyteEval."""

    task: str
    """`FlyteEval`, `FlyteEval parts`, or the task of the completions, such as `line`."""

    layout: str
    reference: str
    subject: str
    num_cases: int
    """Documents of completions, definitions of FlyteEval."""

    before: float
    """Mean over the cases of each one's mean, 0 to 1."""

    after: float
    is_worse: bool
    """Whether it fell beyond chance."""

    is_better: bool
    """Whether it rose beyond chance."""


class Matched(NamedTuple):
    """The rows of all models on the same cases."""

    rows: dict[str, list]
    """Model → its rows."""

    left_out: list[str]
    """One sentence for each group of cases that was not measured on all models."""


def match_completions(completions: Mapping[str, Sequence[Completion]]) -> Matched:
    """Keep the lines and spans that every model completed, by task and layout."""
    return _match(completions, case=lambda row: (row.document, row.begin, row.wanted), nouns="cases")


def match_grades(grades: Mapping[str, Sequence[Grade]]) -> Matched:
    """Keep the answers to items that every model was graded on, by task and layout.

    An item is missing from one model's grades if its reference failed when they were made.
    """
    return _match(grades, case=lambda row: (row.item, row.sample), nouns="answers")


def group_name(row: Completion | Grade) -> str:
    """Return the name of the group that a row is matched and compared in: its task and layout."""
    return f"{row.task}, {row.layout}"


def compare_completions(completions: Mapping[str, Sequence[Completion]]) -> list[WrittenChange]:
    """Compare the last model with each one before it, by task and layout: exact texts, and edit similarity.

    A document is one case.

    Args:
        completions: The rows of `match_completions`.
    """
    figures: dict[str, Callable[[Completion], float]] = {
        "exact": lambda row: float(row.exact),
        "similarity": lambda row: row.similarity,
    }
    values = {
        model: {
            (name, task, layout): {
                document: [figure(row) for row in same_document]
                for document, same_document in _grouped(group, lambda row: row.document).items()
            }
            for (task, layout), group in _grouped(rows, lambda row: (row.task, row.layout)).items()
            for name, figure in figures.items()
        }
        for model, rows in completions.items()
    }
    return _compare(values)


def compare_grades(grades: Mapping[str, Sequence[Grade]]) -> list[WrittenChange]:
    """Compare the last model with each one before it by pass@1, by task and layout; a definition is one case.

    Args:
        grades: The rows of `match_grades`.
    """
    values = {
        model: {
            ("pass@1", task, layout): {
                definition: [float(row.passed) for row in answers]
                for definition, answers in _grouped(group, _definition).items()
            }
            for (task, layout), group in _grouped(rows, lambda row: (row.task, row.layout)).items()
        }
        for model, rows in grades.items()
    }
    return _compare(values)


def _match(rows: Mapping[str, Sequence[Row]], *, case: Callable[[Row], Hashable], nouns: str) -> Matched:
    # each group's cases by model; a model that has no case of a group was not asked for it
    cases: dict[str, dict[str, set[Hashable]]] = defaultdict(lambda: {model: set() for model in rows})
    for model, model_rows in rows.items():
        for row in model_rows:
            cases[group_name(row)][model].add(case(row))
    common: dict[str, set[Hashable]] = {}
    left_out = []
    for name, by_model in sorted(cases.items()):
        measured = {model: each for model, each in by_model.items() if each}
        common[name] = set.intersection(*measured.values())
        if len(measured) < len(rows):
            missing = ", ".join(model for model in rows if model not in measured)
            left_out.append(f"{name}: {missing} has no {nouns}, so it is not compared with the others.")
        if dropped := len(set.union(*measured.values())) - len(common[name]):
            left_out.append(
                f"{name}: {dropped:,} {nouns} are left out, since only some of the models were measured on them; "
                f"{len(common[name]):,} are compared."
            )
    kept = {
        model: [row for row in model_rows if case(row) in common[group_name(row)]] for model, model_rows in rows.items()
    }
    return Matched(kept, left_out)


def _definition(row: Grade) -> Hashable:
    """The definition that an item masks: its document and its entity, which the item's name holds before the tier."""
    return row.document, row.item.removesuffix(f" {row.tier}")


def _compare(values: Mapping[str, Mapping[_Figure, Mapping[Hashable, list[float]]]]) -> list[WrittenChange]:
    """Compare the last model with each other one, figure by figure.

    Args:
        values: Model → figure → case → its values, of which the mean counts.
    """
    *references, subject = values or [""]
    changes = []
    for reference in references:
        shared = [figure for figure in values[subject] if figure in values[reference]]
        for figure in shared:
            before, after = (
                np.array([np.mean(cases[key]) for key in values[subject][figure]])
                for cases in (values[reference][figure], values[subject][figure])
            )
            name, task, layout = figure
            changes.append(
                WrittenChange(
                    figure=name,
                    task=task,
                    layout=layout,
                    reference=reference,
                    subject=subject,
                    num_cases=len(before),
                    before=float(before.mean()),
                    after=float(after.mean()),
                    is_worse=chance_of_fall(after - before) * len(shared) < _LEVEL,
                    is_better=chance_of_fall(before - after) * len(shared) < _LEVEL,
                )
            )
    return changes


def _grouped(rows: Sequence[Row], key: Callable[[Row], Hashable]) -> dict:
    groups = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups
