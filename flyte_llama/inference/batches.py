"""Items → batches of similar length; and batches → their results, several batches at a time on a CPU.

When all cores share one batch, each small operation of a layer waits for the slowest core. Here a stream is a thread
that runs whole batches, so cores do not wait for each other; all streams share the model's weights.
"""

from __future__ import annotations

import copy
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from flyte_llama.model import find_shared_length

T = TypeVar("T")
B = TypeVar("B")
R = TypeVar("R")


def batches_by_length(
    items: Iterable[T], size: Callable[[T], tuple[int, int]], *, batch_tokens: int, shared_length: int | None = None
) -> Iterator[list[T]]:
    """Yield batches of at most `batch_tokens` tokens; a longer item is alone in its batch.

    The longest items go first: if memory is too small, the first batch shows it.

    Args:
        size: Item → its number of ids, and the most new ids that it may get. Every row of a batch counts as the longest
            item plus the most new ids in the batch.
        shared_length: The longest row of a batch of several items, see `shared_length`; None without a limit.
    """
    batch: list[T] = []
    longest = most_new = 0
    for item in sorted(items, key=size, reverse=True):
        length, num_new = size(item)
        row = longest + max(most_new, num_new)
        is_alone = shared_length is not None and row > shared_length
        if batch and (is_alone or (len(batch) + 1) * row > batch_tokens):
            yield batch
            batch = []
        if not batch:
            longest, most_new = length, 0
        most_new = max(most_new, num_new)
        batch.append(item)
    if batch:
        yield batch


def shared_length(model: Any) -> int | None:
    """Return the longest row of a batch of several rows, in tokens; None if the model has no such limit.

    A longer row would change how the model numbers the positions of the others, see `model.positions`.
    """
    config = getattr(model, "config", None)
    return None if config is None else find_shared_length(config.to_dict())


def num_streams(model: Any, *, max_streams: int) -> int:
    """Number of batches to run at once: on a CPU one per torch thread, between 1 and `max_streams`; else 1.

    On a GPU one batch uses the whole device. Distributed processes, which may share one model under ZeRO, must all run
    the same batch.
    """
    import torch

    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return 1 if model.device.type != "cpu" or is_distributed else max(1, min(max_streams, torch.get_num_threads()))


def run_in_streams(
    model: Any, batches: Sequence[B], open_stream: Callable[[Any], Callable[[B], R]], *, streams: int
) -> Iterator[R]:
    """Yield the result of each batch, in the order of the batches.

    An exception raised for one batch is raised here, and batches that have not started are dropped.

    Args:
        open_stream: Called once for each stream with its model; returns the function that runs one of its batches.
        streams: How many to run, see `num_streams`.
    """
    import torch

    if streams == 1:
        yield from map(open_stream(model), batches)
        return
    threads = torch.get_num_threads()
    free: queue.SimpleQueue[Callable[[B], R]] = queue.SimpleQueue()
    for _ in range(streams):
        free.put(open_stream(copy_sharing_weights(model)))

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
        # New threads start with the number that any thread set last, so the workers' setting would leak.
        torch.set_num_threads(threads)


def copy_sharing_weights(model: Any) -> Any:
    """Copy a model but not its parameters: buffers, which a forward pass may change, are separate."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
