"""The processes that train together, started by a launcher (torchrun, Flyte's Elastic) on one or several nodes.

Each process joins the group, then all call the same functions in the same order: `barrier` waits for all,
`on_first_rank` and `on_each_node` do work once for all, and an error in one is raised in all. A signal to stop is only
noted when it arrives (`Interruption`), because it may reach one process alone: the Trainer shares the notes at the end
of every step, so that all processes stop after the same step.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from flyte_llama.errors import TrainingError

T = TypeVar("T")
_PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: all of them wait while rank 0 merges adapters into a base and saves it."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(TrainingError):  # noqa: N818  # not an error: the run can resume
    """The run was asked to stop before it was done. The next start resumes from its last checkpoint."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


class Interruption:
    """Whether this process was asked to stop. However many signals arrive, the current step is finished first."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def catch_signals(self) -> Iterator[None]:
        """Within this context the signals only set `requested`; afterwards the former handlers are restored."""
        former = {signum: signal.signal(signum, self._note) for signum in _SIGNALS}
        try:
            yield
        finally:
            for signum, handler in former.items():
                # None: the handler was not installed from Python, so Python cannot restore it.
                signal.signal(signum, handler if handler is not None else signal.SIG_DFL)

    def _note(self, signum: int, frame: Any) -> None:
        self.requested = True


@contextmanager
def process_group() -> Iterator[int]:
    """Join DeepSpeed's process group and yield this process's rank; leave the group at the end, even after an error.

    On a CPU the group uses gloo, and DeepSpeed's shared-memory op is switched off: DeepSpeed would compile it at the
    first run, and the results are the same without it. Several processes on a CPU must do all their work within the
    context: after a success the interpreter skips its clean-up, see `_exit_at_once`.
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
    comm.init_distributed(dist_backend="nccl" if on_gpu else "gloo", auto_mpi_discovery=False, timeout=_PATIENCE)
    several_on_cpu = not on_gpu and torch.distributed.get_world_size() > 1
    try:
        yield torch.distributed.get_rank()
    finally:
        torch.distributed.destroy_process_group()
    if several_on_cpu:
        atexit.register(_exit_at_once)


def barrier() -> None:
    """Wait until every process has reached this call."""
    import torch

    torch.distributed.barrier()


def on_first_rank(work: Callable[[], T]) -> T:
    """Call `work` on rank 0 while the other processes wait, and return its result in every process.

    If it raises, every process raises the same exception, so that none waits for ever.
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


def on_each_node(work: Callable[[], T]) -> list[T]:
    """Call `work` on the first process of every node while the others wait.

    Returns the results in the order of the nodes, in every process. If any call raises, every process raises the same
    exception, so that none waits for ever.
    """
    import torch

    # A result is wrapped in a tuple, because None stands for a process that did not call `work`.
    outcome: tuple[T] | Exception | None = None
    if is_first_of_node():
        try:
            outcome = (work(),)
        except Exception as error:
            outcome = error
    outcomes: list[tuple[T] | Exception | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(outcomes, outcome)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return [outcome[0] for outcome in outcomes if isinstance(outcome, tuple)]


def node_rank() -> int:
    """Index of this process's node, from 0."""
    return int(os.environ.get("GROUP_RANK", "0"))


def is_first_of_node() -> bool:
    """Whether this process is the one that uses the disk of its node."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _exit_at_once() -> None:
    """Exit as a success, without the interpreter's clean-up.

    In about one of thirty runs with two gloo processes the clean-up aborts with "terminate called without an active
    exception". All work is done by then, but the launcher would take the run for failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
