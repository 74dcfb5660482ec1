"""The report as one HTML page: inline styles and SVG, nothing fetched, so it works offline and in a Flyte deck."""

from __future__ import annotations

from flyte_llama.report import headline, plots
from flyte_llama.report.curves import curves
from flyte_llama.report.markdown import protocol
from flyte_llama.report.summary import EvaluationReport
from flyte_llama.report.tables import accuracy_table, line_tables, overall_table, written_tables
from flyte_llama.report.template import render

_SHOWN = 800
"""Characters of a sample that are shown, the last of what stands before it."""


def page(report: EvaluationReport) -> str:
    """A whole HTML document; every text in it is escaped."""
    lines = [report.overall, *report.heldout.by["repository"], *report.heldout.by["language"]]
    return render(
        "page.html.j2",
        report=report,
        headline=headline.headline(report),
        verdicts=headline.verdicts(report),
        forgetting=headline.forgetting(report),
        memorisation=headline.memorisation(report),
        inks=plots.inks([model.name for model in report.models]),
        whiskers=plots.whiskers(lines),
        pictures=[
            (title, picture)
            for title, picture in (
                ("Loss by place in the document", plots.loss_by_position(report.positions)),
                ("Documents by their bits per byte", plots.spread(report.histogram)),
            )
            if picture
        ],
        overall=overall_table(report),
        tables=line_tables(report),
        accuracy=accuracy_table(report),
        written=written_tables(report),
        protocol=protocol(report),
        most=_SHOWN,
        curves=curves(report.training.losses) if report.training else [],
    )
