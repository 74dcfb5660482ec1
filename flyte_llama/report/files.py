"""The files of a finished evaluation, the same whether the workflow or `flyte-llama evaluate` made it."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flyte_llama import __version__
from flyte_llama.config import ExperimentConfig, write_config
from flyte_llama.corpus import CorpusCard
from flyte_llama.report.dataset import dataset_card, dataset_page
from flyte_llama.report.markdown import model_card, report_markdown
from flyte_llama.report.pages import report_page
from flyte_llama.report.report import EvaluationReport

# The packages that decide the figures of a run.
_PACKAGES = ("torch", "transformers", "deepspeed", "peft", "accelerate", "datasets", "tokenizers", "flytekit")


def write_files(
    folder: Path, report: EvaluationReport, config: ExperimentConfig, card: CorpusCard | None = None
) -> None:
    """Write `report.html`, `report.json`, `report.md` and `config.yaml`, and for a fine-tuned model its cards too.

    Args:
        folder: An existing folder; files of these names in it are replaced.
        config: The configuration of the run, with every default, so that the file alone repeats the run.
        card: The corpus that the model was fine-tuned on. `MODEL_CARD.md`, `DATASET_CARD.md` and `dataset.html` are
            written only with it: they would be untrue of a model that was only measured.
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
            "dataset.html": dataset_page(card),
            "DATASET_CARD.md": dataset_card(card),
        }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def collect_versions() -> dict[str, Any]:
    """The time, the versions of this package, Python and the packages that decide the figures, and the machine."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "flyte_llama": __version__,
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in _PACKAGES},
        "machine": platform.platform(),
    }
