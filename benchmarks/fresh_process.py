"""Run a function in a new process, and measure its peak memory. Linux only."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The result, and the peak of resident memory in MB, including the interpreter and imports but not child processes.

    Args:
        function: A function at the top level of a module, since the new process imports it from there.
    """
    # Spawned, not forked: a forked process would also count the memory of this one.
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, function, arguments).result()


def _measure(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    result = function(*arguments)
    # Not getrusage: it counts the moment between fork and exec, when the child is as large as its parent.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return result, int(peak[1]) * 1024 / 1e6 if peak else 0.0
