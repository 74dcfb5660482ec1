"""A tracker that never ends a run: its first error is one line, and from then on it is left alone, or asked rarely."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from flyte_llama.progress import say
from flyte_llama.settings.environment import TRACKER_KEYS
from flyte_llama.trackers.clients import CLIENTS, Client
from flyte_llama.trackers.run import Figures, Tracking

T = TypeVar("T")
_LONGEST_REASON = 300
"""Characters of an error that are shown."""

_PAUSE_S = 1800.0
"""Seconds without a line of the curve after one that could not be sent: to find out takes up to half a minute."""


class Tracker:
    """One tracker and the run of a training in it."""

    def __init__(self, name: str, tracking: Tracking, run_id: str) -> None:
        """Refer to the run; nothing is opened yet.

        Args:
            name: `wandb`, `mlflow` or `tensorboard`.
        """
        self.name = name
        self.client: Client = CLIENTS[name](tracking, run_id)
        self._is_open = False
        self._has_failed = False
        self._paused_until = 0.0
        self._said_pause = False

    def attempt(self, work: Callable[[], T]) -> T | None:
        """Return the result of `work`; None if it raises, or if anything did before."""
        if self._has_failed:
            return None
        try:
            return work()
        except Exception as error:  # each library raises its own classes
            self._has_failed = True
            say(f"{self.name}: {_reason(error)}. The run goes on without it.")
            if self._is_open:
                with suppress(Exception):
                    self.client.close(succeeded=False)
            return None

    def attempt_line(self, work: Callable[[], object]) -> None:
        """Call `work`, which sends a part of the curve. If it raises, the next half hour of the curve is left out."""
        if self._has_failed or time.monotonic() < self._paused_until:
            return
        try:
            work()
        except Exception as error:  # each library raises its own classes
            self._paused_until = time.monotonic() + _PAUSE_S
            if not self._said_pause:
                say(f"{self.name}: {_reason(error)}. The run goes on; trying again every {_PAUSE_S / 60:.0f} minutes.")
            self._said_pause = True

    def open(self, *, resumed_after: int | None) -> None:
        """Open the run, and print where it can be seen."""

        def work() -> None:
            shown = self.client.open(resumed_after=resumed_after)
            self._is_open = True
            # After `wandb:`, an address would be masked as a key of wandb.
            say(f"the run is at {shown} ({self.name})")

        self.attempt(work)

    def close(self, *, succeeded: bool) -> None:
        """Close the run, if it is open."""
        if self._is_open:
            self._is_open = False
            self.attempt(lambda: self.client.close(succeeded=succeeded))

    def leave(self) -> None:
        """Let the run, if it is open, wait for the next attempt."""
        if self._is_open:
            self._is_open = False
            self.attempt(self.client.leave)


def record_figures(tracking: Tracking, run_id: str, figures: Figures, *, step: int) -> None:
    """Add figures to the run of a training that has ended, in each of its trackers.

    Args:
        step: The step whose weights the figures are about.
    """
    for name in tracking.trackers:
        tracker = Tracker(name, tracking, run_id)
        tracker.open(resumed_after=None)
        tracker.attempt(lambda: tracker.client.write(figures, step=step))  # noqa: B023  # called at once
        tracker.close(succeeded=True)


def _reason(error: Exception) -> str:
    """An error in one line, without the keys of trackers."""
    text = " ".join(str(error).split()) or type(error).__name__
    for key in TRACKER_KEYS:
        if value := os.environ.get(key.upper()):
            text = text.replace(value, "(key)")
    return (text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…").rstrip(".")
