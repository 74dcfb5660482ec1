"""Run a function in a new process, and measure its peak memory. Linux only."""

from __future__ import annotations

import multiprocessing
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

_INTERVAL_S = 0.02


class Cost(NamedTuple):
    """What a function returned in a new process, and the memory that it took."""

    result: Any
    peak_mb: float
    """As of `in_fresh_process`."""

    children_mb: float
    """Peak of all processes that it started, together, looked at fifty times a second."""


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The result, and the peak of resident memory in MB, including the interpreter and imports but not child processes.

    Args:
        function: A function at the top level of a module, since the new process imports it from there.
    """
    # Spawned, not forked: a forked process would also count the memory of this one.
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, function, arguments).result()


def in_fresh_process_tree(function: Callable[..., Any], *arguments: Any) -> Cost:
    """Like `in_fresh_process`, with the memory of the processes that the function starts."""
    (result, children_mb), peak_mb = in_fresh_process(_watch_children, function, arguments)
    return Cost(result, peak_mb, children_mb)


def _watch_children(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    done, peak = threading.Event(), 0.0

    def watch() -> None:
        nonlocal peak
        while not done.wait(_INTERVAL_S):
            peak = max(peak, sum(map(_resident_mb, _descendants(os.getpid()))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return function(*arguments), peak
    finally:
        done.set()
        watcher.join()


def _descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:  # the thread or process has ended
            continue
        for child in map(int, children):
            found += [child, *_descendants(child)]
    return found


def _resident_mb(pid: int) -> float:
    """Memory of its own: files that it maps, such as git's packs, are the page cache's."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    resident = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(resident[1]) * 1024 / 1e6 if resident else 0.0


def _measure(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    result = function(*arguments)
    # Not getrusage: it counts the moment between fork and exec, when the child is as large as its parent.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return result, int(peak[1]) * 1024 / 1e6 if peak else 0.0
