"""Folders and files in the bucket: listed, uploaded, downloaded and removed.

A bucket that does not answer is asked again for minutes, with growing pauses, since a training of days depends on it.
A path is a URI of any file system that Flyte knows, or a local path.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import flytekit
from flytekit.exceptions.base import FlyteException
from flytekit.exceptions.user import FlyteDataNotFoundException

from flyte_llama.errors import DataError
from flyte_llama.progress import say

T = TypeVar("T")
BUCKET_ERRORS = (FlyteException, OSError)
"""What the functions here raise if the bucket does not answer, or not as asked."""

PAUSES_S = (2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 60.0, 60.0, 60.0, 60.0)
"""Seconds between the tries of one transfer, 6 minutes in all."""


def list_names(folder: str) -> list[str]:
    """The names of the files and folders in a folder, sorted; none if there is no such folder.

    Raises:
        OSError: if the bucket does not answer.
    """
    files = _file_system(folder)
    # Other pods write to the bucket, so what this process saw earlier does not count.
    files.invalidate_cache()
    try:
        paths = files.ls(folder, detail=False)
    except FileNotFoundError:
        return []
    except Exception as error:  # each store's client raises its own classes
        raise OSError(f"{folder}: could not be listed ({type(error).__name__}: {error})") from error
    names = {str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths}
    # Some stores list the folder itself.
    return sorted(names - {folder.rstrip("/").rsplit("/", 1)[-1], ""})


def upload_folder(folder: Path, target: str) -> None:
    """Upload everything in a local folder to `target`."""
    _access().put_data(str(folder), target, is_multipart=True)


def download_folder(source: str, folder: Path) -> None:
    """Download everything in `source` to a local folder."""
    _access().get_data(source, str(folder), is_multipart=True)


def download_file(source: str, file: Path) -> None:
    """Download a file."""
    _access().get_data(source, str(file))


def write_text(target: str, text: str) -> None:
    """Write a file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text"
        file.write_text(text, encoding="utf-8")
        _access().put_data(str(file), target)


def read_text(source: str) -> str:
    """The text of a file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text"
        download_file(source, file)
        return file.read_text(encoding="utf-8")


def remove(path: str) -> None:
    """Remove a file or folder; nothing happens if it is not there.

    Raises:
        OSError: if the bucket does not answer.
    """
    files = _file_system(path)
    files.invalidate_cache()
    try:
        files.rm(path, recursive=True)
    except FileNotFoundError:
        return
    except Exception as error:  # each store's client raises its own classes
        raise OSError(f"{path}: could not be removed ({type(error).__name__}: {error})") from error


def try_for_minutes(work: Callable[[], T], what: str, *, pauses_s: Sequence[float] | None = None) -> T:
    """Return the result of `work`, which is called again after growing pauses as long as the bucket does not answer.

    Args:
        what: What failed, as the beginning of a sentence: "gs://b/model: could not be uploaded".

    Raises:
        FlyteDataNotFoundException: if the bucket says that it does not have what `work` asks for.
        DataError: transient, if it still fails after the last pause.
    """
    pauses_s = PAUSES_S if pauses_s is None else pauses_s
    for pause_s in pauses_s:
        try:
            return work()
        except FlyteDataNotFoundException:
            raise
        except BUCKET_ERRORS as error:
            say(f"{what}; trying again in {pause_s:g} s: {_reason(error)}")
            time.sleep(pause_s)
    try:
        return work()
    except FlyteDataNotFoundException:
        raise
    except BUCKET_ERRORS as error:
        tries = f"{len(pauses_s) + 1} times in {sum(pauses_s) / 60:.0f} minutes"
        raise DataError(
            f"{what}, tried {tries}: {_reason(error)}. Look whether the bucket answers.", transient=True
        ) from None


def _reason(error: Exception) -> str:
    """What happened, in one line: flytekit puts the first cause last."""
    lines = str(error).strip().splitlines()
    return (lines[-1].removeprefix("Original exception: ") if lines else type(error).__name__).rstrip(".")


def _access() -> Any:
    return flytekit.FlyteContextManager.current_context().file_access


def _file_system(path: str) -> Any:
    return _access().get_filesystem_for_path(path)
