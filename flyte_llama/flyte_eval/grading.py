"""Answers → how far each got, by running them in the sandbox beside what was seen of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from flyte_llama.flyte_eval.answering import Answer
from flyte_llama.flyte_eval.items import Item
from flyte_llama.flyte_eval.observing import Observation, Observer, Trial
from flyte_llama.flyte_eval.rungs import passes, rung_of
from flyte_llama.progress import say
from flyte_llama.rows import read_rows, write_rows

TABLE = "grades.parquet"
_SHOWN = 400


@dataclass(frozen=True, slots=True)
class Grade:
    item: str
    tier: str
    entity_kind: str
    topics: tuple[str, ...]
    repository: str
    path: str
    line: int
    licence: str
    permalink: str
    layout: str
    sample: int
    rung: str
    """The highest that was reached: `rungs.RUNGS`."""

    passed: bool
    """Whether that is the item's deciding rung, or above it."""

    error: str
    """What kept the answer from the next rung; empty where nothing failed."""

    wanted: str
    written: str
    prefix: str
    """The last characters before the mask."""


_TEXT = pa.string()
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("item", "tier", "entity_kind"), _TEXT),
        "topics": pa.list_(_TEXT),
        **dict.fromkeys(("repository", "path"), _TEXT),
        "line": pa.int64(),
        **dict.fromkeys(("licence", "permalink", "layout"), _TEXT),
        "sample": pa.int64(),
        "rung": _TEXT,
        "passed": pa.bool_(),
        **dict.fromkeys(("error", "wanted", "written", "prefix"), _TEXT),
    }
)


def grade(items: Sequence[Item], answers: Sequence[Answer], observer: Observer) -> list[Grade]:
    """One for each answer, in their order, but for answers to items whose own reference does not pass here and now.

    Such items hang on the day, the machine or the installed packages; how many they are is said.
    """
    known = {item.name: item for item in items}
    asked = [known[name] for name in sorted({own.item for own in answers})]
    trials = [Trial(known[own.item].module(own.text), known[own.item].entity) for own in answers]
    references = [Trial(item.module(item.reference), item.entity) for item in asked]
    # Equal modules are run once.
    different = sorted({*trials, *references})
    seen = dict(zip(different, observer.observe(different, what="running answers"), strict=True))
    sound = {
        item.name
        for item, trial in zip(asked, references, strict=True)
        if passes(rung_of(seen[trial], Observation.model_validate_json(item.expected)), item.decided_by)
    }
    if len(sound) < len(asked):
        say(f"FlyteEval: {len(asked) - len(sound)} of {len(asked)} tasks are left out: their references fail here")
    return [
        _grade(known[own.item], own, seen[trial])
        for own, trial in zip(answers, trials, strict=True)
        if own.item in sound
    ]


def write_grades(folder: Path, grades: Sequence[Grade], **facts: Any) -> None:
    write_rows(folder, TABLE, grades, SCHEMA, **facts)


def read_grades(folder: Path) -> list[Grade]:
    """Raises DataError if the folder is unfinished or damaged."""
    return [Grade(**{**row, "topics": tuple(row["topics"])}) for row in read_rows(folder, TABLE)[0]]


def _grade(item: Item, answer: Answer, seen: Observation) -> Grade:
    rung = rung_of(seen, Observation.model_validate_json(item.expected))
    return Grade(
        item=item.name,
        tier=item.tier,
        entity_kind=item.entity_kind,
        topics=item.topics,
        repository=item.repository,
        path=item.path,
        line=item.line,
        licence=item.licence,
        permalink=item.permalink,
        layout=answer.layout,
        sample=answer.sample,
        rung=rung,
        passed=passes(rung, item.decided_by),
        error=seen.error,
        wanted=item.reference,
        written=answer.text,
        prefix=item.prefix[-_SHOWN:],
    )
