"""The folders that tasks exchange are verified before they are read; a failure of the storage is no damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from flytekit import FlyteDirectory
from flytekit.exceptions.user import FlyteDataNotFoundException

from flyte_llama.errors import DataError
from flyte_llama.storage import seal
from flyte_llama.tasks import cache, folders
from flyte_llama.tasks.folders import download


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bucket folder of a pod's notes."""
    monkeypatch.setattr(folders, "local_output", lambda: None)
    monkeypatch.setattr(cache, "SETTINGS", cache.SETTINGS.model_copy(update={"cache": str(tmp_path / "bucket")}))
    (tmp_path / "bucket/damaged/training").mkdir(parents=True)
    return tmp_path / "bucket/damaged/training"


def remote_folder(path: Path, error: Exception | None = None) -> FlyteDirectory:
    """A folder that is downloaded to `path`; the download raises `error`."""

    def downloader() -> None:
        if error is not None:
            raise error

    return FlyteDirectory(str(path), downloader=downloader)


def sealed_folder(path: Path) -> Path:
    path.mkdir()
    (path / "file.txt").write_text("x = 1\n")
    seal(path)
    return path


def test_a_storage_that_does_not_answer_is_tried_again_and_is_no_damage(tmp_path: Path, notes: Path):
    with pytest.raises(DataError, match="could not be downloaded") as failed:
        download(remote_folder(tmp_path / "model", TimeoutError("no answer")), made_by="training")
    assert failed.value.transient
    assert list(notes.iterdir()) == []


@pytest.mark.parametrize("damage", ["gone", "cut", "added"])
def test_a_folder_that_is_gone_or_damaged_is_noted_for_the_next_run(tmp_path: Path, notes: Path, damage: str):
    path = sealed_folder(tmp_path / "model")
    if damage == "cut":
        (path / "file.txt").write_text("x")
    if damage == "added":
        (path / "more.txt").write_text("x")
    error = FlyteDataNotFoundException(str(path)) if damage == "gone" else None
    with pytest.raises(DataError, match="Start the run again: it makes the folder anew") as failed:
        download(remote_folder(path, error), made_by="training")
    assert not failed.value.transient
    assert len(list(notes.iterdir())) == 1


def test_a_folder_of_a_local_run_is_made_again_by_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folders, "_output", lambda: tmp_path)
    (tmp_path / "data").mkdir()
    path = sealed_folder(tmp_path / "data/rows-1")
    assert download(FlyteDirectory(str(path), remote_directory=False)) == path
    (path / "file.txt").write_text("x")
    with pytest.raises(DataError, match="The same command makes it again"):
        download(FlyteDirectory(str(path), remote_directory=False))
