"""A function's result and the most memory it took, each call in a process of its own. Linux only."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The result, and the peak of the resident memory in MB: the interpreter and its imports too, child processes not.

    Args:
        function: Of a module, by which the new process finds it.
    """
    # Not forked, or what this process holds would count.
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, function, arguments).result()


def _measured(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    result = function(*arguments)
    # getrusage would also count the moment between fork and exec, in which the child is as large as its parent.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return result, int(peak[1]) * 1024 / 1e6 if peak else 0.0
