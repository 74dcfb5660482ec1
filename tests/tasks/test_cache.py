"""Flyte's cache in local runs: it lies in the output folder, and only whole folders are found in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from flytekit import Cache, FlyteDirectory, map_task, task, workflow
from flytekit.core.local_cache import LocalTaskCache

from flyte_llama.storage import verify
from flyte_llama.tasks import cache, folders
from flyte_llama.tasks.cache import OutputCache
from flyte_llama.tasks.folders import Folder, download, new_folder, upload

runs: list[str] = []


@task(cache=Cache(version="1"))
def write_text(text: str) -> Folder:
    runs.append(f"write {text}")
    folder = new_folder("text")
    (folder / "text.txt").write_text(text)
    return upload(folder)


@task(cache=Cache(version="1"))
def join_texts(texts: list[FlyteDirectory]) -> Folder:
    runs.append("join")
    folder = new_folder("joined")
    (folder / "text.txt").write_text("".join((download(text) / "text.txt").read_text() for text in texts))
    return upload(folder)


@task
def read_text(text: FlyteDirectory) -> str:
    return (download(text) / "text.txt").read_text()


@workflow
def join_and_read(names: list[str]) -> str:
    return read_text(text=join_texts(texts=map_task(write_text)(text=names)))


def open_output(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `output` the output folder of this process."""
    here = OutputCache(output)
    monkeypatch.setattr(folders, "_output", lambda: output)
    monkeypatch.setattr(LocalTaskCache, "get", staticmethod(here.get))
    monkeypatch.setattr(LocalTaskCache, "set", staticmethod(here.set))
    monkeypatch.setattr(cache, "CACHE", here)
    runs.clear()


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output folder of a first run, whose results are all cached."""
    output = tmp_path / "output"
    open_output(output, monkeypatch)
    assert join_and_read(names=["a", "b"]) == "ab"
    assert runs == ["write a", "write b", "join"]
    runs.clear()
    return output


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def data_folders(output: Path, name: str) -> list[Path]:
    return sorted(path for path in (output / "data").glob(f"{name}-*") if path.suffix != ".damaged")


def test_a_second_run_takes_everything_from_the_cache(output):
    assert join_and_read(names=["a", "b"]) == "ab"
    assert runs == []


@pytest.mark.parametrize(
    "damage",
    [
        shutil.rmtree,
        lambda folder: folder.rename(folder.parent.parent / folder.name),
        lambda folder: flip_a_bit(folder / "text.txt"),
        lambda folder: (folder / "text.txt").write_text(""),
        lambda folder: (folder / "text.txt").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "added.txt").write_text("x"),
        lambda folder: (shutil.rmtree(folder), folder.write_text("a file")),
    ],
    ids=["removed", "moved", "flipped", "cut", "file gone", "manifest gone", "file added", "a file in its place"],
)
def test_a_result_that_is_not_as_it_was_stored_is_made_again(output, damage: Callable[[Path], object]):
    damage(data_folders(output, "joined")[0])
    assert join_and_read(names=["a", "b"]) == "ab"
    assert runs == ["join"]
    verify(data_folders(output, "joined")[0], strict=True)


def test_one_lost_folder_of_a_list_renews_the_list_and_nothing_after_it(output):
    shutil.rmtree(data_folders(output, "text")[1])
    assert join_and_read(names=["a", "b"]) == "ab"
    assert set(runs) == {"write a", "write b"}


def test_an_entry_that_was_changed_is_not_believed(output):
    for entry in (output / "cache" / "flyte").iterdir():
        flip_a_bit(entry)
    assert join_and_read(names=["a", "b"]) == "ab"
    assert runs == ["write a", "write b", "join"]


def test_a_damaged_folder_is_kept_aside_and_said(output, capsys):
    folder = data_folders(output, "joined")[0]
    flip_a_bit(folder / "text.txt")
    join_and_read(names=["a", "b"])
    assert (folder.parent / f"{folder.name}.damaged").is_dir()
    assert "joined" in capsys.readouterr().err


def test_an_output_folder_that_was_moved_keeps_its_results(output, monkeypatch):
    moved = output.with_name("moved")
    output.rename(moved)
    open_output(moved, monkeypatch)
    assert join_and_read(names=["a", "b"]) == "ab"
    assert runs == []


def test_two_output_folders_never_serve_each_other(output, tmp_path, monkeypatch):
    open_output(tmp_path / "other", monkeypatch)
    join_and_read(names=["a", "b"])
    assert runs == ["write a", "write b", "join"]
    shutil.rmtree(output)
    runs.clear()
    join_and_read(names=["a", "b"])
    assert runs == []


def test_an_entry_that_names_a_folder_elsewhere_is_not_used(output, tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(output / "cache", other / "cache")
    open_output(other, monkeypatch)
    assert join_and_read(names=["a", "b"]) == "ab"
    assert runs == ["write a", "write b", "join"]


def test_the_folders_that_a_run_used_are_recorded(output):
    cache.CACHE.used.clear()
    cache.CACHE.run_name = "mine"
    join_and_read(names=["a", "b"])
    names = {path.name for path in (output / "data").iterdir()}
    assert cache.CACHE.used == names
    for name in names:
        assert name in (output / "unfinished" / "mine.json").read_text()
