"""Progress of long work: a bar on a terminal; elsewhere, as in a pod, a line every few seconds.

Goes to standard error. Does not configure logging.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 5.0


def on_terminal() -> bool:
    return sys.stderr.isatty()


def say(line: str) -> None:
    """One line for whoever watches, above a bar if one is shown; never held back in a buffer."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


def say_once(line: str) -> None:
    """The line from one of the processes that a launcher started; all of them get here."""
    if os.environ.get("RANK", "0") == "0":
        say(line)


def track(items: Iterable[T], *, what: str, total: int) -> Iterator[T]:
    """The same items, while progress through `total` of them is shown."""
    if on_terminal():
        yield from tqdm(items, desc=what, total=total, leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        # Nothing can be said of the time left before the first is done.
        if done and now - last >= SECONDS_BETWEEN_LINES:
            last = now
            say(f"{what}: {done}/{total}, {duration((now - start) / done * (total - done))} left")
        yield item


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def quiet_libraries() -> None:
    """Keep the bars of transformers for terminals: in a pod's log they are noise."""
    if not on_terminal():
        from transformers.utils import logging

        logging.disable_progress_bar()
