"""The report as Markdown: the same sentences and tables as the page, without its pictures."""

from __future__ import annotations

from flyte_llama.report.headline import forgetting, headline, memorisation, verdicts
from flyte_llama.report.summary import EvaluationReport
from flyte_llama.report.tables import Table, accuracy_table, line_tables, overall_table, written_tables

CHANGES = (
    "Changes are in bits per byte, negative is better; intervals resample repositories too where there are several."
)


def markdown(report: EvaluationReport) -> str:
    """The whole report, under one heading."""
    parts = [
        "# Evaluation",
        markdown_head(report),
        "## The held-out text taken apart",
        CHANGES,
        markdown_lines(report),
        "## Next tokens",
        *([] if report.same_tokens else ["The models' tokenizers differ: perplexities and accuracies do not compare."]),
        _table(accuracy_table(report)),
    ]
    written = written_tables(report)
    if written:
        parts += ["## What the models wrote", *(_table(table) for table in written)]
    parts += ["## Protocol", protocol(report)]
    return "\n\n".join(parts) + "\n"


def markdown_head(report: EvaluationReport) -> str:
    """The headline, what it is worth, and the overall table."""
    sentences = [headline(report), *verdicts(report)]
    lines = [
        " ".join(sentences),
        f"- Forgetting: {forgetting(report)}",
        f"- Memorisation: {memorisation(report)}",
    ]
    return f"{lines[0]}\n\n{lines[1]}\n{lines[2]}\n\n{_table(overall_table(report))}"


def markdown_lines(report: EvaluationReport) -> str:
    """The tables of the held-out text taken apart, and of general code."""
    return "\n\n".join(_table(table) for table in line_tables(report))


def protocol(report: EvaluationReport) -> str:
    """How the figures were measured, in a paragraph."""
    used, digests = report.protocol, {model.tokenizer_sha256[:16] for model in report.models}
    starts = " or ".join(sorted({model.start for model in report.models}))
    return (
        f"Every token of every held-out document is scored once: windows of {used.window:,} tokens moved by "
        f"{used.stride:,}, the last one ending with the document, {used.precision}, nats summed in float64 and divided "
        f"once, first token predicted from {starts}; tokenizer sha256 {', '.join(sorted(digests))}. Intervals are "
        "95 % percentile intervals of a paired bootstrap of 10,000 replicates."
    )


def _table(table: Table) -> str:
    rule = ["---" if number < table.num_texts else "---:" for number in range(len(table.columns))]
    rows = [table.columns, rule, *table.rows]
    text = "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)
    return f"**{table.title}**\n\n{text}"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
