"""Progress messages on standard error: a bar on a terminal; elsewhere, as in a pod, a line every few seconds.

Does not configure logging.
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
    """Print a line to standard error, above the progress bar if there is one, and flush it."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


def say_once(line: str) -> None:
    """Print a line on rank 0 only; for code that every process of a launcher runs."""
    if os.environ.get("RANK", "0") == "0":
        say(line)


def track(items: Iterable[T], *, what: str, total: int) -> Iterator[T]:
    """Yield the items unchanged, and show how many of `total` are done."""
    if on_terminal():
        yield from tqdm(items, desc=what, total=total, leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        # The time left can be estimated only after the first item.
        if done and now - last >= SECONDS_BETWEEN_LINES:
            last = now
            say(f"{what}: {done}/{total}, {duration((now - start) / done * (total - done))} left")
        yield item


def duration(seconds: float) -> str:
    """Return the time as `1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bytes_text(num_bytes: float) -> str:
    """A number of bytes for people, in binary units: `7 bytes`, `1.2 MiB`, `91.4 GiB`."""
    size, unit = float(num_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:,.0f} bytes" if unit == "bytes" else f"{size:,.1f} {unit}"


def quiet_libraries() -> None:
    """Turn off the progress bars of transformers unless on a terminal: they clutter the log of a pod."""
    if not on_terminal():
        from transformers.utils import logging

        logging.disable_progress_bar()
