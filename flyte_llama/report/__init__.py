"""What was measured → one typed report and its forms: table, page, Markdown, model card; and the dataset described."""

from flyte_llama.report.card import model_card
from flyte_llama.report.curves import training_page
from flyte_llama.report.dataset import dataset_card, dataset_page
from flyte_llama.report.markdown import markdown
from flyte_llama.report.page import page
from flyte_llama.report.summarise import Measured, summarise
from flyte_llama.report.summary import EvaluationReport, ReportedModel
from flyte_llama.report.table import table
from flyte_llama.report.trials import batch_table, sweep_table, trials_page

__all__ = [
    "EvaluationReport",
    "Measured",
    "ReportedModel",
    "batch_table",
    "dataset_card",
    "dataset_page",
    "markdown",
    "model_card",
    "page",
    "summarise",
    "sweep_table",
    "table",
    "training_page",
    "trials_page",
]
