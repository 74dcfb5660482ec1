"""The output folder of local runs.

output/
  data/NAME-HASH         a step's result, sealed, and named by its content
  data/unverified-HASH   a trained model that failed its verification; no step reads it
  runs/NAME-DATE/        one finished run: report, configuration, and its record, `run.json` (see `runs`)
  latest                 a link to the newest finished run
  batches/NAME-DATE/     completions of a folder of prompts, and `run.json`
  unfinished/NAME.json   the data folders of a run that has not finished yet
  checkpoints/           of training that has not finished yet
  comparisons/           pages of `flyte-llama compare`
  trackers/              what wandb and tensorboard write: `training.report_to`
  cache/                 what later runs need not do again
  work/                  what a step is writing; emptied when a run starts
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from flyte_llama.errors import DataError
from flyte_llama.progress import say
from flyte_llama.storage import MANIFEST, remove_tree, seal, sha256_folder, write_json
from flyte_llama.workspace.runs import RECORD, RUNS
from flyte_llama.workspace.temporary import lock_folder, remove_stale_folders, stale_folders

BATCHES = "batches"
"""The folder of finished batches of completions, apart from RUNS: none of them is a run to compare or to ask why."""


class StoredItem(NamedTuple):
    """Something in the output folder, or a leftover in the temporary folder, that takes room."""

    path: Path
    num_bytes: int
    needed_by: str
    """The run that needs it, or why it stays; empty if no run needs it."""


def open_output(output: Path) -> None:
    """Make the output folder, lock it for this process, and empty its `work` folder.

    Raises:
        DataError: if the folder cannot be written, or another run is using it.
    """
    remove_stale_folders()
    try:
        (output / "data").mkdir(parents=True, exist_ok=True)
        lock_folder(output, what="Wait until that run ends, or set FLYTE_LLAMA_OUTPUT to another folder for this one.")
        shutil.rmtree(output / "work", ignore_errors=True)
        (output / "work").mkdir(exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{output}: cannot be used as the output folder ({error.strerror}: {error.filename}). Make it writable, or "
            "set FLYTE_LLAMA_OUTPUT to another folder."
        ) from None


def keep_folder(folder: Path, output: Path) -> Path:
    """Seal a folder from `work`, move it to `data`, and return its path there, `data/NAME-HASH`.

    The move is one rename, so the result is in `data` whole or not at all. A folder with the same content that is there
    already is kept; a damaged one is set aside. A folder that is in `data` already stays where it is.
    """
    if folder.parent == output / "data":
        return folder
    if not (folder / MANIFEST).is_file():
        seal(folder)
    digest = sha256_folder(folder)
    target = output / "data" / f"{folder.name.split('-')[0]}-{digest[:12]}"
    if target.exists():
        if sha256_folder(target) == digest:
            shutil.rmtree(folder)
            return target
        set_aside(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # `data` is on another disk.
        copy = target.with_name(f"{target.name}.new")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        copy.rename(target)
        shutil.rmtree(folder)
    return target


def set_aside(folder: Path) -> Path:
    """Rename a damaged folder to `NAME.damaged`, so that nothing reads it, and return its new path."""
    aside = folder.with_name(f"{folder.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    return aside


def record_unfinished(output: Path, name: str, folders: set[str]) -> None:
    """Add to the data folders of a run that has not finished, so that nothing removes them."""
    record = output / "unfinished" / f"{name}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(DataError):  # there is none yet, or it is damaged
        folders = folders.union(_folders_of(record))
    _replace_json(record, {"folders": sorted(folders)})


def new_run_folder(output: Path, name: str, *, kind: str = RUNS) -> Path:
    """Make the folder `KIND/NAME-DATE` of a run that is about to finish, in RUNS or BATCHES."""
    now = datetime.now()
    for date in (f"{now:%Y-%m-%d-%H%M}", f"{now:%Y-%m-%d-%H%M%S}", f"{now:%Y-%m-%d-%H%M%S-%f}"):
        folder = output / kind / f"{name}-{date}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise DataError(f"{folder}: exists already. Start the run again.")


def finish_run(
    folder: Path, name: str, folders: set[str], facts: Mapping[str, Any], parts: Mapping[str, str] | None = None
) -> None:
    """Write `run.json` to a run's folder, and forget that the run was unfinished; link `latest` to a folder of `runs`.

    Args:
        folders: The names of the data folders that the run used.
        facts: What else to record: `finished`, its time in ISO 8601, and versions.
        parts: Part of the run → name of its data folder, as in `StoredRun.parts`.
    """
    output = folder.parent.parent
    _replace_json(folder / RECORD, {"name": name, **facts, "parts": dict(parts or {}), "folders": sorted(folders)})
    if folder.parent.name == RUNS:
        _link_latest(folder, output)
    (output / "unfinished" / f"{name}.json").unlink(missing_ok=True)


def stored_items(output: Path, *, keep_runs: int | None = None) -> list[StoredItem]:
    """Everything that takes room in the output folder, and what killed processes left in the temporary folder.

    Args:
        keep_runs: Number of newest runs that are still needed, and of newest batches; None needs all.
    """
    by_kind = [_records(output / kind) for kind in (RUNS, BATCHES)]
    runs = [record for records in by_kind for record in records]
    kept = [record for records in by_kind for record in records[:keep_runs]]
    checkpoints = _folders_in(output / "checkpoints")
    # Data folder → the first run that needs it.
    needed: dict[str, str] = {}
    for record in sorted((output / "unfinished").glob("*.json")):
        needed.update(dict.fromkeys(_folders_of(record), f"the unfinished run {record.stem}"))
    for record in kept:
        needed.update({name: record.parent.name for name in _folders_of(record) if name not in needed})
    recorded = needed.keys() | {name for record in runs for name in _folders_of(record)}

    kept_folders = {record.parent for record in kept}
    finished = [folder for kind in (RUNS, BATCHES) for folder in _folders_in(output / kind)]
    items = [_item(folder, needed_by="itself" * (folder in kept_folders)) for folder in finished]
    for folder in _folders_in(output / "data"):
        owner = needed.get(folder.name, "")
        if not owner and any(folder.name in checkpoint.name for checkpoint in checkpoints):
            owner = "unfinished training"
        elif not owner and re.fullmatch(r"model-\w+", folder.name) and folder.name not in recorded:
            owner = "no run on record: remove it by hand if you do not need it"
        elif folder.name.startswith("unverified-"):
            owner = "no run: a trained model that failed its verification. Verify it, or remove it by hand"
        items.append(_item(folder, needed_by=owner))
    items += [_item(folder, needed_by="unfinished training") for folder in checkpoints]
    items += [
        _item(folder, needed_by="no run: files of trackers. Remove it by hand if you do not need it")
        for folder in _folders_in(output / "trackers")
    ]
    items.append(_item(output / "comparisons", needed_by="no run: pages of comparisons. Remove them by hand"))
    items += [_item(folder, needed_by="later runs") for folder in _folders_in(output / "cache")]
    items += [_item(folder, needed_by="") for folder in (output / "work", *stale_folders()) if folder.is_dir()]
    return [item for item in items if item.num_bytes]


def remove_items(items: list[StoredItem]) -> None:
    """Remove the items that no run needs; the rest stays."""
    for item in items:
        if not item.needed_by:
            remove_tree(item.path)
            if item.path.exists():
                say(f"{item.path}: could not be removed. Remove it by hand.")


def _link_latest(folder: Path, output: Path) -> None:
    link = output / "latest.new"
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(folder.relative_to(output), target_is_directory=True)
        link.replace(output / "latest")
    except OSError as error:
        say(f"{output / 'latest'}: cannot be a link to {folder} ({error.strerror})")


def _records(folder: Path) -> list[Path]:
    """The records of the finished runs in a folder, newest first."""
    return sorted(folder.glob(f"*/{RECORD}"), key=lambda record: record.stat().st_mtime, reverse=True)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _folders_of(record: Path) -> list[str]:
    """The data folders that a run's record names.

    Raises:
        DataError: if it cannot be read; the folders that it needs are then unknown.
    """
    try:
        return list(json.loads(record.read_text(encoding="utf-8"))["folders"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{record}: cannot be read ({error}), so what its run needs is unknown. Remove that file or its run folder."
        ) from None


def _item(folder: Path, *, needed_by: str) -> StoredItem:
    num_bytes = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # its owner may remove it at this moment
            num_bytes += 0 if path.is_dir() else path.lstat().st_size
    return StoredItem(folder, num_bytes, needed_by)


def _replace_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    write_json(new, content)
    new.replace(path)
