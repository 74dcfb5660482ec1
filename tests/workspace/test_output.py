"""The output folder: used by one run at a time, kept whole, and cleared of what no run needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyte_llama.errors import DataError
from flyte_llama.storage import MANIFEST, verify
from flyte_llama.workspace import (
    BATCHES,
    finish_run,
    keep_folder,
    lock_folder,
    new_run_folder,
    open_output,
    record_unfinished,
    remove_items,
    set_aside,
    stored_items,
)
from tests.workspace.conftest import hold


def make_folder(output: Path, name: str, text: str = "x = 1\n") -> Path:
    folder = output / "work" / name
    folder.mkdir(parents=True)
    (folder / "file.txt").write_text(text)
    return folder


def finished_run(output: Path, name: str, folders: set[str]) -> Path:
    folder = new_run_folder(output, name)
    finish_run(folder, name, folders, {})
    return folder


def removable(output: Path, **options: int) -> set[str]:
    return {item.path.name for item in stored_items(output, **options) if not item.needed_by}


def test_a_batch_keeps_its_data_and_is_no_run(tmp_path):
    run = finished_run(tmp_path, "mine", {keep_folder(make_folder(tmp_path, "model"), tmp_path).name})
    batch = new_run_folder(tmp_path, "prompts", kind=BATCHES)
    kept = keep_folder(make_folder(tmp_path, "completions", "y = 1\n"), tmp_path)
    finish_run(batch, "prompts", {kept.name}, {})
    assert (tmp_path / "latest").resolve() == run
    assert not removable(tmp_path, keep_runs=1)
    assert removable(tmp_path, keep_runs=0) >= {kept.name, batch.name, run.name}


def test_an_output_folder_in_use_is_refused_in_one_line_until_its_process_ends(tmp_path):
    process, _ = hold(f"if True:\n    workspace.open_output(Path({str(tmp_path)!r}))", "1")
    with pytest.raises(DataError, match="another process is using it") as refused:
        open_output(tmp_path)
    assert "\n" not in refused.value.message
    process.kill()
    process.wait()
    open_output(tmp_path)


def test_a_process_may_open_its_own_output_folder_again(tmp_path):
    open_output(tmp_path)
    open_output(tmp_path)
    lock_folder(tmp_path, what="Wait.")


def test_an_output_folder_that_is_a_file_is_one_message(tmp_path):
    file = tmp_path / "output"
    file.touch()
    with pytest.raises(DataError, match="FLYTE_LLAMA_OUTPUT"):
        open_output(file)


def test_opening_the_output_folder_clears_what_an_interrupted_step_was_writing(tmp_path):
    make_folder(tmp_path, "rows-1")
    open_output(tmp_path)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_kept_folder_is_sealed_and_named_by_its_content(tmp_path):
    first, second = make_folder(tmp_path, "rows-1"), make_folder(tmp_path, "rows-2")
    kept = keep_folder(first, tmp_path)
    assert kept.parent == tmp_path / "data"
    assert kept.name.startswith("rows-")
    assert "file.txt" in verify(kept, strict=True)["files"]
    assert keep_folder(second, tmp_path) == kept
    assert not second.exists()
    assert keep_folder(make_folder(tmp_path, "rows-3", "x = 2\n"), tmp_path) != kept


def test_a_damaged_folder_makes_room_for_a_whole_one(tmp_path):
    kept = keep_folder(make_folder(tmp_path, "rows-1"), tmp_path)
    (kept / "file.txt").write_text("x = 3\n")
    assert keep_folder(make_folder(tmp_path, "rows-2"), tmp_path) == kept
    verify(kept, strict=True)
    assert (tmp_path / "data" / f"{kept.name}.damaged" / "file.txt").read_text() == "x = 3\n"


def test_setting_aside_replaces_an_older_damaged_folder(tmp_path):
    for text in ("1", "2"):
        folder = make_folder(tmp_path, "rows-1", text)
        aside = set_aside(folder)
    assert (aside / "file.txt").read_text() == "2"


def test_two_runs_in_one_minute_have_two_folders_and_latest_is_the_second(tmp_path):
    folders = [new_run_folder(tmp_path, "local") for _ in range(3)]
    assert len(set(folders)) == 3
    for folder in folders:
        finish_run(folder, "local", set(), {})
    assert (tmp_path / "latest").resolve() == folders[-1]
    assert not (tmp_path / "latest").readlink().is_absolute()  # so the output folder can be moved


def test_what_no_run_used_is_removed_and_nothing_else(tmp_path, temporary):
    open_output(tmp_path)
    used, unused = (keep_folder(make_folder(tmp_path, name, name), tmp_path) for name in ("model-1", "rows-1"))
    run = finished_run(tmp_path, "local", {used.name})
    remove_items(stored_items(tmp_path))
    assert used.is_dir()
    assert run.is_dir()
    assert not unused.exists()


def test_an_unfinished_run_keeps_its_data_and_checkpoints(tmp_path, temporary):
    open_output(tmp_path)
    rows = keep_folder(make_folder(tmp_path, "rows-1"), tmp_path)
    checkpoints = tmp_path / "checkpoints" / f"base-1-{rows.name}"
    checkpoints.mkdir(parents=True)
    (checkpoints / "file").write_text("x")
    record_unfinished(tmp_path, "mine", {rows.name})
    record_unfinished(tmp_path, "mine", set())  # a later start that has got less far forgets nothing
    assert removable(tmp_path) == set()
    finished_run(tmp_path, "mine", set())
    assert removable(tmp_path) == set()


def test_only_the_newest_runs_are_kept_if_asked(tmp_path, temporary):
    data = [keep_folder(make_folder(tmp_path, "model-1", str(number)), tmp_path) for number in range(3)]
    runs = [finished_run(tmp_path, "local", {folder.name}) for folder in data]
    for age, run in enumerate(reversed(runs)):
        os.utime(run / "run.json", (1e9 - age, 1e9 - age))
    expected = {path.name for path in (*data[:2], *runs[:2])}
    assert removable(tmp_path, keep_runs=1) == expected


def test_nothing_is_removed_if_a_run_does_not_say_what_it_needs(tmp_path, temporary):
    run = finished_run(tmp_path, "local", set())
    (run / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json"):
        stored_items(tmp_path)


def test_the_manifest_of_a_sealed_folder_is_left_as_it_is(tmp_path):
    kept = keep_folder(make_folder(tmp_path, "rows-1"), tmp_path)
    before = (kept / MANIFEST).read_text()
    again = tmp_path / "work" / "rows-2"
    kept.rename(again)
    assert (keep_folder(again, tmp_path) / MANIFEST).read_text() == before


def test_a_damaged_record_of_an_unfinished_run_stops_no_run(tmp_path):
    record_unfinished(tmp_path, "mine", {"rows-1"})
    (tmp_path / "unfinished" / "mine.json").write_bytes(b"\xff")
    record_unfinished(tmp_path, "mine", {"rows-2"})
    assert "rows-2" in (tmp_path / "unfinished" / "mine.json").read_text()


def test_what_unfinished_training_needs_stays_even_if_no_run_is_on_record(tmp_path, temporary):
    open_output(tmp_path)
    rows, other = (keep_folder(make_folder(tmp_path, name, name), tmp_path) for name in ("rows-1", "suite-1"))
    checkpoints = tmp_path / "checkpoints" / f"base-1-{rows.name}"
    checkpoints.mkdir(parents=True)
    (checkpoints / "file").write_text("x")
    assert removable(tmp_path) == {other.name}


def test_a_model_that_no_record_names_is_left_to_the_user(tmp_path, temporary):
    open_output(tmp_path)
    keep_folder(make_folder(tmp_path, "model-1"), tmp_path)
    assert removable(tmp_path) == set()


def test_a_file_system_without_links_ends_no_run(tmp_path, monkeypatch, capsys):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    run = finished_run(tmp_path, "local", {"rows-1"})
    assert (run / "run.json").is_file()
    assert "cannot be a link" in capsys.readouterr().err


def test_a_data_folder_on_another_disk_gets_a_copy(tmp_path, monkeypatch):
    rename = Path.rename

    def across_disks(self: Path, target: Path) -> Path:
        if self.parent != target.parent:
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", across_disks)
    folder = make_folder(tmp_path, "rows-1")
    kept = keep_folder(folder, tmp_path)
    verify(kept, strict=True)
    assert not folder.exists()
    assert list((tmp_path / "data").iterdir()) == [kept]


def test_what_trackers_wrote_is_left_to_the_user(tmp_path, temporary):
    open_output(tmp_path)
    (tmp_path / "trackers" / "tensorboard").mkdir(parents=True)
    (tmp_path / "trackers" / "tensorboard" / "events").write_text("x")
    assert removable(tmp_path) == set()
    assert [item.path.name for item in stored_items(tmp_path)] == ["tensorboard"]
