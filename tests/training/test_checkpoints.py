"""A checkpoint is found whole or found not to be, whatever happened to it and whenever its process ended."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flyte_llama.errors import TrainingError
from flyte_llama.manifest import MANIFEST, files_below
from flyte_llama.training.checkpoints import Checkpoints, amount

MADE_FROM = {"rows": "1" * 64, "training.learning_rate": "0.1", "processes": "2"}
FILES = {"latest": b"global_step", "trainer_state.json": b"{}", "global_step/model.pt": b"01234567" * 9, "empty": b""}


def checkpoints(folder: Path, **changes: str) -> Checkpoints:
    kept = Checkpoints(folder, made_from=MADE_FROM | changes, keep=2)
    kept.prepare()
    return kept


def sealed(kept: Checkpoints, step: int) -> Path:
    for name, content in FILES.items():
        file = kept.written(step) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content + str(step).encode())
    return kept.seal(step)


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "flipped": flipped,
    "emptied": lambda file: os.truncate(file, 0),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_checkpoint_with_any_damaged_file_is_set_aside_by_name_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
):
    kept = checkpoints(tmp_path)
    sealed(kept, 90)
    damage(sealed(kept, 100) / name)
    assert kept.newest() == 90
    assert (tmp_path / "step-100.damaged").is_dir()
    assert "checkpoint step-100 is damaged" in capsys.readouterr().err
    assert kept.newest() == 90


def test_a_file_that_was_put_beside_the_sealed_ones_is_damage(tmp_path: Path):
    kept = checkpoints(tmp_path)
    (sealed(kept, 1) / "global_step/planted.pt").write_bytes(b"a pickle from elsewhere")
    assert kept.newest() is None


def test_an_empty_checkpoint_of_a_high_number_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    kept = checkpoints(tmp_path)
    sealed(kept, 4)
    (tmp_path / "step-99").mkdir()
    assert kept.newest() == 4
    assert "step-99 is damaged and not used; set aside as" in capsys.readouterr().err


def test_where_all_are_damaged_there_is_none(tmp_path: Path):
    kept = checkpoints(tmp_path)
    for step in (1, 2):
        flipped(sealed(kept, step) / "latest")
    assert kept.newest() is None
    assert {path.name for path in tmp_path.iterdir()} == {"step-1.damaged", "step-2.damaged", "unsealed"}


def test_only_the_newest_are_kept_and_a_step_can_be_sealed_again(tmp_path: Path):
    kept = checkpoints(tmp_path)
    for step in (8, 9, 10, 10):
        sealed(kept, step)
    assert kept.steps() == [10, 9]
    assert kept.newest() == 10
    assert list(kept.unsealed.iterdir()) == []
    kept.forget_after(9)
    assert kept.steps() == [9]
    assert kept.newest(at_most=8) is None


def test_a_checkpoint_of_another_run_is_refused_by_what_changed_and_left_alone(tmp_path: Path):
    sealed(checkpoints(tmp_path), 5)
    other = checkpoints(tmp_path, rows="2" * 64, processes="1", **{"training.learning_rate": "0.2"})
    with pytest.raises(TrainingError) as refused:
        other.newest()
    assert "rows: 111111111111… → 222222222222…" in str(refused.value)
    assert "processes: 2 → 1" in str(refused.value)
    assert "training.learning_rate: 0.1 → 0.2" in str(refused.value)
    assert f"remove {tmp_path} to begin anew" in str(refused.value)
    assert checkpoints(tmp_path).newest() == 5


def test_room_is_asked_for_by_the_size_of_the_last_checkpoint(tmp_path: Path):
    kept = checkpoints(tmp_path)
    kept.check_room(1)
    with pytest.raises(TrainingError, match=r"need 5\.0 EB|need \d+ TB free for a checkpoint at .*available"):
        kept.check_room(5 * 10**18)
    sealed(kept, 1)
    kept.check_room(5 * 10**18)
    with pytest.raises(TrainingError, match=r"checkpoints at .*The last one is of step 1"):
        kept.check_room(1, count=10**16)
    assert [amount(number) for number in (7, 1200, 92 * 10**9)] == ["7 bytes", "1.2 kB", "92 GB"]


def survivor(folder: Path, events: int) -> bool:
    """Whether a process got through that seals step 3 and is killed at its `events`-th work on the disk."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(event: str, _: object) -> None:
            nonlocal seen
            if event.split(".")[0] in ("open", "os", "shutil"):
                seen += 1
                if seen == events:
                    os.kill(os.getpid(), signal.SIGKILL)

        kept = Checkpoints(folder, made_from=MADE_FROM, keep=2)
        sys.addaudithook(count)
        sealed(kept, 3)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_process_killed_at_any_moment_of_sealing_leaves_the_last_whole_checkpoint(tmp_path: Path):
    before = tmp_path / "before"
    kept = checkpoints(before)
    for step in (1, 2):
        sealed(kept, step)
    newest = set()
    for events in range(1, 1000):
        folder = tmp_path / str(events)
        shutil.copytree(before, folder)
        through = survivor(folder, events)
        found = checkpoints(folder)
        newest.add(found.newest())
        assert not list(folder.glob("*.damaged"))
        assert list(found.unsealed.iterdir()) == []
        if through:
            break
    assert through
    assert events > 20
    assert newest == {2, 3}


def test_all_files_but_the_manifest_are_sealed(tmp_path: Path):
    assert files_below(sealed(checkpoints(tmp_path), 1)) == set(FILES)
