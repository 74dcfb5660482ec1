"""Starts the processes that train, waits for them, and ends them when this process is asked to end.

torch's launcher would raise an exception wherever this process is when a signal arrives, leave its signal handlers
behind, and let Ctrl-C on a terminal reach its processes in the middle of their start. So it runs in a thread, where it
leaves signals alone:

    this process                                  each training process
    Ctrl-C, SIGTERM or SIGHUP is noted      →     gets SIGTERM: ends after its step, or at once outside the steps
    Ctrl-C again                            →     is killed
    all have ended: the last line, exit 130       records its error as a `Failure`

A process that fails ends the others, and its error is raised here as its one message. Only if a GPU ran out of memory
with what the run chose for `auto` are the processes started once more: they then choose less, see `choice`.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

from flyte_llama.config import Frozen, TrainingConfig
from flyte_llama.errors import FlyteLlamaError
from flyte_llama.progress import INTERRUPTED, say
from flyte_llama.trackers import Tracking
from flyte_llama.training.choice import ChoiceTooLarge
from flyte_llama.training.failures import forget_failures, launch_error, wants_tracebacks
from flyte_llama.training.fine_tuning import fine_tune
from flyte_llama.training.memory import out_of_memory_kills
from flyte_llama.training.node_checkpoints import group_fingerprint, remove_checkpoints
from flyte_llama.training.processes import Interrupted, handle_signals, process_group
from flyte_llama.training.summary import TrainingSummary

T = TypeVar("T")
_TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""What a terminal sends to all processes that it shows; only this one is to act on it."""

_SIGNALS = (signal.SIGTERM, *_TERMINAL_SIGNALS)
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_UNTIL_EXPLAINED = 2.0


class TrainingJob(Frozen):
    """The arguments of `fine_tune`."""

    base: Path
    rows: Path
    training: TrainingConfig
    out: Path | None = None
    """Folder for the model; None writes no model. The written model is not verified."""

    tracking: Tracking | None = None


def launch_training(job: TrainingJob, folder: Path, *, num_processes: int = 1) -> TrainingSummary:
    """Run the job in `num_processes` new processes on this machine, whose memory is freed when they end.

    Args:
        folder: For checkpoints and temporary files.

    Raises:
        OutOfMemoryError: if the job does not fit into memory.
        TrainingError: if it fails in another way.
    """
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    folder.mkdir(parents=True, exist_ok=True)
    if num_processes > 1:
        # As torchrun does: by default each process would use all cores.
        os.environ.setdefault("OMP_NUM_THREADS", "1")

    def launch() -> dict[int, TrainingSummary]:
        # Here, since the configuration makes a temporary folder.
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=num_processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
        )
        summaries: dict[int, TrainingSummary] = elastic_launch(config, _train)(job, folder / "checkpoints")
        return summaries

    return run_launcher(launch, folder)[0]


def run_launcher(launch: Callable[[], T], folder: Path, *, may_start_again: bool = True) -> T:
    """Return the result of `launch`, a call of torch's launcher, which starts processes and waits for them.

    If a GPU ran out of memory with what the run chose for `auto`, `launch` is called once more.

    Args:
        folder: The launcher and its processes keep their temporary files there.
        may_start_again: False on one of several nodes, whose processes cannot start without those of the others.

    Raises:
        FlyteLlamaError: the one that ended the processes.
        SystemExit: with 128 + the signal's number, if a signal asked this process to end. A line tells what is saved.
    """
    received: list[int] = []
    with _note_signals(received), _set_environment(folder), _without_log_lines(), ThreadPoolExecutor(1) as thread:
        running, failure = _run(launch, folder, thread, received)
        if isinstance(failure, ChoiceTooLarge) and may_start_again and not received:
            say(f"{failure.message} Starting again.")
            forget_failures(folder)
            running, failure = _run(launch, folder, thread, received)
    if received:
        if isinstance(failure, FlyteLlamaError) and not isinstance(failure, Interrupted):
            say(failure.message)
        say(failure.message if isinstance(failure, Interrupted) else INTERRUPTED)
        raise SystemExit(128 + received[0])
    if isinstance(failure, FlyteLlamaError):
        raise failure from (running.exception() if wants_tracebacks() else None)
    return running.result()


