"""Checkpoints in a bucket: found by later attempts and executions, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from flytekit import FlyteDirectory
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.data_persistence import FileAccessProvider
from s3fs import S3FileSystem

from flyte_llama.errors import DataError
from flyte_llama.storage import seal
from flyte_llama.tasks import bucket as patience
from flyte_llama.tasks import checkpoints, stored_model
from flyte_llama.tasks.checkpoints import BucketCheckpoints, bucket_checkpoints
from tests.tasks.bucket import Bucket, serve_bucket

RUN = "s3://bkt/kept/checkpoints/run"


@pytest.fixture(autouse=True)
def _one_process() -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket that flytekit finds; it is asked again after moments, not minutes."""
    monkeypatch.setattr(patience, "PAUSES_S", (0.01, 0.02, 0.03))
    with serve_bucket() as served:
        for name, value in served.environment().items():
            monkeypatch.setenv(name, value)
        context = FlyteContextManager.current_context()
        access = FileAccessProvider(str(tmp_path / "sandbox"), "s3://bkt/raw")
        with FlyteContextManager.with_context(context.with_file_access(access)):
            yield served
    # Close the connections of the clients while the interpreter can.
    S3FileSystem.clear_instance_cache()


def attempt(name: str, previous: str | None = None) -> BucketCheckpoints:
    earlier = f"{RUN}/{previous}" if previous else None
    return BucketCheckpoints(f"{RUN}/{name}", others=RUN, previous=earlier)


def write_step(folder: Path, step: int, text: str = "weights", node: int = 0) -> Path:
    """Seal a checkpoint of one file on the disk of a node."""
    checkpoint = folder / f"node-{node}" / f"step-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_text(text)
    seal(checkpoint, step=step)
    return checkpoint


def fetched(checkpoints: BucketCheckpoints, folder: Path, *, with_older: bool = False) -> dict[str, str]:
    """Step → content of the checkpoints that an attempt downloads to an empty disk."""
    checkpoints.fetch(folder, with_older=with_older)
    return {path.parent.name: path.read_text() for path in sorted(folder.glob("node-0/step-*/weights"))}


def test_another_execution_finds_the_newest_checkpoint(bucket: Bucket, tmp_path: Path):
    first = attempt("a")
    for step in (5, 10):
        first.upload(write_step(tmp_path / "a", step, f"weights {step}"))
    assert fetched(attempt("b"), tmp_path / "b") == {"step-10": "weights 10"}
    assert fetched(attempt("c"), tmp_path / "c", with_older=True) == {"step-5": "weights 5", "step-10": "weights 10"}


def test_a_run_without_a_checkpoint_in_the_bucket_starts_from_scratch(bucket: Bucket, tmp_path: Path):
    assert fetched(attempt("a"), tmp_path / "a") == {}


def test_an_upload_that_was_cut_off_is_not_taken(bucket: Bucket, tmp_path: Path):
    first = attempt("a")
    first.upload(write_step(tmp_path / "a", 5))
    first.upload(write_step(tmp_path / "a", 10))
    del bucket.objects["kept/checkpoints/run/a/node-0/step-10.whole"]
    assert list(fetched(attempt("b"), tmp_path / "b")) == ["step-5"]


def test_a_damaged_checkpoint_gives_way_to_an_older_one(bucket: Bucket, tmp_path: Path):
    first = attempt("a")
    first.upload(write_step(tmp_path / "a", 5))
    first.upload(write_step(tmp_path / "a", 10))
    bucket.objects["kept/checkpoints/run/a/node-0/step-10/weights"] = b"cut"
    assert list(fetched(attempt("b"), tmp_path / "b")) == ["step-5"]


def test_a_marker_whose_checkpoint_is_gone_gives_way_to_an_older_one(bucket: Bucket, tmp_path: Path):
    first = attempt("a")
    first.upload(write_step(tmp_path / "a", 5))
    bucket.objects["kept/checkpoints/run/a/node-0/step-10.whole"] = b""
    assert list(fetched(attempt("b"), tmp_path / "b")) == ["step-5"]


