"""A comparison as one HTML page, with the full lists that a terminal has no room for."""

from __future__ import annotations

from flyte_llama.report import plots
from flyte_llama.report.dots import draw_groups
from flyte_llama.report.markdown import protocol_text
from flyte_llama.report.pages import show_sample
from flyte_llama.report.rendering import render
from flyte_llama.report.tables import completion_tables, flyte_eval_tables, line_tables
from flyte_llama.runs import phrases
from flyte_llama.runs.differences import MAX_FILES
from flyte_llama.runs.run_comparison import RunComparison


def comparison_page(comparison: RunComparison) -> str:
    """Return the comparison as a complete HTML document."""
    report = comparison.report
    return render(
        "compare.html.j2",
        comparison=comparison,
        statement=phrases.statement(comparison),
        headline=phrases.headline(comparison),
        warnings=phrases.warnings(comparison),
        runs=phrases.runs_table(comparison),
        configuration_sentence=phrases.configuration_sentence(comparison),
        configuration=phrases.configuration_table(comparison),
        corpus_sentences=phrases.corpus_sentences(comparison),
        sources=phrases.sources_table(comparison),
        documents=phrases.documents_table(comparison),
        files=[
            (difference, phrases.largest_files(difference, limit=MAX_FILES))
            for difference in comparison.documents or []
        ],
        common=phrases.common_sentence(comparison),
        general=phrases.general_sentence(comparison),
        inks=plots.choose_inks(["A", "B"]),
        dots=draw_groups(report.overall, report.heldout.by) if report else [],
        tables=line_tables(report) if report else [],
        items=[(phrases.items_sentence(each, comparison), phrases.items_tables(each)) for each in comparison.items],
        completions=[phrases.completions_sentence(each, comparison) for each in comparison.completions],
        outputs=[*completion_tables(report), *flyte_eval_tables(report)] if report else [],
        protocol=protocol_text(report) if report else "",
        samples=[show_sample(sample) for sample in report.samples] if report else [],
    )
