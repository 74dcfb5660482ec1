"""Sends the curve of a training to its trackers. Imports transformers: import it inside the function that needs it.

transformers' own callbacks send it: see `trackers`, which opens the runs that they write to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from flyte_llama.trackers import Tracker, Tracking


class CurveCallback(TrainerCallback):
    """Passes the begin of training and every logged step to transformers' callbacks, which send them to open trackers.

    Nothing else is passed on: at other events, transformers' callbacks may upload whole models and checkpoints, and the
    last line of a Trainer has averages of this start alone.
    """

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers
        self._inner: dict[str, Any] = {}
        """By the name of the tracker."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for tracker in self._trackers:
            inner: Any = tracker.attempt(tracker.client.make_callback)
            self._inner[tracker.name] = inner
            tracker.attempt(lambda: inner.on_train_begin(args, state, control, **kwargs))  # noqa: B023  # called at once

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if "loss" in kwargs["logs"]:
            for tracker in self._trackers:
                inner = self._inner[tracker.name]
                tracker.attempt_line(lambda: inner.on_log(args, state, control, **kwargs))  # noqa: B023  # called at once

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for tracker in self._trackers:
            tracker.attempt_line(tracker.client.save)


def make_trackers(tracking: Tracking | None, run_id: str | None) -> list[Tracker]:
    """The trackers that rank 0 reports to; none in the other processes."""
    if tracking is None or run_id is None or torch.distributed.get_rank() != 0:
        return []
    return [Tracker(name, tracking, run_id) for name in tracking.trackers]


def open_trackers(trackers: Sequence[Tracker], *, resumed_after: int) -> None:
    """Open the run in all trackers. One that does not answer is waited for, a minute at most.

    Args:
        resumed_after: The step that the training goes on from; 0 at its start.
    """
    for tracker in trackers:
        tracker.open(resumed_after=resumed_after)


def leave_trackers(trackers: Sequence[Tracker]) -> None:
    """Let the runs wait for the next start, which goes on with them. This takes seconds, whatever servers answer."""
    for tracker in trackers:
        tracker.leave()


def close_trackers(trackers: Sequence[Tracker], *, succeeded: bool) -> None:
    """End the runs in all trackers that still have one open."""
    for tracker in trackers:
        tracker.close(succeeded=succeeded)
