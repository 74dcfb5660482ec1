"""Temporary folders: private, and gone with their process, however it ends."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

from flyte_llama.workspace import (
    temporary_folder,
)
from flyte_llama.workspace.temporary import HOST, stale_folders
from tests.workspace.conftest import hold


def test_a_temporary_folder_is_private_and_removed_at_the_end(temporary):
    with temporary_folder("git") as folder:
        assert folder.parent == temporary
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stale_folders() == []
    assert list(temporary.iterdir()) == []


def test_a_temporary_folder_of_a_killed_process_is_removed_by_the_next(temporary):
    process, path = hold("with workspace.temporary_folder('git') as folder:", "folder", TMPDIR=str(temporary))
    left = Path(path)
    (left / "secret.py").write_text("x")
    with temporary_folder("git"):
        assert left.is_dir()  # its owner is alive
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert stale_folders() == [left]
    with temporary_folder("sandbox"):
        assert not left.exists()


def test_a_folder_of_an_earlier_process_with_the_same_number_is_removed(temporary):
    left = temporary / f"flyte-llama-git-{HOST}-{os.getpid()}-abc"
    left.mkdir()
    with temporary_folder("git") as own:
        assert not left.exists()
        with temporary_folder("git"):
            assert own.is_dir()


def test_a_leftover_that_is_deep_and_without_permissions_is_removed(temporary):
    left = temporary / f"flyte-llama-sandbox-{HOST}-999999999-abc"
    # deeper than Python's limit on recursion, made one level at a time since a path may not be so long
    code = "import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')\n"
    left.mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=left, check=True)
    (left / "closed").mkdir()
    (left / "closed/file").touch()
    (left / "closed").chmod(0)
    with temporary_folder("git"):
        assert not left.exists()


def test_folders_of_others_and_links_are_never_stale(temporary):
    (temporary / "flyte-llama-notes").mkdir()
    (temporary / "other-git-1-abc").mkdir()
    (temporary / "flyte-llama-git-another-999999999-abc").mkdir()
    target = temporary / "target"
    target.mkdir()
    (temporary / f"flyte-llama-git-{HOST}-999999999-abc").symlink_to(target)
    assert stale_folders() == []


def test_a_folder_is_stale_if_another_process_has_its_number_by_now(temporary):
    left = temporary / f"flyte-llama-git-{HOST}-{os.getppid()}-abc"
    left.mkdir()
    assert stale_folders() == []  # its owner may be about to lock it
    os.utime(left, (1e9, 1e9))
    assert stale_folders() == [left]
