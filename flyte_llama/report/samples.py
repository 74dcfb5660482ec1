"""The texts that models wrote, as samples to read: the closest and the farthest completions, passed and failed answers.

The input is model → its rows, and the last model is the one that the report is about. No figure is computed from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flyte_llama.config import Frozen
from flyte_llama.documents import draw, file_address
from flyte_llama.documents.languages import kind_of
from flyte_llama.evaluation.completion import Completion
from flyte_llama.flyte_eval import Grade
from flyte_llama.redaction import redact

_COMPLETIONS, _ANSWERS = 6, 3
"""Samples of completions and of answers to FlyteEval: so many good ones, and so many bad ones."""

_CLOSE = 0.5
"""The edit similarity from which a completion is a good one."""

LONG_ENOUGH = 20
"""Characters. Shorter texts are right or wrong by chance, so they show little."""


class Writing(Frozen):
    """The text that one model wrote, and whether it is right."""

    model: str
    text: str
    verdict: str


class Sample(Frozen):
    """One prompt with the expected text and the text of each model."""

    title: str
    language: str = ""
    """The language of its file; empty if that is not known."""

    link: str = ""
    """URL of its file at the revision that was read; empty if the host is not known."""

    is_compared: bool = False
    """Whether the text of each model is to be the expected one. An answer to FlyteEval is not: it is run."""

    is_good: bool
    """Whether the last model, the subject of the report, did well."""

    prefix: str
    suffix: str = ""
    """What follows, for a model that saw it."""

    wanted: str
    written: list[Writing]


def choose_completion_samples(
    completions: Mapping[str, Sequence[Completion]], names: Mapping[str, str], revisions: Mapping[str, str]
) -> list[Sample]:
    """Choose the last model's completions closest to the expected text, then its farthest ones.

    Each group has at most one completion per file, and source code goes before tests, documentation and
    configuration. The order of the rows does not matter.

    Args:
        names: URL → the name to show, as of `repository_names`; a repository not in it is shown by its plain name.
        revisions: URL → the revision that was read, for links; a source not in it has none.
    """
    if not completions:
        return []
    by_key = {model: {_key(row): row for row in rows} for model, rows in completions.items()}
    *_, last_rows = completions.values()
    subject = [row for row in last_rows if len(row.wanted) >= LONG_ENOUGH]
    close = [row for row in subject if row.similarity >= _CLOSE]
    good = _one_per_file(sorted(close, key=lambda row: (_source_first(row), -row.similarity, _key(row))))
    wrong = [row for row in subject if not row.exact and row.similarity < _CLOSE]
    bad = _one_per_file(sorted(wrong, key=lambda row: (_source_first(row), row.similarity, _key(row))))
    shown = [(True, row) for row in good] + [(False, row) for row in bad]
    return [
        make_completion_sample(
            {model: rows_by_key[_key(row)] for model, rows_by_key in by_key.items() if _key(row) in rows_by_key},
            repository=names.get(row.url, row.repository),
            revision=revisions.get(row.url, ""),
            is_good=is_good,
        )
        for is_good, row in shown
    ]


def make_completion_sample(
    completions: Mapping[str, Completion], *, repository: str, revision: str, is_good: bool
) -> Sample:
    """Return the sample of one case, which each model completed.

    Args:
        completions: Model → its completion; at least one.
        repository: The name to show.
        revision: The revision that was read, for the link; empty if it is not known.
    """
    *_, row = completions.values()
    return Sample(
        title=f"{row.task}, {row.layout}: {repository} {row.path}, byte {row.begin}",
        language=row.language,
        link=file_address(row.url, revision, row.path) if revision else "",
        is_compared=True,
        is_good=is_good,
        prefix=row.prefix,
        suffix=row.suffix,
        wanted=row.wanted,
        written=[
            Writing(
                model=model,
                text=_masked(completion.written),
                verdict="exact" if completion.exact else f"similarity {completion.similarity:.2f}",
            )
            for model, completion in completions.items()
        ],
    )


def choose_grade_samples(grades: Mapping[str, Sequence[Grade]]) -> list[Sample]:
    """Choose items that the last model passed, then items that it failed, by a hash of their names.

    With several answers to an item, the first is shown.
    """
    if not grades:
        return []
    by_item = {
        model: {(row.item, row.layout): row for row in rows if row.sample == 0} for model, rows in grades.items()
    }
    *_, last_rows = by_item.values()
    subject = sorted(last_rows.values(), key=lambda row: (draw(row.item), row.layout))
    passed = [row for row in subject if row.passed][:_ANSWERS]
    failed = [row for row in subject if not row.passed][:_ANSWERS]
    return [
        Sample(
            title=f"{row.tier}, {row.layout}: {row.item}",
            language="python",
            link=row.permalink,
            is_good=row.passed,
            prefix=row.prefix,
            wanted=row.wanted,
            written=[
                Writing(model=model, text=_masked(grade.written), verdict=_verdict(grade))
                for model, rows_by_item in by_item.items()
                if (grade := rows_by_item.get((row.item, row.layout)))
            ],
        )
        for row in passed + failed
    ]


def _masked(written: str) -> str:
    """Mask what a model may have learned by heart before: the text that it is trained on here has no secrets."""
    return redact(written, people=True).text


def _key(row: Completion) -> tuple[str, str, str, str, str, int]:
    return row.repository, row.url, row.path, row.task, row.layout, row.begin


def _one_per_file(rows: Sequence[Completion]) -> list[Completion]:
    """Return the first row of each file, `_COMPLETIONS` rows at most."""
    files: dict[tuple[str, str], Completion] = {}
    for row in rows:
        files.setdefault((row.url, row.path), row)
    return list(files.values())[:_COMPLETIONS]


def _source_first(row: Completion) -> bool:
    """Sort key: False, which comes first, for source code."""
    return kind_of(row.path, row.language) != "source"


def _verdict(row: Grade) -> str:
    if row.passed:
        return f"passed: {row.rung}"
    return f"failed: {row.rung}{f' ({row.error})' if row.error else ''}"
