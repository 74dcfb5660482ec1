"""A run, a folder of `flyte-llama evaluate` or a report alone, opened to be compared with another one.

What is no longer there is None, with a sentence that says what cannot be compared without it: `flyte-llama clean`
removes data folders, and a report alone has none.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.errors import ConfigError, DataError
from flyte_llama.model import PinnedModel
from flyte_llama.report import EvaluationReport
from flyte_llama.runs.listing import REPORT, RunLine, read_report, summarise_report
from flyte_llama.storage import verify
from flyte_llama.workspace import StoredRun, find_run

CONFIG = "config.yaml"


class MeasuredRun(NamedTuple):
    """What a comparison needs of a run."""

    folder: Path
    """The run's folder, or the file of a report alone."""

    line: RunLine
    report: EvaluationReport
    config: ExperimentConfig | None
    measurements: Path | None
    """The folder of `scores`, `completions` and `grades` of the model that the report is about."""

    train: Path | None
    """The folder of the train documents."""

    heldout: Path | None
    gaps: list[str]
    """Sentences on what is None."""

    @property
    def model(self) -> PinnedModel:
        """The model that the report is about."""
        return self.report.models[-1].identity


def open_measured_run(name: str, output: Path) -> MeasuredRun:
    """Open what a name means: a run's name or folder, an output folder, an evaluation's folder, or a report's file.

    Args:
        name: An output folder means its newest run.
        output: The output folder to look for names in.

    Raises:
        DataError: if it means nothing, or its report cannot be read.
    """
    run = find_run(name, output)
    if run is not None:
        return _open(run.folder.name, run.folder, run.part, run)
    path = Path(os.path.expanduser(name))
    if (path / REPORT).is_file():
        return _open(path.resolve().name, path.resolve(), _evaluation_part(path.resolve()))
    if path.is_file():
        return _open(path.name, path.resolve(), None)
    raise DataError(
        f"{name}: is no run of {output}, no folder of `flyte-llama evaluate` and no report.json. "
        "`flyte-llama runs` lists the runs."
    )


def _open(name: str, path: Path, part: Callable[[str], Path] | None, run: StoredRun | None = None) -> MeasuredRun:
    """Open a report, and what is beside it.

    Args:
        part: From the name of a part to its data folder, as `StoredRun.part`; None if the report is alone.
    """
    values = read_report(path if part is None else path / REPORT)
    line = summarise_report(name, values, finished=run.finished if run else None)
    try:
        report = EvaluationReport.model_validate(values)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: its report is of another version of Flyte Llama ({reason}).") from None
    if part is None:
        gap = "is a report alone: the configuration, and all that needs documents or measurements, is left out."
        return MeasuredRun(path, line, report, None, None, None, None, [gap])
    gaps: list[str] = []
    config = None
    try:
        config = load_config(path / CONFIG)
    except ConfigError as error:
        gaps.append(f"its configuration is left out: {error.message}")
    if run is not None and not run.parts:
        gaps.append("an earlier version made it, so its data is unknown: documents and measurements are left out.")
        return MeasuredRun(path, line, report, config, None, None, None, gaps)
    # `flyte-llama evaluate --heldout` reads no sources, so its folder has no documents
    train, heldout = (
        _find(part, side, gaps, what=f"{side.replace('heldout', 'held-out')} documents") if report.corpus else None
        for side in ("train", "heldout")
    )
    return MeasuredRun(
        folder=path,
        line=line,
        report=report,
        config=config,
        measurements=_find(part, "tuned_scores", gaps, what="measurements", sealed="scores"),
        train=train,
        heldout=heldout,
        gaps=gaps,
    )


def _find(part: Callable[[str], Path], name: str, gaps: list[str], *, what: str, sealed: str = "") -> Path | None:
    """Return the folder of a part; None, and a sentence in `gaps`, if it is damaged or not there.

    Args:
        sealed: The folder in it that has a manifest; empty if it has one itself.
    """
    try:
        folder = part(name)
        if not folder.is_dir():
            raise DataError(f"{folder}: does not exist.")
        verify(folder / sealed)
    except DataError as error:
        gaps.append(f"its {what} cannot be read: {error.message}")
        return None
    return folder


def _evaluation_part(folder: Path) -> Callable[[str], Path]:
    """Return a function from a part to its place in the folder of `flyte-llama evaluate`."""
    places = {"train": "corpus/train", "heldout": "corpus/heldout", "tuned_scores": "evaluated/measured"}
    return lambda name: folder / places[name]
