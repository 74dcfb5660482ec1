"""Runs that are killed, interrupted, damaged and stopped come out the same as an undisturbed run, to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.storage import content_digest, read_manifest
from flyte_llama.training import TrainingSummary
from flyte_llama.training.checkpoints import read_run_id
from flyte_llama.training.metrics import METRICS
from tests.training.runs import SETTINGS, digest, launch_runs, launch_runs_on_two_nodes, summary, write_packed_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_packed_rows(tiny_base, tmp_path_factory.mktemp("rows"))


def fault(kind: str, step: int = 0, rank: int = 0, **more: int) -> dict[str, Any]:
    return {"kind": kind, "step": step, "rank": rank, **more}


def run(out: Path, planted: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """One start of the run with its checkpoints in `checkpoints`, next to `out`."""
    return {"out": out, "settings": SETTINGS | changes, "fault": planted, "checkpoints": out.parent / "checkpoints"}


def assert_same(out: Path, whole: Path) -> None:
    """The weights are the same to the bit, so the content is too, and the summary has every step once."""
    assert digest(out) == digest(whole)
    assert content_digest(read_manifest(out)) == content_digest(read_manifest(whole))
    actual, expected = summary(out), summary(whole)
    assert (actual.num_steps, actual.num_tokens) == (expected.num_steps, expected.num_tokens)
    assert losses(actual) == losses(expected)
    assert actual.wall_s == actual.losses[-1].wall_s > 0
    assert [json.loads(line) for line in (out / METRICS).read_text().splitlines()] == [
        point.model_dump() for point in actual.losses
    ]


def losses(training: TrainingSummary) -> list[tuple[int, float, float | None, int]]:
    return [(point.step, point.loss, point.grad_norm, point.num_tokens) for point in training.losses]


def test_a_run_that_is_killed_damaged_and_stopped_comes_out_the_same(tiny_base: Path, rows: Path, tmp_path: Path):
    whole, node_checkpoints = tmp_path / "whole/model", tmp_path / "faulty/checkpoints/node-0"
    out = tmp_path / "faulty"

    # SIGKILL during step 3, after step 2 was sealed.
    done = launch_runs(tiny_base, rows, [run(whole), run(out / "a", fault("SIGKILL", 3))])
    assert done.returncode != 0
    assert [path.name for path in node_checkpoints.glob("step-*")] == ["step-2"]

    # Damage that checkpoint. None is left, so the run starts from scratch and reports it.
    state = next(node_checkpoints.glob("step-2/global_step*/*optim_states.pt"))
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    done = launch_runs(
        tiny_base,
        rows,
        [
            run(out / "b", fault("nan", 8)),
            run(out / "c", fault("small files", num_bytes=4000)),
            run(out / "d", learning_rate=2e-2, micro_batch_size=2, report_to=[], log_every_steps=1),
            run(out / "e", report_to=["mlflow"]),
        ],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "checkpoint step-2 is damaged and not used" in done.stderr
    assert "no checkpoint is whole, so the run starts again at step 0" in done.stderr
    assert (node_checkpoints / "step-2.damaged").is_dir()
    # A NaN loss stops the run in that step, and the earlier checkpoints stay.
    assert "at step 8. The last checkpoint is from step 6" in (out / "b/error.txt").read_text()
    # A full disk: the messages name the paths, and the earlier checkpoints stay. The last step is no checkpoint then,
    # but the model, which needs less room, is tried.
    assert f"{node_checkpoints}/unsealed/checkpoint-8: the checkpoint of step 8 could not" in done.stderr
    assert f"{out / 'c'}: the model could not be written: " in (out / "c/error.txt").read_text()
    refused = (out / "d/error.txt").read_text()
    assert "training.learning_rate: 0.01 → 0.02" in refused
    assert "training.micro_batch_size: 1 → 2" in refused
    assert "log_every" not in refused
    assert (
        "training.report_to = 'mlflow': the package is not installed. pip install mlflow"
        in (out / "e/error.txt").read_text()
    )
    assert sorted(path.name for path in node_checkpoints.glob("step-?")) == ["step-4", "step-6"]

    # Truncate the newest checkpoint, and add an empty one.
    file = next(node_checkpoints.glob("step-6/global_step*/*model_states.pt"))
    file.write_bytes(file.read_bytes()[:-7])
    (node_checkpoints / "step-99").mkdir()
    done = launch_runs(tiny_base, rows, [run(out / "model")])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step-99 is damaged" in done.stderr
    assert "step-6 is damaged" in done.stderr
    assert "resuming after step 4 of 8" in done.stderr
    assert_same(out / "model", whole)
    assert sorted(path.name for path in node_checkpoints.glob("step-?")) == ["step-6", "step-8"]


def test_a_fault_in_one_of_two_processes_ends_both_and_loses_nothing(tiny_base: Path, rows: Path, tmp_path: Path):
    whole, out = tmp_path / "whole/model", tmp_path / "faulty"
    # Both end long before the time that a process waits for another: `launch_runs` would raise TimeoutExpired.
    starts = [run(whole), run(out / "a", fault("SIGTERM", 3, rank=1)), run(out / "b", fault("SIGKILL", 6, rank=1))]
    done = launch_runs(tiny_base, rows, starts, processes=2)
    for name in ("error.txt", "1-error.txt"):
        assert "Interrupted: interrupted after step 3 of 8" in (out / "a" / name).read_text()
    assert "resuming after step 3 of 8" in done.stderr
    assert done.returncode != 0
    assert not (out / "a/model.safetensors").exists()

    done = launch_runs(tiny_base, rows, [run(out / "alone")])
    assert "processes: 2 → 1" in (out / "alone/error.txt").read_text()

    done = launch_runs(tiny_base, rows, [run(out / "c", fault("nan", 5, rank=1)), run(out / "model")], processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("error.txt", "1-error.txt"):
        assert "the loss is nan" in (out / "c" / name).read_text()
        assert "at step 5. The last checkpoint is from step 4" in (out / "c" / name).read_text()
    assert digest(out / "model") == digest(whole)
    assert [point.step for point in summary(out / "model").losses] == [1, 2, 3, 4, 6, 8]


@pytest.mark.parametrize(
    ("processes", "kinds"),
    [
        (1, [{"method": "full", "precision": "bf16", "deepspeed": {"zero_stage": 0}}]),
        (
            2,
            [
                {"method": "lora", "checkpoint_every_steps": 0, "deepspeed": {"zero_stage": 1}},
                {"method": "full", "deepspeed": {"zero_stage": 3}},
            ],
        ),
    ],
)
def test_an_interrupted_run_comes_out_the_same_whatever_the_zero_stage(
    tiny_base: Path, rows: Path, tmp_path: Path, processes: int, kinds: list[dict[str, Any]]
):
    # Each kind of run whole, interrupted, and resumed; all in one launch, since processes take long to start.
    starts, models = [], []
    for number, kind in enumerate(kinds):
        settings = {"max_steps": 4, "log_every_steps": 1} | kind
        whole, faulty = tmp_path / f"whole-{number}/model", tmp_path / f"faulty-{number}"
        interrupted = run(faulty / "a", fault("SIGTERM", 3), **settings)
        starts += [run(whole, **settings), interrupted, run(faulty / "model", **settings)]
        models.append((faulty / "model", whole))
    done = launch_runs(tiny_base, rows, starts, processes=processes)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("resuming after step 3 of 4") == len(kinds)
    for out, whole in models:
        assert_same(out, whole)
        # In trackers it is one run, and another than that of the undisturbed one.
        checkpoints = out.parent.glob("checkpoints/node-0/step-?")
        assert {read_run_id(checkpoint) for checkpoint in checkpoints} == {summary(out).tracker_run}
        assert summary(out).tracker_run != summary(whole).tracker_run


def test_nodes_with_separate_disks_resume_from_the_newest_step_that_is_whole_on_all(
    tiny_base: Path, rows: Path, tmp_path: Path
):
    whole, out = tmp_path / "whole/model", tmp_path / "faulty/model"
    launch_runs_on_two_nodes(tiny_base, rows, [run(whole), run(tmp_path / "faulty/a", fault("SIGTERM", 5, rank=1))])
    next((tmp_path / "faulty/checkpoints/node-1").glob("step-5/global_step*/*optim_states.pt")).unlink()
    output = launch_runs_on_two_nodes(tiny_base, rows, [run(out)])
    assert "node-1/step-5.damaged" in output
    assert "resuming after step 4 of 8" in output
    assert_same(out, whole)
