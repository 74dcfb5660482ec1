"""Time several programs in alternation, so that noise of the machine affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS = 3


def best(*sides: Callable[[], object]) -> list[float]:
    """The seconds of each side's fastest round. In each round, every side runs once."""
    seconds = [float("inf")] * len(sides)
    for _ in range(ROUNDS):
        for index, side in enumerate(sides):
            start = time.perf_counter()
            side()
            seconds[index] = min(seconds[index], time.perf_counter() - start)
    return seconds