def test_a_pod_that_replaces_one_of_the_same_attempt_finds_its_checkpoints(bucket: Bucket, tmp_path: Path):
    lost = BucketCheckpoints("s3://bkt/attempt-0", others=None, previous=None)
    lost.upload(write_step(tmp_path / "lost", 5))
    new = BucketCheckpoints("s3://bkt/attempt-0", others=None, previous=None)
    assert list(fetched(new, tmp_path / "new")) == ["step-5"]


def test_the_note_of_a_stored_model_is_passed_on_from_attempt_to_attempt(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bucket.objects["job/0/model.json"] = b"noted"
    rows = FlyteDirectory(str(tmp_path))
    for index in (1, 2):
        folders = (f"s3://bkt/job/{index}", f"s3://bkt/job/{index - 1}")
        monkeypatch.setattr(stored_model, "attempt_folders", lambda rows, folders=folders: folders)
        stored_model.pass_on_note(rows)
    assert bucket.objects["job/2/model.json"] == b"noted"


def test_a_checkpoint_counts_only_if_every_node_has_uploaded_it(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    first = attempt("a")
    for node, step in [(0, 5), (0, 10), (1, 5)]:
        first.upload(write_step(tmp_path / "a", step, node=node))
    assert list(fetched(attempt("b"), tmp_path / "b")) == ["step-5"]


def test_the_steps_that_are_gone_from_the_disk_go_from_the_bucket(bucket: Bucket, tmp_path: Path):
    first = attempt("a")
    first.upload(write_step(tmp_path / "a", 5))
    shutil.rmtree(tmp_path / "a/node-0/step-5")
    first.upload(write_step(tmp_path / "a", 10))
    assert not bucket.keys("step-5")
    assert bucket.keys(r"step-10\.whole$")


def test_a_checkpoint_that_an_old_pod_removes_while_it_is_read_gives_way_to_what_replaced_it(
    bucket: Bucket, tmp_path: Path
):
    attempt("later").upload(write_step(tmp_path / "later", 10, "weights 10"))
    replaced = {key.replace("later", "a"): bucket.objects.pop(key) for key in bucket.keys("run/later/")}
    attempt("a").upload(write_step(tmp_path / "a", 5, "weights 5"))

    def go_on(method: str, key: str) -> None:
        """The old pod uploads one more checkpoint and removes the earlier one, just as the new pod reads that."""
        if method == "GET" and key.endswith("step-5/weights"):
            bucket.objects.update(replaced)
            for gone in bucket.keys("step-5"):
                del bucket.objects[gone]

    bucket.before = go_on
    assert fetched(attempt("b", previous="a"), tmp_path / "b") == {"step-10": "weights 10"}


def test_two_executions_at_once_do_each_other_no_harm(bucket: Bucket, tmp_path: Path):
    first, second = attempt("a"), attempt("b")
    first.upload(write_step(tmp_path / "a", 5, "of a"))
    assert fetched(second, tmp_path / "b") == {"step-5": "of a"}
    first.upload(write_step(tmp_path / "a", 10, "of a"))
    second.upload(write_step(tmp_path / "b", 10, "of b"))
    second.remove_all()  # the second one is done
    assert not bucket.keys("run/b/")
    assert fetched(attempt("c", previous="a"), tmp_path / "c") == {"step-10": "of a"}


def test_the_checkpoints_of_all_that_have_ended_go_when_the_model_is_complete(bucket: Bucket, tmp_path: Path):
    attempt("dead").upload(write_step(tmp_path / "dead", 5))
    attempt("before").upload(write_step(tmp_path / "before", 7))
    last = attempt("last", previous="before")
    fetched(last, tmp_path / "last")
    last.upload(tmp_path / "last/node-0/step-7")
    assert bucket.keys("kept")
    last.remove_all()
    assert not bucket.keys("kept")


def test_without_a_shared_folder_only_the_previous_attempt_is_read_and_nothing_is_removed(
    bucket: Bucket, tmp_path: Path
):
    BucketCheckpoints("s3://bkt/0", None, None).upload(write_step(tmp_path / "0", 5))
    second = BucketCheckpoints("s3://bkt/1", None, "s3://bkt/0")
    assert list(fetched(second, tmp_path / "1")) == ["step-5"]
    second.remove_all()
    assert bucket.keys(r"^0/node-0/step-5\.whole$")


def test_an_upload_that_failed_is_made_up_for_by_the_next(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first = attempt("a")
    bucket.before = lambda method, key: 403
    first.upload(write_step(tmp_path / "a", 5))
    assert "step-5 could not be uploaded for a later attempt; training continues" in capsys.readouterr().err
    bucket.before = lambda method, key: None
    first.upload(write_step(tmp_path / "a", 10))
    assert len(bucket.keys(r"\.whole$")) == 2


def test_a_bucket_that_does_not_answer_is_asked_again(bucket: Bucket, tmp_path: Path):
    attempt("a").upload(write_step(tmp_path / "a", 5))
    refused = iter([403] * 3)
    bucket.before = lambda method, key: next(refused, None)
    assert list(fetched(attempt("b"), tmp_path / "b")) == ["step-5"]


def test_a_checkpoint_that_cannot_be_read_for_a_while_is_not_given_up_for_an_older_one(bucket: Bucket, tmp_path: Path):
    first = attempt("a")
    first.upload(write_step(tmp_path / "a", 5))
    first.upload(write_step(tmp_path / "a", 10))
    refused = iter([403] * 3)

    def stay_silent(method: str, key: str) -> int | None:
        return next(refused, None) if key.endswith("step-10/weights") else None

    bucket.before = stay_silent
    assert list(fetched(attempt("b"), tmp_path / "b")) == ["step-10"]


def test_a_bucket_that_stays_silent_ends_the_attempt_for_another_one(bucket: Bucket, tmp_path: Path):
    bucket.before = lambda method, key: 403
    with pytest.raises(DataError, match="the checkpoints could not be downloaded, tried for") as failed:
        attempt("b").fetch(tmp_path / "b", with_older=False)
    assert failed.value.transient


def test_a_bucket_that_cannot_be_reached_ends_the_attempt_for_another_one(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(patience, "PAUSES_S", ())
    monkeypatch.setenv("FLYTE_AWS_ENDPOINT", "http://127.0.0.1:9")
    context = FlyteContextManager.current_context()
    access = FileAccessProvider(str(tmp_path / "sandbox"), "s3://bkt/raw")
    with (
        FlyteContextManager.with_context(context.with_file_access(access)),
        pytest.raises(DataError, match="could not be listed") as failed,
    ):
        attempt("b").fetch(tmp_path / "b", with_older=False)
    assert failed.value.transient


def test_the_pauses_grow_and_last_for_minutes():
    assert list(patience.PAUSES_S) == sorted(patience.PAUSES_S)
    assert sum(patience.PAUSES_S) >= 300


def test_the_folder_of_a_run_depends_on_its_fingerprint_and_its_nodes_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoints, "SETTINGS", SimpleNamespace(cache="s3://bkt/kept/"))
    rows = FlyteDirectory("s3://bkt/rows")

    def place(made_from: dict[str, str], execution: str, nodes: str = "1") -> tuple[str, str]:
        monkeypatch.setattr(checkpoints, "attempt_folders", lambda rows: (f"s3://bkt/{execution}/0", None))
        monkeypatch.setenv("GROUP_WORLD_SIZE", nodes)
        found = bucket_checkpoints(rows, made_from)
        assert found is not None
        return str(found._others), found.own

    run, own = place({"seed": "1", "rows": "x"}, "first")
    assert run.startswith("s3://bkt/kept/checkpoints/")
    again, other_own = place({"rows": "x", "seed": "1"}, "second")
    assert again == run
    assert own != other_own
    assert place({"seed": "2", "rows": "x"}, "first")[0] != run
    assert place({"seed": "1", "rows": "x"}, "first", nodes="2")[0] != run
