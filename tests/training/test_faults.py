"""Runs that are killed, interrupted, damaged and stopped come out as the one that nothing happened to, to the bit."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.training import TrainingSummary
from flyte_llama.training.metrics import METRICS
from tests.training.runs import SETTINGS, digest, packed_rows, summary, tell, tell_on_two_nodes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed_rows(tiny_base, tmp_path_factory.mktemp("rows"))


def fault(kind: str, step: int = 0, rank: int = 0, **more: int) -> dict[str, Any]:
    return {"kind": kind, "step": step, "rank": rank, **more}


def run(out: Path, planted: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """One start of the run whose checkpoints lie in `checkpoints` beside `out`."""
    return {"out": out, "settings": SETTINGS | changes, "fault": planted, "checkpoints": out.parent / "checkpoints"}


def assert_same(out: Path, whole: Path) -> None:
    """Weights to the bit; and a summary that tells of every step once."""
    assert digest(out) == digest(whole)
    told, expected = summary(out), summary(whole)
    assert (told.num_steps, told.num_tokens) == (expected.num_steps, expected.num_tokens)
    assert losses(told) == losses(expected)
    assert told.wall_s == told.losses[-1].wall_s > 0
    assert [json.loads(line) for line in (out / METRICS).read_text().splitlines()] == [
        point.model_dump() for point in told.losses
    ]


def losses(told: TrainingSummary) -> list[tuple[int, float, float | None, int]]:
    return [(point.step, point.loss, point.grad_norm, point.num_tokens) for point in told.losses]


def test_a_run_that_is_killed_damaged_and_stopped_comes_out_the_same(tiny_base: Path, rows: Path, tmp_path: Path):
    whole, place = tmp_path / "whole/model", tmp_path / "faulty/checkpoints/node-0"
    out = tmp_path / "faulty"

    # SIGKILL amid step 3, when step 2 is sealed.
    told = tell(tiny_base, rows, [run(whole), run(out / "a", fault("SIGKILL", 3))])
    assert told.returncode != 0
    assert [path.name for path in place.glob("step-*")] == ["step-2"]

    # That one is damaged, so there is no good one: all begins anew, aloud.
    state = next(place.glob("step-2/global_step*/*optim_states.pt"))
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    told = tell(
        tiny_base,
        rows,
        [
            run(out / "b", fault("nan", 8)),
            run(out / "c", fault("small files", num_bytes=4000)),
            run(out / "d", learning_rate=2e-2, micro_batch_size=2, report_to=[], log_every_steps=1),
            run(out / "e", report_to=["mlflow"]),
        ],
    )
    assert told.returncode == 0, told.stderr[-3000:]
    assert "checkpoint step-2 is damaged and not used" in told.stderr
    assert "no checkpoint is whole, so the run begins anew at step 0" in told.stderr
    assert (place / "step-2.damaged").is_dir()
    # A loss that is no number stops the run in its step, and what was good stays.
    assert "at step 8. The last checkpoint is of step 6" in (out / "b/error.txt").read_text()
    # A disk that takes no more: the path is named, and what was good stays.
    assert f"{place}/unsealed/checkpoint-8: the checkpoint of step 8 could not" in (out / "c/error.txt").read_text()
    refused = (out / "d/error.txt").read_text()
    assert "training.learning_rate: 0.01 → 0.02" in refused
    assert "training.micro_batch_size: 1 → 2" in refused
    assert "log_every" not in refused
    assert (
        "training.report_to = 'mlflow': the package is not installed. pip install mlflow"
        in (out / "e/error.txt").read_text()
    )
    assert sorted(path.name for path in place.glob("step-?")) == ["step-4", "step-6"]

    # The newest is cut short, and an empty one has come from somewhere.
    file = next(place.glob("step-6/global_step*/*model_states.pt"))
    file.write_bytes(file.read_bytes()[:-7])
    (place / "step-99").mkdir()
    told = tell(tiny_base, rows, [run(out / "model")])
    assert told.returncode == 0, told.stderr[-3000:]
    assert "step-99 is damaged" in told.stderr
    assert "step-6 is damaged" in told.stderr
    assert "going on after step 4 of 8" in told.stderr
    assert_same(out / "model", whole)
    assert not (out / "checkpoints").exists()


def test_what_reaches_one_of_two_processes_ends_both_and_costs_nothing(tiny_base: Path, rows: Path, tmp_path: Path):
    whole, out = tmp_path / "whole/model", tmp_path / "faulty"
    begin = time.monotonic()
    starts = [run(whole), run(out / "a", fault("SIGTERM", 3, rank=1)), run(out / "b", fault("SIGKILL", 6, rank=1))]
    told = tell(tiny_base, rows, starts, processes=2)
    assert time.monotonic() - begin < 60
    for name in ("error.txt", "1-error.txt"):
        assert "Interrupted: interrupted after step 3 of 8" in (out / "a" / name).read_text()
    assert "going on after step 3 of 8" in told.stderr
    assert told.returncode != 0
    assert not (out / "a/model.safetensors").exists()

    told = tell(tiny_base, rows, [run(out / "alone")])
    assert "processes: 2 → 1" in (out / "alone/error.txt").read_text()

    told = tell(tiny_base, rows, [run(out / "c", fault("nan", 5, rank=1)), run(out / "model")], processes=2)
    assert told.returncode == 0, told.stderr[-3000:]
    for name in ("error.txt", "1-error.txt"):
        assert "the loss is nan" in (out / "c" / name).read_text()
        assert "at step 5. The last checkpoint is of step 4" in (out / "c" / name).read_text()
    assert digest(out / "model") == digest(whole)
    assert [point.step for point in summary(out / "model").losses] == [1, 2, 3, 4, 6, 8]


@pytest.mark.parametrize(
    ("processes", "stage", "changes"),
    [
        (1, 0, {"method": "full", "precision": "bf16"}),
        (2, 1, {"method": "lora", "checkpoint_every_steps": 0}),
        (2, 3, {"method": "full"}),
    ],
)
def test_an_interrupted_run_comes_out_the_same_with_every_way_of_splitting(
    tiny_base: Path, rows: Path, tmp_path: Path, processes: int, stage: int, changes: dict[str, Any]
):
    settings = {"max_steps": 4, "log_every_steps": 1, "deepspeed": {"zero_stage": stage}} | changes
    whole, out = tmp_path / "whole/model", tmp_path / "faulty/model"
    interrupted = run(tmp_path / "faulty/a", fault("SIGTERM", 3), **settings)
    told = tell(tiny_base, rows, [run(whole, **settings), interrupted, run(out, **settings)], processes=processes)
    assert told.returncode == 0, told.stderr[-3000:]
    assert "going on after step 3 of 4" in told.stderr
    assert_same(out, whole)


def test_nodes_with_disks_of_their_own_go_on_from_the_newest_step_that_is_whole_on_all(
    tiny_base: Path, rows: Path, tmp_path: Path
):
    whole, out = tmp_path / "whole/model", tmp_path / "faulty/model"
    tell_on_two_nodes(tiny_base, rows, [run(whole), run(tmp_path / "faulty/a", fault("SIGTERM", 5, rank=1))])
    next((tmp_path / "faulty/checkpoints/node-1").glob("step-5/global_step*/*optim_states.pt")).unlink()
    said = tell_on_two_nodes(tiny_base, rows, [run(out)])
    assert "node-1/step-5.damaged" in said
    assert "going on after step 4 of 8" in said
    assert_same(out, whole)
