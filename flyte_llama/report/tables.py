"""Every table of the report, in two forms.

`report_table` is the whole report as plain text for a terminal or a pod's log, about 120 columns wide with one or two
models. The other functions return tables as rows of text (`Table`), which the page and the Markdown show alike; each
figure is rounded here, once, so that both show the same digits.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flyte_llama.evaluation import Line
from flyte_llama.redaction import escape_line
from flyte_llama.report.report import EvaluationReport
from flyte_llama.report.sentences import (
    forgetting_sentence,
    interval_text,
    memorisation_sentence,
    overall_sentence,
    unchanged_sentences,
    verdict_sentences,
)
from flyte_llama.report.writing import FlyteEvalSummary, GroupResult, level_sort_key

TITLES = {
    "repository": "By repository",
    "language": "By language",
    "kind": "By kind",
    "stratum": "By overlap with train text",
    "freshness": "By date, against the base model's release",
    "length": "By document length",
}

_WIDTH = 118
"""Columns that a sentence under the text table may take."""


class Table(NamedTuple):
    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]]
    num_texts: int = 1
    """The number of columns, from the left, that hold text; the others hold figures and are right-aligned."""


def report_table(report: EvaluationReport) -> str:
    """Return the figures overall, by repository and by language, then everything else in sentences."""
    sections = [[report.overall], report.heldout.by["repository"], report.heldout.by["language"]]
    text = align_columns(
        _text_columns(report), *([_text_cells(line, report) for line in section] for section in sections)
    )
    sentences = [
        overall_sentence(report),
        *verdict_sentences(report),
        *unchanged_sentences(report),
        *_other_sentences(report),
        *_output_sentences(report),
    ]
    wrapped = (textwrap.fill(escape_line(sentence), _WIDTH, subsequent_indent="  ") for sentence in sentences)
    return "\n".join([text, *wrapped])


def overall_table(report: EvaluationReport) -> Table:
    """Return the table of all held-out text, one row per model."""
    rows: list[Sequence[str]] = [
        (
            figure.model,
            f"{figure.num_tokens:,}",
            f"{figure.perplexity:,.2f}",
            f"{figure.bits_per_byte:.3f}",
            interval_text(figure.interval, sign=False),
            f"{figure.document_bits_per_byte:.3f}",
            f"{figure.top1_accuracy:.1%}",
            f"{figure.top5_accuracy:.1%}",
        )
        for figure in report.overall.figures
    ]
    measure = report.protocol.measure
    columns = ("model", "tokens", measure, "bits/byte", "95 %", "mean of documents", "top 1", "top 5")
    return Table("Overall", columns, rows)


def line_tables(report: EvaluationReport) -> list[Table]:
    """Return held-out text by repository, language and so on, one table each, then general code."""
    columns = _line_columns(report)
    tables = [Table(TITLES[name], columns, _line_rows(lines)) for name, lines in report.heldout.by.items()]
    if report.general is not None:
        lines = [report.general.overall, *report.general.by["repository"]]
        tables.append(Table("General code", columns, _line_rows(lines)))
        if strata := report.general.by.get("stratum"):
            tables.append(Table("General code by overlap with train text", columns, _line_rows(strata)))
    return tables


def accuracy_table(report: EvaluationReport) -> Table:
    """Return perplexity and next-token accuracy by repository and language.

    These are comparable only between models with the same tokenizer.
    """
    models = [model.name for model in report.models]
    names = (report.protocol.measure, "top 1", "top 5")
    columns = ("", "documents", "bytes", *(f"{name} {model}" for name in names for model in models))
    lines = [report.overall, *report.heldout.by["repository"], *report.heldout.by["language"]]
    rows: list[Sequence[str]] = [
        (
            line.name,
            f"{line.num_documents:,}",
            f"{line.num_bytes:,}",
            *(f"{figure.perplexity:,.2f}" for figure in line.figures),
            *(f"{figure.top1_accuracy:.1%}" for figure in line.figures),
            *(f"{figure.top5_accuracy:.1%}" for figure in line.figures),
        )
        for line in lines
    ]
    return Table("Next tokens", columns, rows)


def flyte_eval_tables(report: EvaluationReport) -> list[Table]:
    """Return the tables of FlyteEval; tables without rows are left out."""
    return [table for table in _flyte_eval_tables(report) if table.rows]


def align_columns(columns: Sequence[str], *sections: Sequence[Sequence[str]], num_texts: int = 1) -> str:
    """Lay out rows under their column names, with a rule below the names and each section.

    The first `num_texts` columns are left-aligned, the others right-aligned. A cell stays in its line: what is not
    printable is shown as an escape.

    >>> print(align_columns(("name", "docs"), [("overall", "12")], [("a/b", "5"), ("c/d", "7")]))
    name     docs
    -------------
    overall    12
    -------------
    a/b         5
    c/d         7
    -------------
    """
    shown = [[[*map(escape_line, row)] for row in section] for section in ([columns], *sections)]
    widths = [max(map(len, column)) for column in zip(*itertools.chain(*shown), strict=True)]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join(line for rows in shown for line in (*(_align_row(row, widths, num_texts) for row in rows), rule))


def _other_sentences(report: EvaluationReport) -> Iterator[str]:
    """Yield forgetting and memorisation, or why they are unknown, and the length of training if it is known."""
    yield f"general code: {forgetting_sentence(report)}"
    yield f"train text: {memorisation_sentence(report)}"
    if report.training is not None:
        trained = report.training
        yield f"trained on {trained.num_tokens:,} tokens in {trained.num_steps:,} steps, {trained.wall_s:,.0f} s"


def _output_sentences(report: EvaluationReport) -> Iterator[str]:
    """Yield one sentence per task and layout, with the figures of the models from first to last."""
    by_task = itertools.groupby(report.completions, key=lambda summary: (summary.task, summary.layout))
    for (task, layout), group in by_task:
        completions = list(group)
        exact = " → ".join(f"{summary.num_exact:,}" for summary in completions)
        similarity = " → ".join(f"{summary.similarity:.3f}" for summary in completions)
        yield f"{task}, {layout}: exact {exact} of {completions[-1].num_cases:,}, edit similarity {similarity}"
    by_figure = itertools.groupby(report.flyte_eval, key=lambda summary: (summary.task, summary.layout))
    for (task, layout), summaries in by_figure:
        answered = list(summaries)
        passed = " → ".join(
            f"{summary.pass_at[0].share:.3f} {interval_text(summary.interval, sign=False)}" for summary in answered
        )
        yield f"{task}, {layout}: pass@1 {passed} of {answered[-1].num_items:,} items"
    if report.flyte_eval_reason:
        yield f"FlyteEval was not measured: {report.flyte_eval_reason}"


def _shows_perplexity(report: EvaluationReport) -> bool:
    """Whether perplexities are shown: if they compare, and the line has room for them."""
    return report.same_tokens and len(report.models) < 3


def _text_columns(report: EvaluationReport) -> tuple[str, ...]:
    """Return the column names. Only the first model's column names the figure; the next ones name just their model."""
    first, *others = (model.name for model in report.models)
    perplexity = (f"ppl {first}", *others) if _shows_perplexity(report) else ()
    change = ("change [95 % interval]",) if others else ()
    return ("held out", "docs", "bytes", *perplexity, f"bits/B {first}", *others, *change)


