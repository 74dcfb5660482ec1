"""The processes that train together, started by a launcher (torchrun, Flyte's Elastic) on one or several nodes.

Each process joins the group, then all call the same functions in the same order: `barrier` waits for all,
`on_first_rank` and `on_each_node` do work once for all, and an error in one is raised in all. A signal to stop is only
noted when it arrives (`Interruption`), because it may reach one process alone: the Trainer shares the notes at the end
of every step, so that all processes stop after the same step. Outside the steps a signal ends a process at once: then
nothing is lost that a checkpoint does not hold.

No process outlives its launcher: it looks once a second whether its parent is still there (`end_with_parent`).
"""

from __future__ import annotations

import atexit
import contextvars
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from flyte_llama.errors import TrainingError
from flyte_llama.training.failures import record_failure

T = TypeVar("T")
_PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: all of them wait while rank 0 merges adapters into a base and saves it."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_SIGNS = 10.0
_SECONDS_TO_SEAL = 600.0
"""How long a process may finish its step and seal a checkpoint once its parent is gone."""


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
        with handle_signals(_SIGNALS, self._note):
            yield

    def _note(self, signum: int, frame: Any) -> None:
        self.requested = True


@contextmanager
def handle_signals(signums: Iterable[int], handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within this context these signals call `handler` and nothing else; afterwards the former handlers are back."""
    # `exit_on_interrupt` may watch for signals here, and would end this process.
    wakeup = signal.set_wakeup_fd(-1)
    former = {signum: signal.signal(signum, handler) for signum in signums}
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for signum, before in former.items():
            # None: the handler was not installed from Python, so Python cannot restore it.
            signal.signal(signum, before if before is not None else signal.SIG_DFL)


@contextmanager
def process_group() -> Iterator[int]:
    """Join DeepSpeed's process group and yield this process's rank; leave the group at the end, even after an error.

    An error is recorded for the launcher, and the process ends when the launcher does.

    On a CPU the group uses gloo, and DeepSpeed's shared-memory op is switched off: DeepSpeed would compile it at the
    first run, and the results are the same without it. All work must be done within the context: after an error, and
    in several processes on a CPU after a success too, the interpreter skips its clean-up, see `_exit_at_once`.
    """
    launcher = multiprocessing.parent_process()
    end_with_parent(launcher.pid if launcher and launcher.pid else os.getppid())
    import torch

    on_gpu = torch.cuda.is_available()
    with record_failure():
        _join_group(on_gpu)
    several_on_cpu = not on_gpu and torch.distributed.get_world_size() > 1
    try:
        # The failure is recorded before the group is left, which may have to wait for processes that are gone.
        with record_failure():
            yield torch.distributed.get_rank()
    except Exception:
        atexit.register(_exit_at_once, 1)
        raise
    finally:
        torch.distributed.destroy_process_group()
    if several_on_cpu:
        atexit.register(_exit_at_once, 0)


def end_with_parent(parent: int) -> None:
    """Make this process end soon after its parent, however that one ends.

    It then gets SIGTERM, as from the launcher. If it is still there after `_SECONDS_TO_SEAL`, perhaps waiting for a
    process that is gone, it is killed.

    Args:
        parent: Id of the process that started this one. If that one has ended already, this one does too.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_TO_SEAL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


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


def on_first_rank_however_long(work: Callable[[], T]) -> T:
    """As `on_first_rank`, for work that may take longer than the processes wait for each other (`_PATIENCE`).

    Rank 0 works in a thread and tells the others every few seconds that it still does. So each wait is a short one, and
    a lost process is noticed meanwhile.
    """
    with ThreadPoolExecutor(1) as thread:
        running: list[Future[T]] = []
        on_first_rank(lambda: running.append(thread.submit(contextvars.copy_context().run, work)))
        while not on_first_rank(lambda: bool(wait(running, timeout=_SECONDS_BETWEEN_SIGNS).done)):
            pass
        return on_first_rank(lambda: running[0].result())


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


def num_nodes() -> int:
    """How many nodes train together."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1"))


def is_first_of_node() -> bool:
    """Whether this process is the one that uses the disk of its node."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _join_group(on_gpu: bool) -> None:
    import torch

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


def _exit_at_once(code: int) -> None:
    """Exit without the interpreter's clean-up.

    After all that training imports it takes seconds, which somebody who pressed Ctrl-C would have to wait. And in about
    one of thirty runs with two gloo processes it aborts with "terminate called without an active exception", so that
    the launcher takes a success for a failure.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
