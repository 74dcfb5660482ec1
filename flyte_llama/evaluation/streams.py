"""Batches side by side on a CPU: cores that each have a batch of their own do not wait for each other.

With all cores on one batch every small operation of a layer ends with the slowest. A stream is a thread that runs whole
batches; all streams share the model's weights.
"""

from __future__ import annotations

import copy
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

B = TypeVar("B")
R = TypeVar("R")


def num_streams(model: Any, *, most: int) -> int:
    """One for each of torch's threads on a CPU, up to `most`; else 1.

    A GPU runs one batch with all it has, and processes that share a model, as under ZeRO, have to run the same one.
    """
    import torch

    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return 1 if model.device.type != "cpu" or together else max(1, min(most, torch.get_num_threads()))


def in_streams(
    model: Any, batches: Sequence[B], begin: Callable[[Any], Callable[[B], R]], *, streams: int
) -> Iterator[R]:
    """What comes of each batch, in their order; what one raises is raised here, and no other is begun.

    Args:
        begin: Called once for each stream with the model it is to use: what runs its batches, one after the other.
    """
    import torch

    if streams == 1:
        yield from map(begin(model), batches)
        return
    threads = torch.get_num_threads()
    free: queue.SimpleQueue[Callable[[B], R]] = queue.SimpleQueue()
    for _ in range(streams):
        free.put(begin(_sharing_weights(model)))

    def run(batch: B) -> R:
        stream = free.get()
        try:
            return stream(batch)
        finally:
            free.put(stream)

    try:
        with ThreadPoolExecutor(
            streams, initializer=torch.set_num_threads, initargs=(max(1, threads // streams),)
        ) as pool:
            yield from pool.map(run, batches)
    finally:
        # torch tells threads that begin later what any thread was told last.
        torch.set_num_threads(threads)


def _sharing_weights(model: Any) -> Any:
    """A copy with the very same parameters; what a forward pass may change of a model, its buffers, is its own."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
