"""SIGTERM and SIGINT as a question that all processes of a run answer together at the end of the step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flyte_llama.errors import TrainingError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(TrainingError):  # noqa: N818  # it is no fault
    """The run was told to end before it was done. A further start of it goes on where this one stopped."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


class Interruption:
    """Whether this process was told to end. However often it is told, the work at hand is finished first."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Within it the signals only set `requested`; afterwards they do again what they did before."""
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                # None: it was set by something other than Python, and cannot be set back from here.
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _note(self, number: int, frame: Any) -> None:
        self.requested = True
