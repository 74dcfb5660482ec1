"""The report, and the publication of the model. Imports no torch."""

from __future__ import annotations

import os
from typing import NamedTuple

from flytekit import Deck, FlyteDirectory, FlyteFile, task

from flyte_llama.config import PublishConfig
from flyte_llama.corpus import CorpusCard
from flyte_llama.model import PinnedModel
from flyte_llama.progress import say
from flyte_llama.publish import passes_gate, publish_model
from flyte_llama.report import (
    EvaluationReport,
    Measured,
    dataset_card,
    dataset_page,
    markdown,
    model_card,
    page,
    summarise,
    table,
)
from flyte_llama.tasks.resources import HUB_SECRETS, HUB_TOKEN, SMALL, UPLOADER, local, local_output, new_folder
from flyte_llama.training import TrainingSummary


class Report(NamedTuple):
    report: EvaluationReport
    page: FlyteFile
    card: FlyteFile
    dataset_card: FlyteFile


@task(**SMALL, retries=1, enable_deck=True)
def report(
    base_scores: list[FlyteDirectory],
    published_scores: list[FlyteDirectory],
    tuned_scores: list[FlyteDirectory],
    base: PinnedModel,
    published: list[PinnedModel],
    card: CorpusCard,
    training: TrainingSummary,
    model: FlyteDirectory,
    heldout: FlyteDirectory,
) -> Report:
    """Figures as a typed report, a page and a deck. Not cached, so that every run ends by showing them.

    Args:
        published_scores: Of the last published model; none where none is named.
    """
    tuned = PinnedModel(name=_where(model), revision="")
    measured = [Measured("base", base, local(folder)) for folder in base_scores]
    measured += [
        Measured("published", pinned, local(folder)) for pinned, folder in zip(published, published_scores, strict=True)
    ]
    measured += [Measured("fine-tuned", tuned, local(folder)) for folder in tuned_scores]
    found = summarise(measured, corpus=card, training=training)
    html = page(found)
    Deck("Report", html)
    folder = local_output() or new_folder("report")
    files = {
        "report.html": html,
        "report.json": found.model_dump_json(indent=2),
        "report.md": markdown(found),
        "MODEL_CARD.md": model_card(found),
        "dataset.html": dataset_page(card),
        "DATASET_CARD.md": dataset_card(card),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    say(
        f"\n{table(found)}\n\nmodel:    {_where(model)}\nheld out: {_where(heldout)}\n"
        f"report:   {folder / 'report.html'}\ndataset:  {folder / 'dataset.html'}"
    )
    returned = ("report.html", "MODEL_CARD.md", "DATASET_CARD.md")
    return Report(found, *(FlyteFile(str(folder / name)) for name in returned))


@task(**UPLOADER, retries=1, secret_requests=HUB_SECRETS)
def publish(model: FlyteDirectory, report: EvaluationReport, publish: PublishConfig) -> str:
    """The URL of the published commit; empty if publication is not asked for, or the model is not better."""
    if publish.repository is None or not passes_gate(report, publish):
        return ""
    token = os.environ.get(HUB_TOKEN)
    return publish_model(local(model), report, publish.repository, private=publish.private, token=token)


def _where(folder: FlyteDirectory) -> str:
    """The folder's address, without downloading it."""
    return str(folder.remote_source or folder.path)