def _run(
    launch: Callable[[], T], folder: Path, thread: ThreadPoolExecutor, received: list[int]
) -> tuple[Future[T], FlyteLlamaError | None]:
    """Call `launch` in the thread and wait; return its future, and the error of its processes."""
    former_kills = out_of_memory_kills()
    running = thread.submit(contextvars.copy_context().run, _start, launch)
    _wait(running, received)
    error = running.exception()
    if not isinstance(error, Exception):
        return running, None
    return running, launch_error(error, folder, former_kills=former_kills)


def _train(job: TrainingJob, checkpoints: Path) -> TrainingSummary:
    """Run one process of a job."""
    with process_group():
        summary = fine_tune(
            job.base, job.rows, job.out, job.training, heldout=[], checkpoints=checkpoints, tracking=job.tracking
        )
        remove_checkpoints(checkpoints, group_fingerprint(job.base, job.rows, job.training))
        return summary


def _start(launch: Callable[[], T]) -> T:
    """Call `launch` in a thread that blocks the terminal's signals, since its processes inherit that."""
    # Not later: Python unblocks SIGINT when it has started this process.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINAL_SIGNALS)
    return launch()


def _wait(running: Future[Any], received: list[int]) -> None:
    """Wait until the launch has ended; meanwhile pass signals on to its processes, one to each."""
    ended: set[tuple[int | None, int]] = set()
    explained = False
    waited_s = 0.0
    while not wait([running], timeout=_SECONDS_BETWEEN_LOOKS).done:
        if not received:
            continue
        # A second Ctrl-C is meant: it loses the steps since the last checkpoint.
        signum = signal.SIGKILL if received.count(signal.SIGINT) > 1 else signal.SIGTERM
        # `active_children` would take the exit code of an ended process away from the launcher in the other thread.
        for process in list(multiprocessing.process._children):  # type: ignore[attr-defined]  # it has no other list
            if process.pid is not None and (process.pid, signum) not in ended:
                ended.add((process.pid, signum))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signum)
        waited_s += _SECONDS_BETWEEN_LOOKS
        if waited_s > _SECONDS_UNTIL_EXPLAINED and not explained:
            explained = True
            again = "; press Ctrl-C again to end without that" if signal.SIGINT in received else ""
            say(f"interrupting: waiting until this step is done and its checkpoint is sealed{again}")


@contextmanager
def _note_signals(received: list[int]) -> Iterator[None]:
    """Append signals to `received` instead of acting on them; afterwards the former handlers are back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(signum: int, frame: Any) -> None:
        received.append(signum)

    # A signal that is ignored, as SIGHUP under nohup, stays ignored.
    with handle_signals([signum for signum in _SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN], note):
        yield


@contextmanager
def _set_environment(folder: Path) -> Iterator[None]:
    """Within this context new temporary files are in `folder`, also those of the processes that are started.

    Those processes read files as UTF-8 whatever the locale says: torch's compiler, which DeepSpeed calls, relies on it.
    """
    former, environment = tempfile.tempdir, dict(os.environ)
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    # After a kill, Python's resource tracker would have the last word, about semaphores that it removes itself.
    filters = [os.environ.get("PYTHONWARNINGS", ""), "ignore:resource_tracker:UserWarning"]
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, filters))
    os.environ["PYTHONUTF8"] = "1"
    try:
        yield
    finally:
        tempfile.tempdir = former
        for name in ("TMPDIR", "PYTHONWARNINGS", "PYTHONUTF8"):
            os.environ.pop(name, None)
            if name in environment:
                os.environ[name] = environment[name]


@contextmanager
def _without_log_lines() -> Iterator[None]:
    """Within this context no log line of this process is shown: torch's repeat each failure with its traceback."""
    former = logging.root.manager.disable
    if not wants_tracebacks():
        logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(former)
