"""The tasks that write the report and publish the model. Does not import torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from flytekit import Deck, FlyteDirectory, FlyteFile, task

from flyte_llama.config import EvaluationConfig, ExperimentConfig, PublishConfig, write_config
from flyte_llama.corpus import CorpusCard, read_sample
from flyte_llama.evaluation import measured_model
from flyte_llama.model import PinnedModel
from flyte_llama.progress import say
from flyte_llama.report import (
    EvaluationReport,
    MeasuredModel,
    Unchanged,
    collect_versions,
    make_report,
    record_provenance,
    report_table,
    write_files,
)
from flyte_llama.report.figures import list_figures
from flyte_llama.report.publish import Verdict, judge, passes_gate, publish_model
from flyte_llama.tasks.cache import CACHE
from flyte_llama.tasks.folders import download, local_output, new_folder, newest_if_cached, retry_network_errors
from flyte_llama.tasks.resources import HUB_SECRETS, HUB_TOKEN, SMALL, TRACKER_SECRETS, UPLOADER
from flyte_llama.tasks.tracking import make_tracking
from flyte_llama.trackers import record_figures
from flyte_llama.training import TrainingSummary
from flyte_llama.workspace import finish_run, new_run_folder, read_runs


class Report(NamedTuple):
    report: EvaluationReport
    page: FlyteFile
    card: FlyteFile
    dataset_card: FlyteFile


# No task has Flyte's own decks: those of inputs and outputs would show text of repositories unescaped.
@task(**SMALL, retries=1, enable_deck=True, deck_fields=(), secret_requests=TRACKER_SECRETS)
def report(
    config: ExperimentConfig,
    base_scores: list[FlyteDirectory],
    published_scores: list[FlyteDirectory],
    tuned_scores: list[FlyteDirectory],
    base: PinnedModel,
    published: list[PinnedModel],
    card: CorpusCard,
    training: TrainingSummary,
    model: FlyteDirectory,
    heldout: FlyteDirectory,
    results: list[list[FlyteDirectory]],
    started: str,
) -> Report:
    """The figures as a typed report, a page and a deck. Not cached, so that every run ends with a report.

    The trackers get them too, in the run that has the curve of the training.

    Args:
        published_scores: Scores of the published model; an empty list if the configuration names none.
        results: All folders that cached tasks returned. If none was made since `started`, the report says that nothing
            moved. The last list has one folder for each part: train, heldout, base, rows, items and model.
    """
    # summarise the scores of one to three models
    with retry_network_errors():
        base_folders, published_folders, (tuned_folder,) = (
            [download(folder, made_by="scoring") for folder in scores]
            for scores in (base_scores, published_scores, tuned_scores)
        )
    tuned = PinnedModel(name=_address(model), revision=measured_model(tuned_folder / "scores"))
    measured = [MeasuredModel("base", base, folder) for folder in base_folders]
    measured += [
        MeasuredModel("published", pinned, folder) for pinned, folder in zip(published, published_folders, strict=True)
    ]
    measured.append(MeasuredModel("fine-tuned", tuned, tuned_folder))
    folders = [folder for of_task in results for folder in of_task]
    newest = newest_if_cached(folders, started=datetime.fromisoformat(started))
    unchanged = None if newest is None else Unchanged(since=newest, num_results=len(folders))
    versions = collect_versions()
    provenance = record_provenance(config, training, versions)
    result = make_report(measured, corpus=card, training=training)
    result = result.model_copy(update={"unchanged": unchanged, "provenance": provenance})

    # write its files, in a local run to a run folder of the output folder, and return the ones that the console shows
    output = local_output()
    folder = new_run_folder(output, CACHE.run_name) if output else new_folder("report")
    parts, sample = {}, None
    if output:
        parts = _name_parts(results[-1], base_scores, published_scores, tuned_scores)
        # Both sides are on this machine in a local run alone; on a cluster, the deck of `build_corpus` shows them.
        sample = read_sample(output / "data" / parts["train"], output / "data" / parts["heldout"])
    write_files(folder, result, config, card, sample)
    Deck("Report", (folder / "report.html").read_text(encoding="utf-8"))
    if output:
        finish_run(folder, CACHE.run_name, CACHE.used, versions, parts)
    say(
        f"\n{report_table(result)}\n\nmodel:    {_address(model)}\nheld out: {_address(heldout)}\n"
        f"report:   {folder / 'report.html'}\ndataset:  {folder / 'dataset.html'}"
    )
    if output and len(read_runs(output)[0]) > 1:
        say("compare:  flyte-llama compare shows it beside the run before")

    # send the figures to the trackers, unless an earlier run has sent the same ones
    tracking = make_tracking(config.training, write_config(config))
    if tracking is not None and training.tracker_run is not None and unchanged is None:
        figures = list_figures(result, judge(result, config.publish, published=config.evaluation.published))
        record_figures(tracking, training.tracker_run, figures, step=training.exported_step)
    returned = ("report.html", "MODEL_CARD.md", "DATASET_CARD.md")
    return Report(result, *(FlyteFile(str(folder / name)) for name in returned))


class Published(NamedTuple):
    url: str
    verdict: Verdict


@task(**UPLOADER, retries=1, secret_requests=HUB_SECRETS)
def publish(
    model: FlyteDirectory, report: EvaluationReport, publish: PublishConfig, evaluation: EvaluationConfig
) -> Published:
    """The gate's verdict, and the URL of the published commit; empty if no repository is configured or the gate
    refuses the model.
    """
    verdict = judge(report, publish, published=evaluation.published)
    if publish.repository is None or not passes_gate(verdict, publish):
        return Published("", verdict)
    token = os.environ.get(HUB_TOKEN)
    with retry_network_errors():
        folder = download(model, made_by="training")
        url = publish_model(folder, report, publish.repository, private=publish.private, token=token)
    return Published(url, verdict)


def _name_parts(single: Sequence[FlyteDirectory], *scores: Sequence[FlyteDirectory]) -> dict[str, str]:
    """Return part → name of the data folder, as the record of a local run has it.

    Args:
        single: Folders whose names in `data` begin with their part.
        scores: Those of the base, the published model and the fine-tuned model.
    """
    names = [Path(folder.path).name for folder in single]
    parts = {name.split("-")[0]: name for name in names}
    for part, folders in zip(("base_scores", "published_scores", "tuned_scores"), scores, strict=True):
        for folder in folders:
            parts[part] = Path(folder.path).name
    return parts


def _address(folder: FlyteDirectory) -> str:
    """The folder's address, without downloading it."""
    return str(folder.remote_source or folder.path)
