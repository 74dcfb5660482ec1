"""Answers → grades: each answer is run in the sandbox and compared with the observation of its item's reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from flyte_llama.documents import DocumentId
from flyte_llama.flyte_eval.answering import Answer
from flyte_llama.flyte_eval.items import Item
from flyte_llama.flyte_eval.observing import Observation, Observer, Trial, level_of, passes
from flyte_llama.flyte_eval.parts import PARTS
from flyte_llama.progress import say
from flyte_llama.storage import read_table, write_table

TABLE = "grades.parquet"
_TEXT = pa.string()
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("item", "tier", "entity_kind"), _TEXT),
        "topics": pa.list_(_TEXT),
        **dict.fromkeys(("repository", "url", "path"), _TEXT),
        **dict.fromkeys(("start", "line"), pa.int64()),
        **dict.fromkeys(("licence", "permalink", "layout"), _TEXT),
        "sample": pa.int64(),
        "rung": _TEXT,
        "passed": pa.bool_(),
        **dict.fromkeys(("error", "wanted", "written", "prefix"), _TEXT),
    }
)
_PREFIX_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class Grade:
    """The level that one answer reached, with all that a report shows about it."""

    item: str
    tier: str
    entity_kind: str
    topics: tuple[str, ...]
    repository: str
    url: str
    path: str
    start: int
    line: int
    licence: str
    permalink: str
    layout: str
    sample: int
    rung: str
    """The highest level that it reached: one of `observing.LEVELS`."""

    passed: bool
    """True if that is the item's deciding level or above it."""

    error: str
    """The error that kept the answer from the next level; empty if nothing failed."""

    wanted: str
    """The reference."""

    written: str
    """The answer."""

    prefix: str
    """The last `_PREFIX_CHARACTERS` characters before the mask."""

    @property
    def document(self) -> DocumentId:
        return DocumentId(self.url, self.path, self.start)

    @property
    def task(self) -> str:
        """What was asked for; each has figures of its own, since parts are easier."""
        return "FlyteEval parts" if self.tier in PARTS else "FlyteEval"


def grade_answers(items: Sequence[Item], answers: Sequence[Answer], observer: Observer) -> list[Grade]:
    """Return one grade per answer, in order.

    An item is left out if its reference no longer passes: its result depends on the day, the machine or the installed
    packages. One line reports how many items were left out.
    """
    by_name = {item.name: item for item in items}
    answered = [by_name[name] for name in sorted({answer.item for answer in answers})]

    # run all answers and references, equal modules only once
    trials = [Trial(by_name[answer.item].module(answer.text), by_name[answer.item].entity) for answer in answers]
    references = [Trial(item.module(item.reference), item.entity) for item in answered]
    distinct = sorted({*trials, *references})
    observations = dict(zip(distinct, observer.observe(distinct, what="running answers"), strict=True))

    # leave out items if their reference fails, and grade the other answers
    sound = {
        item.name
        for item, trial in zip(answered, references, strict=True)
        if passes(level_of(observations[trial], Observation.model_validate_json(item.expected)), item.decided_by)
    }
    if len(sound) < len(answered):
        say(
            f"FlyteEval: {len(answered) - len(sound)} of {len(answered)} tasks are left out: their references fail here"
        )
    return [
        _make_grade(by_name[answer.item], answer, observations[trial])
        for answer, trial in zip(answers, trials, strict=True)
        if answer.item in sound
    ]


def write_grades(folder: Path, grades: Sequence[Grade], **facts: Any) -> None:
    """Write `grades.parquet` and seal the folder, with `facts` in its manifest."""
    write_table(folder, TABLE, grades, SCHEMA, **facts)


def read_grades(folder: Path) -> list[Grade]:
    """The grades of a sealed folder, in the order written.

    Raises:
        DataError: if the folder is unfinished or damaged, or an earlier version wrote it.
    """
    return [Grade(**{**row, "topics": tuple(row["topics"])}) for row in read_table(folder, TABLE, SCHEMA.names)[0]]


def _make_grade(item: Item, answer: Answer, observation: Observation) -> Grade:
    level = level_of(observation, Observation.model_validate_json(item.expected))
    return Grade(
        item=item.name,
        tier=item.tier,
        entity_kind=item.entity_kind,
        topics=item.topics,
        repository=item.repository,
        url=item.url,
        path=item.path,
        start=item.start,
        line=item.line,
        licence=item.licence,
        permalink=item.permalink,
        layout=answer.layout,
        sample=answer.sample,
        rung=level,
        passed=passes(level, item.decided_by),
        error=observation.error,
        wanted=item.reference,
        written=answer.text,
        prefix=item.prefix[-_PREFIX_CHARACTERS:],
    )
