"""The finished runs of an output folder, one line each: what each trained on, and how much better its model got.

A line comes from the run's record and its report alone, so that hundreds of runs are listed in seconds. A run that
cannot be read has a line too, which says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from flyte_llama.config import Frozen
from flyte_llama.errors import DataError
from flyte_llama.evaluation import Change, Line
from flyte_llama.model import PinnedModel
from flyte_llama.progress import bytes_text
from flyte_llama.report.sentences import interval_text
from flyte_llama.report.tables import align_columns
from flyte_llama.workspace import StoredRun, read_runs
from flyte_llama.workspace.runs import RECORD, RUNS

REPORT = "report.json"
NO_VALUE = "-"
COLUMNS = ("run", "base", "docs", "tokens", "held out", "bits/B base", "tuned", "change [95 % interval]", "verdict")


class RunLine(Frozen):
    """A run in one line. A figure is None if the run has none: `flyte-llama evaluate` trains nothing."""

    name: str
    finished: datetime | None
    base: str
    """Name of the model that was fine-tuned or, in a report of one model, of that model."""

    train_documents: int | None
    train_tokens: int | None
    heldout_documents: int
    base_bits: float | None
    """The base's bits per byte on all held-out text."""

    bits: float
    """The same of the model that the report is about."""

    change: Change | None
    has_parts: bool = False
    """Whether held-out documents are of a repository that was trained on, so no figure is about others."""

    model: str = ""
    """Size of the fine-tuned model on disk, or why it has none."""


class UnreadableRun(Frozen):
    """A folder in `runs` that is no finished run, or none that can be read."""

    name: str
    problem: str


def list_lines(output: Path) -> list[RunLine | UnreadableRun]:
    """Return one line for each run, newest first, then those that cannot be read."""
    runs, problems = read_runs(output)
    folders = (path for path in (output / RUNS).glob("*") if path.is_dir())
    problems |= {path.name: f"did not finish: it has no {RECORD}" for path in folders if not (path / RECORD).is_file()}
    unreadable = [UnreadableRun(name=name, problem=problem) for name, problem in sorted(problems.items())]
    lines: list[RunLine] = []
    for run in runs:
        try:
            line = summarise_report(run.folder.name, read_report(run.folder / REPORT), finished=run.finished)
            lines.append(line.model_copy(update={"model": _model_text(run)}))
        except DataError as error:
            unreadable.append(UnreadableRun(name=run.folder.name, problem=error.message))
    return [*lines, *unreadable]


def read_report(file: Path) -> dict[str, Any]:
    """Read a report's JSON without checking it.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read ({error}). Make the report again.") from None


def summarise_report(name: str, report: Mapping[str, Any], *, finished: datetime | None) -> RunLine:
    """Return the line of a report, without the size of its model.

    Raises:
        DataError: if the report lacks a figure.
    """
    try:
        overall = Line.model_validate(report["heldout"]["overall"])
        base = PinnedModel.model_validate(report["models"][0]["identity"])
        corpus, training = report.get("corpus"), report.get("training")
        return RunLine(
            name=name,
            finished=finished,
            base=Path(base.name).name if base.is_local else base.name,
            train_documents=corpus["train"]["documents"]["files"] if corpus and training else None,
            train_tokens=training["num_tokens"] if training else None,
            heldout_documents=overall.num_documents,
            base_bits=overall.figures[0].bits_per_byte if overall.changes else None,
            bits=overall.figures[-1].bits_per_byte,
            change=overall.changes[0] if overall.changes else None,
            has_parts=bool(report.get("parts")),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{name}: its report is of another version of Flyte Llama ({reason}).") from None


def lines_table(lines: Sequence[RunLine | UnreadableRun]) -> str:
    """Return the lines as a table, and below it a sentence for each run that cannot be read."""
    readable = [line for line in lines if isinstance(line, RunLine)]
    parts = []
    if readable:
        parts.append(align_columns((*COLUMNS, "model"), [(*line_cells(line), line.model) for line in readable]))
    parts += [f"{line.name}: {line.problem}" for line in lines if isinstance(line, UnreadableRun)]
    return "\n".join(parts)


def line_cells(line: RunLine) -> tuple[str, ...]:
    """Return the cells of a line, without the model's size."""
    return (
        line.name,
        line.base,
        _count(line.train_documents),
        _count(line.train_tokens),
        _count(line.heldout_documents),
        NO_VALUE if line.base_bits is None else f"{line.base_bits:.3f}",
        f"{line.bits:.3f}",
        NO_VALUE if line.change is None else f"{line.change.difference:+.3f} {interval_text(line.change.documents)}",
        NO_VALUE if line.change is None else verdict_word(line.change, has_parts=line.has_parts),
    )


def verdict_word(change: Change, *, has_parts: bool) -> str:
    """Return the verdict of a report in a word: `better` or `worse`, `not better`, or `too few` documents to tell.

    `better here` and `worse here` hold on the measured documents alone.

    Args:
        has_parts: As in `RunLine`.
    """
    if change.documents is None:
        return "too few"
    if change.is_better_here:
        return "better" if change.is_better and not has_parts else "better here"
    if change.is_worse_here:
        return "worse" if change.is_worse and not has_parts else "worse here"
    return "not better"


def _count(count: int | None) -> str:
    return NO_VALUE if count is None else f"{count:,}"


def _model_text(run: StoredRun) -> str:
    if "model" not in run.parts:
        return "unknown"
    try:
        files = [path for path in run.part("model").rglob("*") if path.is_file()]
        return bytes_text(sum(path.stat().st_size for path in files))
    except (DataError, OSError):
        return "removed"
