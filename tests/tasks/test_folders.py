"""The folders that tasks exchange are verified before they are read; a failure of the storage is no damage."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flytekit import FlyteDirectory
from flytekit.exceptions.user import FlyteDataNotFoundException

from flyte_llama.errors import DataError
from flyte_llama.storage import seal
from flyte_llama.tasks import cache, folders
from flyte_llama.tasks.folders import download, newest_if_cached, open_cache_folder


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


def folder_of(path: Path, day: int) -> FlyteDirectory:
    """A sealed folder that was made on this day of January 2026."""
    manifest, time_s = sealed_folder(path) / "manifest.json", datetime(2026, 1, day, tzinfo=UTC).timestamp()
    os.utime(manifest, (time_s, time_s))
    return FlyteDirectory(str(path), remote_directory=False)


def test_a_run_whose_results_are_all_older_than_itself_took_them_from_the_cache(tmp_path: Path):
    results = [folder_of(tmp_path / str(day), day) for day in (3, 5, 4)]
    assert newest_if_cached(results, started=datetime(2026, 1, 6, tzinfo=UTC)) == datetime(2026, 1, 5, tzinfo=UTC)


def test_a_result_that_is_newer_than_the_run_was_made_by_it(tmp_path: Path):
    results = [folder_of(tmp_path / str(day), day) for day in (3, 5, 4)]
    assert newest_if_cached(results, started=datetime(2026, 1, 4, 12, tzinfo=UTC)) is None


def test_a_result_that_a_local_step_made_again_did_not_come_from_the_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(folders.CACHE, "made", {"rows-1"})
    results = [folder_of(tmp_path / "rows-1", 3)]
    assert newest_if_cached(results, started=datetime(2026, 1, 6, tzinfo=UTC)) is None


def test_a_result_without_a_time_leaves_it_open_whether_it_came_from_the_cache(tmp_path: Path, capsys):
    results = [folder_of(tmp_path / "rows", 3), FlyteDirectory(str(tmp_path / "gone"), remote_directory=False)]
    assert newest_if_cached(results, started=datetime(2026, 1, 6, tzinfo=UTC)) is None
    assert "gone/manifest.json: its time is not known" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["s3://bucket/folder", "nothing://bucket", "FILE/folder"])
def test_a_cache_that_cannot_be_reached_costs_one_line(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def refuse(path: str) -> None:
        raise ConnectionError(f"{path}:\nno answer")

    (tmp_path / "FILE").write_text("")
    address = address.replace("FILE", str(tmp_path / "FILE"))
    monkeypatch.setattr(folders, "local_output", lambda: None)
    monkeypatch.setattr(folders, "SETTINGS", folders.SETTINGS.model_copy(update={"cache": address}))
    if address.startswith("s3"):
        monkeypatch.setattr(folders, "list_names", refuse)
    with open_cache_folder("https://example.com/o/r") as folder:
        assert folder is None or address.startswith("/")
    assert capsys.readouterr().err.count("\n") == 1