def _text_cells(line: Line, report: EvaluationReport) -> tuple[str, ...]:
    perplexity = [f"{figure.perplexity:,.2f}" for figure in line.figures] if _shows_perplexity(report) else []
    change = [f"{line.changes[0].difference:+.3f} {interval_text(line.changes[0].documents)}"] if line.changes else []
    return (
        line.name,
        f"{line.num_documents:,}",
        f"{line.num_bytes:,}",
        *perplexity,
        *(f"{figure.bits_per_byte:.3f}" for figure in line.figures),
        *change,
    )


def _align_row(row: Sequence[str], widths: Sequence[int], num_texts: int) -> str:
    cells = enumerate(zip(row, widths, strict=True))
    return "  ".join(cell.ljust(width) if at < num_texts else cell.rjust(width) for at, (cell, width) in cells).rstrip()


def _line_columns(report: EvaluationReport) -> tuple[str, ...]:
    models = [model.name for model in report.models]
    columns = ["", "documents", "bytes", *(f"bits/byte {name}" for name in models)]
    for reference in models[:-1]:
        columns += [f"change from {reference}", "95 %"]
    return tuple(columns)


def _line_rows(lines: Sequence[Line]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for line in lines:
        row = [line.name, f"{line.num_documents:,}", f"{line.num_bytes:,}"]
        row += [f"{figure.bits_per_byte:.3f}" for figure in line.figures]
        for change in line.changes:
            row += [f"{change.difference:+.3f}", interval_text(change.documents) or "too few"]
        rows.append(row)
    return rows


def completion_tables(report: EvaluationReport) -> list[Table]:
    """Return the table of completions; none if no model completed anything."""
    rows: list[Sequence[str]] = [
        (
            summary.task,
            summary.layout,
            summary.model,
            f"{summary.num_cases:,}",
            f"{summary.num_exact / summary.num_cases:.1%}",
            _percent_interval(summary.exact_interval.low, summary.exact_interval.high),
            f"{summary.similarity:.3f}",
            f"{summary.num_stopped / summary.num_cases:.0%}",
        )
        for summary in report.completions
    ]
    columns = ("task", "layout", "model", "cases", "exact", "95 %", "edit similarity", "ended by model")
    return [Table("Completions", columns, rows, num_texts=3)] if rows else []


def _flyte_eval_tables(report: EvaluationReport) -> Iterator[Table]:
    """Yield pass@k, pass@1 by tier and by topic, and the answers by level, of each task; or why there are none."""
    if report.flyte_eval_reason:
        yield Table("FlyteEval", ("was not measured, because",), [(report.flyte_eval_reason,)], num_texts=1)
    for task, group in itertools.groupby(report.flyte_eval, key=lambda summary: summary.task):
        yield from _answer_tables(task, list(group))


def _answer_tables(task: str, summaries: Sequence[FlyteEvalSummary]) -> Iterator[Table]:
    ks = sorted({passed.k for summary in summaries for passed in summary.pass_at})
    rows: list[Sequence[str]] = []
    for summary in summaries:
        shares = {passed.k: f"{passed.share:.1%}" for passed in summary.pass_at}
        interval = _percent_interval(summary.interval.low, summary.interval.high)
        counts = (f"{summary.num_items:,}", f"{summary.num_answers:,}")
        rows.append((summary.model, summary.layout, *counts, shares[1], interval, *(shares.get(k, "") for k in ks[1:])))
    columns = ("model", "layout", "items", "answers", "pass@1", "95 %", *(f"pass@{k}" for k in ks[1:]))
    yield Table(task, columns, rows, num_texts=2)

    # one row per tier or topic, one column per model
    yield _pass_table(f"{task} by tier", summaries, [summary.by_tier for summary in summaries])
    yield _pass_table(f"{task} by topic", summaries, [summary.by_topic for summary in summaries])

    # one row per level, one column per model
    counts_by_level = [{count.rung: count.num_answers for count in summary.rungs} for summary in summaries]
    level_rows: list[Sequence[str]] = [
        (level, *(f"{counts.get(level, 0):,}" for counts in counts_by_level))
        for level in sorted(set().union(*counts_by_level), key=level_sort_key)
    ]
    yield Table(f"{task}: answers by highest level reached", ("level", *_column_names(summaries)), level_rows)


def _pass_table(title: str, summaries: Sequence[FlyteEvalSummary], groups: Sequence[Sequence[GroupResult]]) -> Table:
    """Return pass@1 by tier or topic. A cell stays empty if the model has no item of that name."""
    by_name = [{group.name: group for group in model} for model in groups]
    names = sorted({name for model in by_name for name in model})
    rows: list[Sequence[str]] = [
        (
            name,
            f"{max(model[name].num_items for model in by_name if name in model):,}",
            *(f"{model[name].pass_at_1:.1%}" if name in model else "" for model in by_name),
        )
        for name in names
    ]
    return Table(title, ("", "items", *(f"pass@1 {name}" for name in _column_names(summaries))), rows)


def _column_names(summaries: Sequence[FlyteEvalSummary]) -> list[str]:
    """Return the model of each summary, with the layout if there are several."""
    several = len({summary.layout for summary in summaries}) > 1
    return [f"{summary.model}, {summary.layout}" if several else summary.model for summary in summaries]


def _percent_interval(low: float, high: float) -> str:
    return f"[{low:.1%}, {high:.1%}]"
