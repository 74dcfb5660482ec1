"""The finished runs of an output folder: one record each, `runs/NAME-DATE/run.json`, newest first.

A record names the data folders of its run by their part, so that a model can be used, and two runs compared, long
after they finished. `output.finish_run` writes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from flyte_llama.errors import DataError
from flyte_llama.progress import say

RECORD, RUNS = "run.json", "runs"


class StoredRun(NamedTuple):
    """A finished run in the output folder."""

    folder: Path
    """`runs/NAME-DATE`: report, cards and configuration."""

    name: str
    """The name of its configuration."""

    finished: datetime
    parts: Mapping[str, str]
    """Part → name of its data folder: `model`, `base`, `train`, `heldout`, `rows`, `items`, and the measurements
    `base_scores`, `published_scores` and `tuned_scores`. Empty if an earlier version made the run."""

    def part(self, name: str) -> Path:
        """Return the data folder of a part.

        Raises:
            DataError: if the run has no such part, or its folder was removed.
        """
        output = self.folder.parent.parent
        if name not in self.parts:
            raise DataError(f"{self.folder}: its record names no {name}. Run it again with this version.")
        folder = output / "data" / self.parts[name]
        if not folder.is_dir():
            raise DataError(f"{folder}: no longer exists, so the {name} of {self.folder.name} cannot be read.")
        return folder


def list_runs(output: Path) -> list[StoredRun]:
    """Return the finished runs of an output folder, newest first; none if the folder does not exist.

    A run whose record cannot be read is told on standard error and left out.
    """
    runs, problems = read_runs(output)
    for problem in problems.values():
        say(problem)
    return runs


def read_runs(output: Path) -> tuple[list[StoredRun], dict[str, str]]:
    """Return the finished runs of an output folder, newest first, and folder name → why its record cannot be read."""
    runs, problems = [], {}
    for record in sorted((output / RUNS).glob(f"*/{RECORD}")):
        try:
            runs.append(read_run(record.parent))
        except DataError as error:
            problems[record.parent.name] = error.message
    return sorted(runs, key=lambda run: (run.finished, run.folder.name), reverse=True), problems


def find_run(name: str, output: Path) -> StoredRun | None:
    """Return the run that a name means; None if it means none.

    Args:
        name: A run's folder, its name in `runs`, or an output folder, which means its newest run.
        output: The output folder to look for names in.
    """
    path = Path(os.path.expanduser(name))
    for folder in (path, output / RUNS / name):
        if (folder / RECORD).is_file():
            return read_run(folder.resolve())
    return next(iter(list_runs(path.resolve())), None)


def read_run(folder: Path) -> StoredRun:
    """Read the record of a run's folder.

    Raises:
        DataError: if it cannot be read.
    """
    record = folder / RECORD
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
        finished, parts = datetime.fromisoformat(facts["finished"]), dict(facts.get("parts", {}))
        if finished.tzinfo is None or not all(isinstance(part, str) for part in parts.values()):
            raise ValueError("its time has no time zone, or a part is no text")
        return StoredRun(folder, str(facts["name"]), finished, parts)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{record}: cannot be read ({error}). Remove that run's folder, or make it again.") from None
