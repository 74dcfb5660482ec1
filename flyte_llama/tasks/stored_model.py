"""The model that a training task stores before its processes end, so that no attempt trains it again.

Flyte would upload it when the processes of this pod have ended, and those of other pods. And a pod may be taken away
after it has uploaded the model and removed its checkpoints, before Flyte has its outputs. So the task uploads the model
itself, and notes its address in the folder that Flyte gives the attempt, which the next one can read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import flytekit
from flytekit import FlyteDirectory
from flytekit.exceptions.user import FlyteDataNotFoundException

from flyte_llama.errors import DataError
from flyte_llama.progress import say
from flyte_llama.tasks.bucket import download_folder, list_names, read_text, try_for_minutes, upload_folder, write_text
from flyte_llama.tasks.folders import attempt_folders, new_folder, output_folder_of
from flyte_llama.training import TrainingSummary
from flyte_llama.training.export import find_model

_NOTE = "model.json"


def store_model(model: FlyteDirectory, *, rows: FlyteDirectory) -> FlyteDirectory:
    """Upload the model, and return it with its address. A local run has put it where it survives already.

    Raises:
        DataError: transient, if the bucket does not take it for minutes.
    """
    if output_folder_of(rows) is None:
        target = flytekit.FlyteContextManager.current_context().file_access.get_random_remote_directory()
        what = f"{model.path}: could not be uploaded to {target}"
        try_for_minutes(lambda: upload_folder(Path(model.path), target), what)
        model._remote_source = target
    return model


def note_model(model: FlyteDirectory, *, made_from: Mapping[str, str], rows: FlyteDirectory) -> None:
    """Note where the model of this run is stored, for the next attempt. Does nothing in a local run.

    Raises:
        DataError: transient, if the bucket does not take it for minutes.
    """
    folders = attempt_folders(rows)
    if folders is None:
        return
    _write_note(folders[0], json.dumps({"uri": str(model.remote_source), "made_from": dict(made_from)}))


def pass_on_note(rows: FlyteDirectory) -> None:
    """Copy the note of the previous attempt to the folder of this one: the next attempt can read no other.

    Call it first, since a pod may be taken away at any moment. Does nothing in a local run.

    Raises:
        DataError: transient, if the bucket does not answer for minutes.
    """
    folders = attempt_folders(rows)
    if folders is None or folders[1] is None:
        return
    note = _read_note(folders[1])
    if note is not None:
        _write_note(folders[0], note)


def find_noted_model(
    rows: FlyteDirectory, made_from: Mapping[str, str]
) -> tuple[FlyteDirectory, TrainingSummary] | None:
    """The model that an earlier attempt noted, downloaded and verified; None if there is none.

    Raises:
        DataError: transient, if the bucket does not answer for minutes.
    """
    folders = attempt_folders(rows)
    note = _read_note(folders[0]) if folders is not None else None
    if note is None:
        return None
    noted = json.loads(note)
    if noted["made_from"] != dict(made_from):
        return None
    out = new_folder("model", made_from=rows)
    try:
        try_for_minutes(lambda: download_folder(noted["uri"], out), f"{noted['uri']}: could not be downloaded")
    except (DataError, FlyteDataNotFoundException) as error:
        say(f"{noted['uri']}: the stored model cannot be read, so it is trained again: {error}")
        return None
    found = find_model([out], made_from)
    if found is None:
        return None
    model = FlyteDirectory(str(out))
    model._remote_source = noted["uri"]
    return model, found[1]


def _read_note(folder: str) -> str | None:
    """The note in the folder of an attempt; None if there is none."""
    uri = f"{folder}/{_NOTE}"
    if _NOTE not in try_for_minutes(lambda: list_names(folder), f"{folder}: could not be listed"):
        return None
    return try_for_minutes(lambda: read_text(uri), f"{uri}: could not be read")


def _write_note(folder: str, note: str) -> None:
    uri = f"{folder}/{_NOTE}"
    try_for_minutes(lambda: write_text(uri, note), f"{uri}: could not be written")
