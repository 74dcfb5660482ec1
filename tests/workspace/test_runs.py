"""The finished runs of an output folder: listed, found by any of their names, and their parts located."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.errors import DataError
from flyte_llama.workspace import find_run, finish_run, list_runs, new_run_folder


def make_run(output: Path, name: str, finished: str, **parts: str) -> Path:
    folder = new_run_folder(output, name)
    for part in parts.values():
        (output / "data" / part).mkdir(parents=True, exist_ok=True)
    finish_run(folder, name, set(parts.values()), {"finished": finished}, parts)
    return folder


def test_runs_are_listed_newest_first(tmp_path):
    assert list_runs(tmp_path / "absent") == []
    make_run(tmp_path, "first", "2026-11-01T10:00:00+00:00")
    make_run(tmp_path, "third", "2026-11-03T10:00:00+00:00")
    make_run(tmp_path, "second", "2026-11-02T10:00:00+00:00")
    assert [run.name for run in list_runs(tmp_path)] == ["third", "second", "first"]


def test_a_run_is_found_by_its_folder_its_name_the_latest_link_and_the_output_folder(tmp_path, monkeypatch):
    old = make_run(tmp_path, "mine", "2026-11-01T10:00:00+00:00", model="model-1")
    new = make_run(tmp_path, "mine", "2026-11-02T10:00:00+00:00", model="model-2")
    monkeypatch.chdir(tmp_path)
    for name, folder in {
        str(old): old,
        old.name: old,
        f"runs/{old.name}": old,
        str(new): new,
        "latest": new,
        str(tmp_path): new,
        ".": new,
    }.items():
        run = find_run(name, tmp_path)
        assert run is not None
        assert run.folder == folder, name
    assert find_run("another", tmp_path) is None


def test_the_parts_of_a_run_are_folders_of_its_output(tmp_path):
    run = find_run(str(make_run(tmp_path, "mine", "2026-11-01T10:00:00+00:00", model="model-1")), tmp_path)
    assert run is not None
    assert run.part("model") == tmp_path / "data" / "model-1"
    with pytest.raises(DataError, match="names no rows"):
        run.part("rows")
    (tmp_path / "data" / "model-1").rmdir()
    with pytest.raises(DataError, match="no longer exists"):
        run.part("model")


@pytest.mark.parametrize(
    "record",
    [
        *(
            "",
            "{}",
            "[1]",
            '{"name": "x", "finished": "yesterday"}',
            '{"name": "x", "finished": "2026-11-01T10:00:00"}',
        ),
        '{"name": "x", "finished": "2026-11-01T10:00:00+00:00", "parts": {"model": 5}}',
    ],
)
def test_a_damaged_record_is_one_message_that_names_it_and_hides_no_other_run(tmp_path, record, capsys):
    whole = make_run(tmp_path, "whole", "2026-11-01T10:00:00+00:00")
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(record)
    with pytest.raises(DataError, match=r"run\.json: cannot be read"):
        find_run("mine", tmp_path)
    assert [run.folder for run in list_runs(tmp_path)] == [whole]
    assert "run.json: cannot be read" in capsys.readouterr().err
