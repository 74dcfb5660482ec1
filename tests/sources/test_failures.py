"""Empty, damaged, silent and failing remotes raise a clear error in time, and never give fewer files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte_llama.config import SourceConfig
from flyte_llama.errors import SourceError
from flyte_llama.sources import PinnedSource, first_commits, open_tree, pin
from flyte_llama.sources.git_process import GitResult
from flyte_llama.sources.git_remote import git_error
from tests.conftest import MakeRepo, git
from tests.sources.hostile import FILE, RawRepository, collect_all, count_skipped, find_processes, read_files, wrap_git
from tests.sources.server import Behaviour, serve


@pytest.fixture
def marker(monkeypatch: pytest.MonkeyPatch) -> str:
    """A string in the environment of every process that the test starts, and of no other process."""
    monkeypatch.setenv("MARKER", marker := uuid.uuid4().hex)
    return marker


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_tree_without_entries_is_read_as_no_files(raw: RawRepository):
    raw.commit(raw.tree([]))
    assert read_files(raw.pin()) == {}
    assert first_commits(raw.pin()) == {}
    collected = collect_all(raw.pin())
    assert (collected.documents, collected.count.entries.files, count_skipped(collected)) == ([], 0, {})


def test_a_repository_without_a_commit_and_a_head_without_a_branch_are_named(raw: RawRepository):
    with pytest.raises(SourceError, match=r"has no commit yet\. Push one"):
        raw.pin()
    raw.commit(raw.tree([]), ref="refs/heads/other")
    with pytest.raises(SourceError, match=r"HEAD names no branch that exists\. Give a ref: other"):
        raw.pin()
    assert read_files(raw.pin("other")) == {}


def test_an_id_of_a_blob_a_tree_or_a_tag_is_not_a_commit(raw: RawRepository):
    tree = raw.tree([(FILE, b"a.py", blob := raw.blob(b"x = 1\n"))])
    commit = raw.commit(tree)
    tag = raw.git("mktag", stdin=f"object {commit}\ntype commit\ntag v1\ntagger T <t@e> 1 +0000\n\nv1\n".encode())
    for object_id in (blob, tree, tag):
        with pytest.raises(SourceError, match=f"{object_id} is not a commit"):
            read_files(raw.pin(object_id))


@pytest.mark.parametrize("damage", ["missing", "corrupt", "empty"])
@pytest.mark.parametrize("kind", ["blob", "tree", "commit"])
def test_a_remote_with_a_damaged_object_is_an_error_that_no_retry_fixes(raw: RawRepository, damage: str, kind: str):
    ids = {"blob": raw.blob(b"x = 1\n")}
    ids["tree"] = raw.tree([(FILE, b"a.py", raw.blob(b"y = 2\n")), (FILE, b"b.py", ids["blob"])])
    ids["commit"] = raw.commit(ids["tree"])
    pinned = raw.pin()
    if damage == "missing":
        raw.loose_path(ids[kind]).unlink()
    else:
        raw.corrupt(ids[kind], b"" if damage == "empty" else None)
    with pytest.raises(SourceError) as caught:
        read_files(pinned)
    assert not caught.value.transient, caught.value.message


# The header has 48 bytes, the file 6, and a line break ends it.
@pytest.mark.parametrize("num_bytes", [0, 3, 47, 48, 50, 54])
def test_a_batch_that_ends_early_is_an_error_and_never_a_shorter_file(
    raw: RawRepository, num_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw.commit_files({b"a.py": b"x = 1\n"})
    cut = f"dd bs=1 count={num_bytes} status=none"
    script = f'case "$*" in *"cat-file --batch"*) $REAL "$@" | {{ {cut}; kill -9 $$; }};; *) exec $REAL "$@";; esac'
    monkeypatch.setenv("PATH", wrap_git(tmp_path / "bin", script))
    with pytest.raises(SourceError, match=r"lacks object|ended within object"):
        read_files(raw.pin())


def test_a_batch_that_answers_with_another_object_is_an_error(
    raw: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw.commit_files({b"a.py": b"x = 1\n", b"b.py": b"x = 2\n"})
    other = raw.blob(b"x = 2\n")
    script = f'case "$*" in *"cat-file --batch"*) echo {other} | $REAL "$@";; *) exec $REAL "$@";; esac'
    monkeypatch.setenv("PATH", wrap_git(tmp_path / "bin", script))
    with pytest.raises(SourceError, match=r"lacks object \w+ of 'a\.py'"):
        read_files(raw.pin())


def test_a_listing_that_ends_early_is_an_error_and_never_fewer_files(
    raw: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw.commit_files({b"%d.py" % count: b"x = %d\n" % count for count in range(5)})
    script = 'case "$*" in *ls-tree*) $REAL "$@" | head -c 100; kill -9 $$;; *) exec $REAL "$@";; esac'
    monkeypatch.setenv("PATH", wrap_git(tmp_path / "bin", script))
    with pytest.raises(SourceError, match="cannot be listed"):
        read_files(raw.pin())
    with pytest.raises(SourceError, match="git cannot read it"):
        first_commits(raw.pin())


def test_an_object_that_is_lost_after_the_fetch_is_an_error(
    raw: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw.commit_files({b"a.py": b"x = 1\n"})
    script = 'case "$*" in *"cat-file --batch"*) rm $GIT_DIR/objects/pack/*;; esac; exec $REAL "$@"'
    monkeypatch.setenv("PATH", wrap_git(tmp_path / "bin", script))
    with pytest.raises(SourceError):
        read_files(raw.pin())


@pytest.mark.parametrize("scheme", ["http", "git"])
def test_a_silent_server_times_out_and_leaves_no_child(scheme: str, silent_port: int, marker: str):
    url = f"{scheme}://127.0.0.1:{silent_port}/o/r"
    pinned = PinnedSource(name="o/r", url=url, ref="refs/heads/main", revision="1" * 40)
    start = time.monotonic()
    with pytest.raises(SourceError, match="did not answer in time") as listing:
        pin(SourceConfig(url=url), timeout_s=1)
    with pytest.raises(SourceError, match="did not answer in time") as fetching, open_tree(pinned, timeout_s=1):
        pass
    with pytest.raises(SourceError, match="did not answer in time"):
        first_commits(pinned, timeout_s=1)
    # Three timeouts of 1 s. A busy machine may take longer, but one call with its own default would take 120 s.
    assert time.monotonic() - start < 60
    assert listing.value.transient
    assert fetching.value.transient
    assert find_processes(marker) == []


def test_a_clone_of_a_killed_process_does_not_outlive_the_next_start(
    silent_port: int, make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    pinned = PinnedSource(name="o/r", url=f"http://127.0.0.1:{silent_port}/o/r", ref="", revision="1" * 40)
    code = (
        "from flyte_llama.sources import PinnedSource, open_tree\n"
        f"with open_tree(PinnedSource.model_validate_json({pinned.model_dump_json()!r})): pass"
    )
    fetching = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(temporary)})
    end = time.monotonic() + 60
    while not any(" fetch " in command for command in find_processes(marker)) and time.monotonic() < end:
        time.sleep(0.05)
    fetching.kill()
    fetching.wait()
    # the clone, and the copy of the user's settings
    assert len(list(temporary.iterdir())) == 2
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    read_files(pin(SourceConfig(url=str(make_repo("r", {"a.py": "x = 1\n"})))))
    assert list(temporary.iterdir()) == []
    # git is gone; its helper waits for the silent server, for a minute at most
    assert not [command for command in find_processes(marker) if " fetch " in command]


def test_a_server_that_falls_silent_halfway_times_out(make_repo: MakeRepo, tmp_path: Path, marker: str):
    commit = git(make_repo("r", {"a.py": "x = 1\n"}), "rev-parse", "HEAD")
    with serve(tmp_path / "remotes", Behaviour(hang_at="POST")) as url:
        pinned = PinnedSource(name="r", url=f"{url}/r/.git", ref="", revision=commit)
        with pytest.raises(SourceError, match="did not answer in time"):
            read_files_within(pinned, 2)
    assert find_processes(marker) == []


def test_a_reader_that_stops_halfway_leaves_no_child(raw: RawRepository, marker: str):
    raw.commit_files({b"%d.py" % count: b"x = 1\n" * 100_000 for count in range(50)})
    with open_tree(raw.pin()) as tree:
        # Stop in the middle of a listing, and of a blob that does not fit into a pipe.
        entry = next(tree.entries())
        tree._blobs.stdin.write(entry.key.encode() + b"\n")
        tree._blobs.stdin.flush()
    assert find_processes(marker) == []


@pytest.mark.parametrize(
    ("status", "transient"), [(500, True), (502, True), (503, True), (429, True), (403, False), (404, False)]
)
def test_a_failing_server_is_worth_a_retry_and_a_refusing_one_is_not(tmp_path: Path, status: int, transient: bool):
    with serve(tmp_path, Behaviour(status=status)) as url, pytest.raises(SourceError) as caught:
        pin(SourceConfig(url=f"{url}/o/r"))
    assert caught.value.transient == transient, caught.value.message


def test_a_failure_that_a_retry_may_fix_is_not_retried_at_once(tmp_path: Path):
    behaviour = Behaviour(status=503)
    with serve(tmp_path, behaviour) as url:
        pinned = PinnedSource(name="o/r", url=f"{url}/o/r", ref="refs/heads/main", revision="1" * 40)
        with pytest.raises(SourceError), open_tree(pinned):
            pass
        assert behaviour.num_requests == 1
        with pytest.raises(SourceError):
            first_commits(pinned)
        assert behaviour.num_requests == 2


def test_a_closed_port_is_worth_a_retry():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SourceError) as caught:
        pin(SourceConfig(url=f"http://127.0.0.1:{port}/o/r"))
    assert caught.value.transient


def test_a_servers_message_cannot_move_the_cursor(tmp_path: Path):
    behaviour = Behaviour(status=403, body=b"no\x1b[2Jway\x07\xc2\x9b31m")
    with (
        serve(tmp_path, behaviour) as url,
        pytest.raises(SourceError, match=r"no\\x1b\[2Jway\\x07.*\\x9b31m") as caught,
    ):
        pin(SourceConfig(url=f"{url}/o/r"))
    assert all(char.isprintable() or char == "\n" for char in caught.value.message)


def test_git_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="Install git"):
        pin(SourceConfig(url="https://example.invalid/o/r"))


def test_objects_named_by_sha256_are_refused_by_name(tmp_path: Path):
    git(tmp_path, "init", "-q", "--object-format=sha256", "r")
    git(tmp_path / "r", "commit", "-q", "--allow-empty", "-m", "files")
    with pytest.raises(SourceError, match="SHA-256"):
        pin(SourceConfig(url=str(tmp_path / "r")))


def read_files_within(pinned: PinnedSource, timeout_s: float) -> None:
    with open_tree(pinned, timeout_s=timeout_s) as tree:
        assert not list(tree.entries())


@pytest.mark.parametrize(
    "stderr",
    [
        "fatal: sha1 file '/tmp/pack/tmp_idx_x' write error. Out of diskspace",
        "fatal: write error: No space left on device",
        "fatal: cannot store index file: Disk quota exceeded",
    ],
)
def test_a_full_disk_is_told_as_such(stderr: str):
    error = git_error("https://example.com/o/r", GitResult(128, stderr, timed_out=False))
    assert error.message.endswith("Free space on the disk, or set TMPDIR to a larger one.")
