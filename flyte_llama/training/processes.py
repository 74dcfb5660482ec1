"""The processes that train together, as a launcher (torchrun, Flyte's Elastic) started them on one node or several."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")
PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: rank 0 alone merges adapters into a large base and writes it."""


@contextmanager
def process_group() -> Iterator[int]:
    """Join DeepSpeed's process group and give this process's rank; leave the group at the end, come what may.

    On a CPU the group speaks gloo, and DeepSpeed's shared-memory op, which it would compile at the first run, stays
    off: results are the same. Several processes on a CPU must have all their work done within the context: when it
    has succeeded, the interpreter's end is cut short, see `_end_at_once`.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    from deepspeed import comm

    if not on_gpu:
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logger.setLevel("WARNING")
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    comm.init_distributed(dist_backend="nccl" if on_gpu else "gloo", auto_mpi_discovery=False, timeout=PATIENCE)
    several_on_cpu = not on_gpu and torch.distributed.get_world_size() > 1
    try:
        yield torch.distributed.get_rank()
    finally:
        torch.distributed.destroy_process_group()
    if several_on_cpu:
        atexit.register(_end_at_once)


def _end_at_once() -> None:
    """End this process as a success, without the interpreter's clean-up.

    About one run of thirty with two gloo processes aborts in there, "terminate called without an active exception",
    when all is done and handed over, and the launcher would count the run as failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def all_here() -> None:
    """Wait until every process has come here."""
    import torch

    torch.distributed.barrier()


def on_first_rank(work: Callable[[], T]) -> T:
    """What `work` gives on rank 0, in every process; the others wait and do not run it.

    An exception of it is raised in every process, so that none waits for ever.
    """
    import torch

    result: list[T | Exception | None] = [None]
    if torch.distributed.get_rank() == 0:
        try:
            result = [work()]
        except Exception as error:
            result = [error]
    torch.distributed.broadcast_object_list(result, src=0)
    if isinstance(result[0], Exception):
        raise result[0]
    return result[0]  # type: ignore[return-value]  # rank 0 filled it in


def node() -> int:
    """Number of this process's node, from 0."""
    return int(os.environ.get("GROUP_RANK", "0"))


def first_of_node() -> bool:
    """Whether this is the process that works with its node's disk."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def on_each_node(work: Callable[[], T]) -> list[T]:
    """What `work` gives on the first process of every node, by number of node, in every process; the others wait.

    An exception of it is raised in every process, so that none waits for ever.
    """
    import torch

    own: tuple[T] | Exception | None = None
    if first_of_node():
        try:
            own = (work(),)
        except Exception as error:
            own = error
    found: list[tuple[T] | Exception | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    for one in found:
        if isinstance(one, Exception):
            raise one
    return [one[0] for one in found if isinstance(one, tuple)]
