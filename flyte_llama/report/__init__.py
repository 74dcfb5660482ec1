"""Measurements → one typed report of one to three models, shown in four forms with the same figures.

    make_report(measurements) → EvaluationReport   every figure once; also the JSON form
      report_table                                 text, for a terminal or a pod's log
      report_page                                  one HTML page, for a browser or a Flyte deck
      report_markdown                              Markdown
      model_card                                   the README of the published model
    write_files(folder, report, …)                 all of them as files

The room also makes the corpus's card and page and the decks of the training and tuning tasks, and decides whether a
model is published.
"""

from flyte_llama.report.dataset import dataset_page
from flyte_llama.report.files import write_files
from flyte_llama.report.measurements import MeasuredModel, make_report
from flyte_llama.report.pages import batch_table, sweep_table, training_page, trials_page
from flyte_llama.report.provenance import collect_versions, record_provenance
from flyte_llama.report.report import EvaluationReport, Unchanged
from flyte_llama.report.tables import report_table

__all__ = [
    "EvaluationReport",
    "MeasuredModel",
    "Unchanged",
    "batch_table",
    "collect_versions",
    "dataset_page",
    "make_report",
    "record_provenance",
    "report_table",
    "sweep_table",
    "training_page",
    "trials_page",
    "write_files",
]
