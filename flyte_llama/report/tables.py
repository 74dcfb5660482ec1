"""Every table of the report as rows of text, which the page and the Markdown show alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flyte_llama.evaluation import Line
from flyte_llama.report.headline import shown
from flyte_llama.report.summary import EvaluationReport
from flyte_llama.report.written import FlyteEvalSummary, Passed, step

TITLES = {
    "repository": "By repository",
    "language": "By language",
    "kind": "By kind",
    "stratum": "By what of it had stood in train",
    "freshness": "Against the base model's release",
    "length": "By length of document",
}


class Table(NamedTuple):
    title: str
    columns: Sequence[str]
    """The first, and those of `num_texts`, hold text; the others figures."""

    rows: list[Sequence[str]]
    num_texts: int = 1


def overall_table(report: EvaluationReport) -> Table:
    """The whole held-out text, a row a model."""
    rows: list[Sequence[str]] = [
        (
            figure.model,
            f"{figure.num_tokens:,}",
            f"{figure.perplexity:,.2f}",
            f"{figure.bits_per_byte:.3f}",
            shown(figure.interval, sign=False),
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
    """The held-out text taken apart, then general code."""
    columns = _line_columns(report)
    found = [Table(TITLES[name], columns, _rows(lines)) for name, lines in report.heldout.by.items()]
    if report.general is not None:
        lines = [report.general.overall, *report.general.by["repository"]]
        found.append(Table("General code", columns, _rows(lines)))
    return found


def accuracy_table(report: EvaluationReport) -> Table:
    """Perplexity and next-token accuracy by repository and language: of models of one tokenizer these compare."""
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


def written_tables(report: EvaluationReport) -> list[Table]:
    """Completions and FlyteEval; those that were not measured are left out."""
    return [table for table in (_completions(report), *_flyte_eval(report)) if table.rows]


def _line_columns(report: EvaluationReport) -> tuple[str, ...]:
    models = [model.name for model in report.models]
    changes = (column for name in models[:-1] for column in (f"change from {name}", "95 %"))
    return ("", "documents", "bytes", *(f"bits/byte {name}" for name in models), *changes)


def _rows(lines: Sequence[Line]) -> list[Sequence[str]]:
    return [
        (
            line.name,
            f"{line.num_documents:,}",
            f"{line.num_bytes:,}",
            *(f"{figure.bits_per_byte:.3f}" for figure in line.figures),
            *(
                cell
                for change in line.changes
                for cell in (f"{change.difference:+.3f}", shown(change.widest) or "too few")
            ),
        )
        for line in lines
    ]


def _completions(report: EvaluationReport) -> Table:
    rows: list[Sequence[str]] = [
        (
            own.task,
            own.layout,
            own.model,
            f"{own.num_cases:,}",
            f"{own.num_exact / own.num_cases:.1%}",
            _percent(own.exact_interval.low, own.exact_interval.high),
            f"{own.similarity:.3f}",
            f"{own.num_stopped / own.num_cases:.0%}",
        )
        for own in report.completions
    ]
    columns = ("task", "layout", "model", "cases", "exact", "95 %", "edit similarity", "stopped by itself")
    return Table("Completions", columns, rows, num_texts=3)


def _flyte_eval(report: EvaluationReport) -> Iterator[Table]:
    ks = sorted({passed.k for own in report.flyte_eval for passed in own.pass_at})
    rows: list[Sequence[str]] = []
    for own in report.flyte_eval:
        shares = {passed.k: f"{passed.share:.1%}" for passed in own.pass_at}
        interval = _percent(own.interval.low, own.interval.high)
        counts = (f"{own.num_items:,}", f"{own.num_answers:,}")
        rows.append((own.model, own.layout, *counts, shares[1], interval, *(shares.get(k, "") for k in ks[1:])))
    columns = ("model", "layout", "items", "answers", "pass@1", "95 %", *(f"pass@{k}" for k in ks[1:]))
    yield Table("FlyteEval", columns, rows, num_texts=2)
    yield _passed_table("FlyteEval by tier", report.flyte_eval, [own.by_tier for own in report.flyte_eval])
    yield _passed_table("FlyteEval by topic", report.flyte_eval, [own.by_topic for own in report.flyte_eval])
    reached = [{one.rung: one.num_answers for one in own.rungs} for own in report.flyte_eval]
    counted: list[Sequence[str]] = [
        (rung, *(f"{own.get(rung, 0):,}" for own in reached)) for rung in sorted(set().union(*reached), key=step)
    ]
    yield Table("FlyteEval: answers by the highest rung they reached", ("rung", *_named(report.flyte_eval)), counted)


def _passed_table(title: str, summaries: Sequence[FlyteEvalSummary], passed: Sequence[Sequence[Passed]]) -> Table:
    by_name = [{one.name: one for one in own} for own in passed]
    names = sorted({name for own in by_name for name in own})
    rows: list[Sequence[str]] = [
        (
            name,
            f"{max(own[name].num_items for own in by_name if name in own):,}",
            *(f"{own[name].pass_at_1:.1%}" if name in own else "" for own in by_name),
        )
        for name in names
    ]
    return Table(title, ("", "items", *(f"pass@1 {name}" for name in _named(summaries))), rows)


def _named(summaries: Sequence[FlyteEvalSummary]) -> list[str]:
    several = len({own.layout for own in summaries}) > 1
    return [f"{own.model}, {own.layout}" if several else own.model for own in summaries]


def _percent(low: float, high: float) -> str:
    return f"[{low:.1%}, {high:.1%}]"
