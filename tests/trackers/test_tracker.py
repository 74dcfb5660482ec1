"""No tracker ends a run, and one run has the curve of all starts and the held-out figures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flyte_llama.trackers import Tracker, Tracking, record_figures
from flyte_llama.trackers.clients import CLIENTS


class Server:
    """A tracker that refuses everything from some call on."""

    def __init__(self, refuses: str) -> None:
        self.refuses = refuses
        self.calls: list[str] = []

    def __call__(self, tracking: Tracking, run_id: str) -> Server:
        return self

    def __getattr__(self, name: str) -> Any:
        def call(*_: object, **__: object) -> Server:
            self.calls.append(name)
            if name == self.refuses:
                raise ConnectionError("connection refused for hunter2\nand its traceback")
            return self

        return call


@pytest.fixture
def tracking(tmp_path: Path) -> Tracking:
    return Tracking(trackers=["wandb"], name="small", tags={}, config={"name": "small"}, folder=tmp_path)


@pytest.mark.parametrize(
    ("refuses", "calls"),
    [("open", ["open"]), ("write", ["open", "write", "close"]), ("close", ["open", "write", "close"])],
)
def test_a_tracker_that_fails_is_said_once_and_left_alone(
    refuses: str,
    calls: list[str],
    tracking: Tracking,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    server = Server(refuses)
    monkeypatch.setitem(CLIENTS, "wandb", server)
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    record_figures(tracking, "small-1", {"heldout/base/bits_per_byte": 1.5}, step=8)
    assert server.calls == calls
    shown = capsys.readouterr().err
    assert shown.count("wandb: connection refused for (key) and its traceback. The run goes on without it.\n") == 1
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    "place", ["https://wandb.ai/team/flyte-llama/runs/small-5d41402a", "/o/wandb/offline-run-5d41402a/files"]
)
def test_the_line_that_says_where_a_run_lies_is_not_taken_for_a_key(
    place: str, tracking: Tracking, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(CLIENTS, "wandb", lambda *_: SimpleNamespace(open=lambda resumed_after: place))
    Tracker("wandb", tracking, "small-5d41402a").open(resumed_after=0)
    assert capsys.readouterr().err == f"the run is at {place} (wandb)\n"


def test_training_goes_on_if_a_tracker_stops_answering_and_asks_it_again_after_a_pause(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from flyte_llama.training.tracking import CurveCallback, close_trackers, open_trackers

    server = Server("save")
    monkeypatch.setitem(CLIENTS, "wandb", server)
    trackers = [Tracker("wandb", tracking, "small-1")]
    callback, state = CurveCallback(trackers), SimpleNamespace(global_step=0)
    open_trackers(trackers, resumed_after=0)
    callback.on_train_begin(None, state, None)
    for now in (10_000, 10_001, 20_000):
        monkeypatch.setattr("time.monotonic", lambda now=now: now)
        callback.on_save(None, state, None)
    close_trackers(trackers, succeeded=True)
    assert server.calls == ["open", "make_callback", "on_train_begin", "save", "save", "close"]
    assert capsys.readouterr().err.count("connection refused") == 1


def test_a_run_that_goes_on_later_is_left_and_not_ended(tracking: Tracking, monkeypatch: pytest.MonkeyPatch):
    from flyte_llama.training.tracking import leave_trackers, open_trackers

    server = Server("nothing")
    monkeypatch.setitem(CLIENTS, "wandb", server)
    trackers = [Tracker("wandb", tracking, "small-1")]
    open_trackers(trackers, resumed_after=0)
    leave_trackers(trackers)
    assert server.calls == ["open", "leave"]


def test_the_run_in_tensorboard_has_every_step_once_and_the_heldout_figures(tmp_path: Path):
    from tensorboard.backend.event_processing import event_accumulator as accumulators

    from flyte_llama.training.tracking import CurveCallback, close_trackers, open_trackers

    uploaded: list[str] = []
    tracking = Tracking(
        trackers=["tensorboard"],
        name="small",
        tags={},
        config={"name": "small"},
        folder=tmp_path,
        upload=lambda folder: uploaded.append(folder.name),
    )

    def train(first: int, last: int, loss: float) -> None:
        """Train steps after `first` to `last`, as after a checkpoint of step `first`."""
        arguments = SimpleNamespace(to_json_string=lambda: "{}", output_dir="")
        state = SimpleNamespace(global_step=first, is_world_process_zero=True, is_hyper_param_search=False)
        trackers = [Tracker("tensorboard", tracking, "small-1")]
        callback = CurveCallback(trackers)
        open_trackers(trackers, resumed_after=first)
        callback.on_train_begin(arguments, state, None)
        for step in range(first + 1, last + 1):
            state.global_step = step
            callback.on_log(arguments, state, None, logs={"loss": loss})
        callback.on_save(arguments, state, None)
        close_trackers(trackers, succeeded=False)

    # Step 3 is done again, since the checkpoint is from step 2.
    train(0, 3, loss=4.0)
    train(2, 4, loss=2.0)
    record_figures(tracking, "small-1", {"heldout/change/bits_per_byte": -0.5, "verdict/reasons": "none"}, step=4)

    events = accumulators.EventAccumulator(str(tracking.event_folder("small-1"))).Reload()
    assert [(each.step, each.value) for each in events.Scalars("train/loss")] == [(1, 4), (2, 4), (3, 2), (4, 2)]
    assert [(each.step, each.value) for each in events.Scalars("heldout/change/bits_per_byte")] == [(4, -0.5)]
    assert {"config/text_summary", "verdict/reasons/text_summary"} <= set(events.Tags()["tensors"])
    assert set(uploaded) == {"small-1"}
