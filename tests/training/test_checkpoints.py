"""A checkpoint is recognised as whole or damaged, whatever happened to it and whenever its process ended."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flyte_llama.errors import DataError, TrainingError
from flyte_llama.storage import MANIFEST, list_files
from flyte_llama.training.checkpoints import Checkpoints
from flyte_llama.workspace.temporary import LOCK_FILE

MADE_FROM = {"rows": "1" * 64, "training.learning_rate": "0.1", "processes": "2"}
FILES = {"latest": b"global_step", "trainer_state.json": b"{}", "global_step/model.pt": b"01234567" * 9, "empty": b""}


def checkpoints(folder: Path, **changes: str) -> Checkpoints:
    store = Checkpoints(folder, made_from=MADE_FROM | changes, keep=2)
    store.prepare()
    return store


def seal_step(store: Checkpoints, step: int, *, best: int | None = None) -> Path:
    for name, content in FILES.items():
        file = store.unsealed_folder(step) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content + str(step).encode())
    return store.seal(step, best=best)


def flip_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "flipped": flip_bit,
    "emptied": lambda file: os.truncate(file, 0),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_checkpoint_with_any_damaged_file_is_set_aside_by_name_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
):
    store = checkpoints(tmp_path)
    seal_step(store, 90)
    damage(seal_step(store, 100) / name)
    assert store.newest() == 90
    assert (tmp_path / "step-100.damaged").is_dir()
    assert "checkpoint step-100 is damaged" in capsys.readouterr().err
    assert store.newest() == 90


def test_the_best_checkpoint_stays_beside_the_newest(tmp_path: Path):
    store = checkpoints(tmp_path)
    for step, best in [(10, 10), (20, 20), (30, 20), (40, 20), (50, 20)]:
        seal_step(store, step, best=best)
    assert store.steps() == [50, 40, 20]
    seal_step(store, 60, best=60)
    assert store.steps() == [60, 50]


def test_an_extra_file_among_the_sealed_ones_is_damage(tmp_path: Path):
    store = checkpoints(tmp_path)
    (seal_step(store, 1) / "global_step/planted.pt").write_bytes(b"a pickle from elsewhere")
    assert store.newest() is None


def test_an_empty_checkpoint_of_a_high_number_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store = checkpoints(tmp_path)
    seal_step(store, 4)
    (tmp_path / "step-99").mkdir()
    assert store.newest() == 4
    assert "step-99 is damaged and not used; set aside as" in capsys.readouterr().err


def test_if_all_checkpoints_are_damaged_none_is_returned(tmp_path: Path):
    store = checkpoints(tmp_path)
    for step in (1, 2):
        flip_bit(seal_step(store, step) / "latest")
    assert store.newest() is None
    assert {path.name for path in tmp_path.iterdir()} == {"step-1.damaged", "step-2.damaged", "unsealed", LOCK_FILE}


def test_only_the_newest_are_kept_and_a_step_can_be_sealed_again(tmp_path: Path):
    store = checkpoints(tmp_path)
    for step in (8, 9, 10, 10):
        seal_step(store, step)
    assert store.steps() == [10, 9]
    assert store.newest() == 10
    assert list(store.unsealed.iterdir()) == []
    store.remove_after(9)
    assert store.steps() == [9]
    assert store.newest(at_most=8) is None


def test_a_checkpoint_of_another_run_is_refused_with_the_differences_and_left_alone(tmp_path: Path):
    seal_step(checkpoints(tmp_path), 5)
    other = checkpoints(tmp_path, rows="2" * 64, processes="1", **{"training.learning_rate": "0.2"})
    with pytest.raises(TrainingError) as refused:
        other.newest()
    assert "rows: 111111111111… → 222222222222…" in str(refused.value)
    assert "processes: 2 → 1" in str(refused.value)
    assert "training.learning_rate: 0.1 → 0.2" in str(refused.value)
    assert f"remove {tmp_path} to start from scratch" in str(refused.value)
    assert checkpoints(tmp_path).newest() == 5


def test_room_is_checked_by_the_size_of_the_last_checkpoint(tmp_path: Path):
    store = checkpoints(tmp_path)
    store.check_room(1)
    with pytest.raises(TrainingError, match=r"need [\d,.]+ TiB free for a checkpoint at .*available"):
        store.check_room(5 * 10**18)
    seal_step(store, 1)
    store.check_room(5 * 10**18)
    with pytest.raises(TrainingError, match=r"checkpoints at .*The last one is from step 1"):
        store.check_room(1, count=10**16)


def test_checkpoints_that_another_process_uses_are_refused_until_it_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        checkpoints(tmp_path)
        os.write(writing, b"x")
        time.sleep(60)
    os.read(reading, 1)
    second = Checkpoints(tmp_path, made_from=MADE_FROM, keep=2)
    with pytest.raises(DataError, match="another process is using it"):
        second.prepare(patience_s=0.1)
    assert "waiting for another process that still uses these checkpoints" in capsys.readouterr().err
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    second.prepare(patience_s=0.1)


def survives_kill(folder: Path, events: int) -> bool:
    """Whether a process that seals step 3 finishes before it is killed at its `events`-th file operation."""
    child = os.fork()
    if child == 0:
        count_so_far = 0

        def count(event: str, _: object) -> None:
            nonlocal count_so_far
            if event.split(".")[0] in ("open", "os", "shutil"):
                count_so_far += 1
                if count_so_far == events:
                    os.kill(os.getpid(), signal.SIGKILL)

        store = Checkpoints(folder, made_from=MADE_FROM, keep=2)
        sys.addaudithook(count)
        seal_step(store, 3)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_process_killed_at_any_moment_of_sealing_leaves_the_last_whole_checkpoint(tmp_path: Path):
    before = tmp_path / "before"
    store = checkpoints(before)
    for step in (1, 2):
        seal_step(store, step)
    newest = set()
    for events in range(1, 1000):
        folder = tmp_path / str(events)
        shutil.copytree(before, folder)
        survived = survives_kill(folder, events)
        after = checkpoints(folder)
        newest.add(after.newest())
        assert not list(folder.glob("*.damaged"))
        assert list(after.unsealed.iterdir()) == []
        if survived:
            break
    assert survived
    assert events > 20
    assert newest == {2, 3}


def test_all_files_except_the_manifest_are_sealed(tmp_path: Path):
    assert list_files(seal_step(checkpoints(tmp_path), 1)) == set(FILES)
