"""Seconds of two programs that do the same, measured so that noise of the machine meets both."""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS = 3


def best(*sides: Callable[[], object]) -> list[float]:
    """Seconds of each side's best round; rounds alternate."""
    seconds = [float("inf")] * len(sides)
    for _ in range(ROUNDS):
        for number, side in enumerate(sides):
            start = time.perf_counter()
            side()
            seconds[number] = min(seconds[number], time.perf_counter() - start)
    return seconds
