"""A comparison for a terminal, in about 60 lines; what does not fit is on the page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC

from flyte_llama.redaction import escape_line
from flyte_llama.report.samples import Sample
from flyte_llama.report.tables import Table, align_columns
from flyte_llama.runs import phrases
from flyte_llama.runs.run_comparison import ComparedRun, RunComparison

_WIDTH = 118
_MAX_CELL = 46
"""Characters of a text in a table."""

_MAX_FIELDS = 8
_MAX_ROWS = 4
"""Rows of a table, besides the configuration's."""

_MAX_FILES = 3
_MAX_ITEMS = 2
_MAX_SAMPLES = 1
"""Completions of each kind, closer and farther."""


def comparison_text(comparison: RunComparison) -> str:
    """Return the comparison, section by section, with a blank line between them."""
    sections = [
        _runs(comparison),
        _configuration(comparison),
        _corpus(comparison),
        _heldout(comparison),
        _written(comparison),
        (_wrap(sentence) for sentence in comparison.left_out),
    ]
    blocks = ["\n".join(section) for section in sections]
    return "\n\n".join(block for block in blocks if block)


def _runs(comparison: RunComparison) -> Iterator[str]:
    yield _run_line("A", comparison.a)
    yield _run_line("B", comparison.b)
    table = phrases.runs_table(comparison)
    yield align_columns(table.columns, table.rows)
    sentences = [phrases.statement(comparison)]
    if not comparison.same_measurements:
        sentences = [phrases.headline(comparison), *sentences, *phrases.warnings(comparison)]
    yield from (_wrap(sentence) for sentence in sentences if sentence)


def _configuration(comparison: RunComparison) -> Iterator[str]:
    if sentence := phrases.configuration_sentence(comparison):
        yield sentence
    yield from _table(phrases.configuration_table(comparison), limit=_MAX_FIELDS)


def _corpus(comparison: RunComparison) -> Iterator[str]:
    for sentence in phrases.corpus_sentences(comparison):
        yield _wrap(sentence)
    yield from _table(phrases.sources_table(comparison))
    yield from _table(phrases.documents_table(comparison))
    for difference in (comparison.documents or [])[:1]:
        for kind, files in phrases.largest_files(difference, limit=_MAX_FILES):
            yield _wrap(f"{difference.source}, {difference.side}, {kind}: {', '.join(files)}")


def _heldout(comparison: RunComparison) -> Iterator[str]:
    report = comparison.report
    if report is None or comparison.same_measurements:
        return
    yield _wrap(phrases.common_sentence(comparison))
    by_size = sorted(report.heldout.by["repository"], key=lambda line: (-line.num_bytes, line.name))
    sections = [[report.overall], by_size[:_MAX_ROWS], report.heldout.by["language"][:_MAX_ROWS]]
    rows = [[(_cut(row[0]), *row[1:]) for row in phrases.heldout_rows(section)] for section in sections]
    yield align_columns(phrases.HELDOUT_COLUMNS, *rows)
    if len(by_size) > _MAX_ROWS:
        yield f"{len(by_size) - _MAX_ROWS:,} smaller repositories are on the page."
    if sentence := phrases.general_sentence(comparison):
        yield _wrap(sentence)


def _written(comparison: RunComparison) -> Iterator[str]:
    if comparison.same_measurements:
        return
    for items in comparison.items:
        yield _wrap(phrases.items_sentence(items, comparison))
        for kind, changed in (("gained", items.gained), ("lost", items.lost)):
            for item in changed[:_MAX_ITEMS]:
                yield f"  {kind:<6}  {escape_line(item.item)}"
            if len(changed) > _MAX_ITEMS:
                yield f"  {kind:<6}  and {len(changed) - _MAX_ITEMS:,} more, on the page"
    for completions in comparison.completions[:_MAX_ROWS]:
        yield _wrap(phrases.completions_sentence(completions, comparison))
    if len(comparison.completions) > _MAX_ROWS:
        yield f"{len(comparison.completions) - _MAX_ROWS:,} more tasks and layouts are on the page."
    samples = comparison.report.samples if comparison.report else []
    for is_good in (True, False):
        for sample in [each for each in samples if each.is_good == is_good][:_MAX_SAMPLES]:
            yield from _sample(sample)


def _sample(sample: Sample) -> Iterator[str]:
    yield f"  {'closer' if sample.is_good else 'farther'}: {escape_line(sample.title)}"
    yield f"    wanted  {_cut(sample.wanted.strip(), _WIDTH - 12)}"
    for writing in sample.written:
        yield f"    {_cut(writing.model, 6):<6}  {_cut(writing.text.strip() or '(nothing)', _WIDTH - 12)}"


def _run_line(name: str, run: ComparedRun) -> str:
    finished = f", finished {run.line.finished.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if run.line.finished else ""
    return f"{name}  {escape_line(run.line.name)}{finished}"


def _table(table: Table, *, limit: int = _MAX_ROWS) -> Iterator[str]:
    """Yield a table of texts, cut to the terminal, and how many rows the page has besides; nothing without rows."""
    if not table.rows:
        return
    rows: list[Sequence[str]] = [tuple(map(_cut, row)) for row in table.rows[:limit]]
    yield align_columns(table.columns, rows, num_texts=table.num_texts)
    if len(table.rows) > limit:
        yield f"{len(table.rows) - limit:,} more rows are on the page."


def _cut(text: str, width: int = _MAX_CELL) -> str:
    shown = escape_line(text)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def _wrap(sentence: str) -> str:
    return textwrap.fill(escape_line(sentence), _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
