"""Samples of what models wrote, good and bad, for people to read; no figure comes from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from flyte_llama.completion import Completion
from flyte_llama.flyte_eval import Grade

_SAMPLES = 3
_LONG_ENOUGH = 20
"""Characters: shorter ones are right, or wrong, by little."""


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Writing(_Shown):
    model: str
    text: str
    verdict: str


class Sample(_Shown):
    """One place, and what each model wrote there."""

    title: str
    is_good: bool
    """Of the subject."""

    prefix: str
    wanted: str
    written: list[Writing]


def completion_samples(rows: Mapping[str, Sequence[Completion]]) -> list[Sample]:
    """Where the last model came closest and where it was farthest off, one of a file, whatever the order of rows."""
    by_place = {model: {_place(row): row for row in own} for model, own in rows.items()}
    subject = [row for row in list(rows.values())[-1] if len(row.wanted) >= _LONG_ENOUGH] if rows else []
    good = _of_different_files(sorted(subject, key=lambda row: (-row.similarity, _place(row))))
    bad = _of_different_files(sorted(subject, key=lambda row: (row.similarity, _place(row))))
    shown = [(True, row) for row in good if row.similarity >= 0.5] + [(False, row) for row in bad if not row.exact]
    return [
        Sample(
            title=f"{row.task}, {row.layout}: {row.repository} {row.path}, byte {row.start}",
            is_good=is_good,
            prefix=row.prefix,
            wanted=row.wanted,
            written=[
                Writing(
                    model=model,
                    text=found.written,
                    verdict="exact" if found.exact else f"similarity {found.similarity:.2f}",
                )
                for model, places in by_place.items()
                if (found := places.get(_place(row)))
            ],
        )
        for is_good, row in shown
    ]


def grade_samples(rows: Mapping[str, Sequence[Grade]]) -> list[Sample]:
    """Some that the last model passed and some that it failed, chosen by a hash of the item's name."""
    by_item = {model: {(row.item, row.layout): row for row in own if row.sample == 0} for model, own in rows.items()}
    subject = sorted(
        (list(by_item.values())[-1] if rows else {}).values(),
        key=lambda row: (hashlib.sha256(row.item.encode()).hexdigest(), row.layout),
    )
    chosen = [row for passed in (True, False) for row in [row for row in subject if row.passed is passed][:_SAMPLES]]
    return [
        Sample(
            title=f"{row.tier}, {row.layout}: {row.item}",
            is_good=row.passed,
            prefix=row.prefix,
            wanted=row.wanted,
            written=[
                Writing(model=model, text=found.written, verdict=_verdict(found))
                for model, items in by_item.items()
                if (found := items.get((row.item, row.layout)))
            ],
        )
        for row in chosen
    ]


def _place(row: Completion) -> tuple[str, str, str, str, int]:
    return row.repository, row.path, row.task, row.layout, row.start


def _of_different_files(rows: Sequence[Completion]) -> list[Completion]:
    files: dict[tuple[str, str], Completion] = {}
    for row in rows:
        files.setdefault((row.repository, row.path), row)
    return list(files.values())[:_SAMPLES]


def _verdict(row: Grade) -> str:
    if row.passed:
        return f"passed: {row.rung}"
    return f"failed: {row.rung}{f' ({row.error})' if row.error else ''}"
