"""The files of a finished evaluation, the same whether the workflow or `flyte-llama evaluate` made it."""

from __future__ import annotations

from pathlib import Path

from flyte_llama.config import ExperimentConfig, write_config
from flyte_llama.corpus import CorpusCard, CorpusSample
from flyte_llama.report.dataset import dataset_card, dataset_page
from flyte_llama.report.markdown import model_card, report_markdown
from flyte_llama.report.pages import report_page
from flyte_llama.report.report import EvaluationReport


def write_files(
    folder: Path,
    report: EvaluationReport,
    config: ExperimentConfig,
    card: CorpusCard | None = None,
    sample: CorpusSample | None = None,
) -> None:
    """Write `report.html`, `report.json`, `report.md` and `config.yaml`, and for a fine-tuned model its cards too.

    Args:
        folder: An existing folder; files of these names in it are replaced.
        config: The configuration of the run, with every default, so that the file alone repeats the run.
        card: The corpus that the model was fine-tuned on. `MODEL_CARD.md`, `DATASET_CARD.md` and `dataset.html` are
            written only with it: they would be untrue of a model that was only measured.
        sample: What `dataset.html` shows of its documents; None leaves them out.
    """
    files = {
        "config.yaml": write_config(config),
        "report.html": report_page(report),
        "report.json": report.model_dump_json(indent=2),
        "report.md": report_markdown(report),
    }
    if card is not None:
        files |= {
            "MODEL_CARD.md": model_card(report),
            "dataset.html": dataset_page(card, sample),
            "DATASET_CARD.md": dataset_card(card),
        }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
