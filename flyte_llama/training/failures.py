"""The error that ends a training process, passed on to its launcher as one message.

torch's launcher reports the traceback of one process. So each process also writes its error as a `Failure` next to the
file in which torch expects it, and the launcher raises the one that explains the end of the run.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flyte_llama.config import Frozen
from flyte_llama.errors import FlyteLlamaError, OutOfMemoryError, TrainingError

DEBUG = "FLYTE_LLAMA_DEBUG"
"""The variable that, set to 1, shows tracebacks of training processes."""

_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
_FILE = "failure.json"
# What gloo and NCCL say when a process of the group has ended.
_LOST_PROCESS = re.compile(r"DistBackendError|Connection (closed|reset) by peer|remote process exited", re.IGNORECASE)
# What torch says when a GPU's memory ran out elsewhere than in torch's own allocator: in CUDA, cuBLAS or NCCL.
_OUT_OF_MEMORY = re.compile(r"CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|Cuda failure \d+ 'out of memory'")
_GOES_ON = "The same command goes on from the last checkpoint."


class Failure(Frozen):
    """The error that ended a process."""

    kind: str
    """Name of its class; an empty name for an error that is not a `FlyteLlamaError`."""

    message: str
    transient: bool = False


def wants_tracebacks() -> bool:
    return os.environ.get(DEBUG) == "1"


@contextmanager
def record_failure() -> Iterator[None]:
    """Write an error that leaves this context to a file for the launcher."""
    try:
        yield
    except Exception as error:
        if wants_tracebacks():
            traceback.print_exc()
        # The folder is gone if the launcher was killed; then nobody will read the file.
        with contextlib.suppress(KeyError, OSError):
            file = Path(os.environ[_ERROR_FILE]).with_name(_FILE)
            file.write_text(describe_error(error).model_dump_json(), encoding="utf-8")
        raise


def describe_error(error: Exception) -> Failure:
    """The failure to record for an error: its message, or one sentence if it is not one of ours."""
    if isinstance(error, FlyteLlamaError):
        return Failure(kind=type(error).__name__, message=error.message, transient=error.transient)
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if is_out_of_memory(error):
        advice = "Lower training.micro_batch_size or training.seq_len, or raise training.deepspeed.zero_stage."
        return Failure(kind=OutOfMemoryError.__name__, message=f"the GPU ran out of memory ({reason}). {advice}")
    advice = f"{_GOES_ON} Set {DEBUG}=1 to see where it happened."
    # Another node may have been taken away; a retry then finds the last checkpoint.
    transient = _LOST_PROCESS.search(f"{type(error).__name__}: {error}") is not None
    message = f"a training process failed with {reason.rstrip('.')}. {advice}"
    return Failure(kind="", message=message, transient=transient)


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch raised the error because the memory of a GPU ran out."""
    # By its name, since torch need not be imported for this.
    return type(error).__name__ == "OutOfMemoryError" or _OUT_OF_MEMORY.search(str(error)) is not None


def launch_error(error: Exception, folder: Path) -> FlyteLlamaError | None:
    """The error that ended the processes of a launch; None if `error` is not about its processes.

    Args:
        error: What the launcher raised.
        folder: The folder with the temporary files of the launch.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    causes = [error, error.__context__, getattr(error, "value", None)]
    failed = next((cause for cause in causes if isinstance(cause, ChildFailedError)), None)
    if failed is None:
        return None
    # A process that the system killed comes first: the errors of the others follow from its end.
    _, process = failed.get_first_failure()
    if process.exitcode < 0 and -process.exitcode != signal.SIGTERM:
        return killed_error("a training process", -process.exitcode)
    failures = [Failure.model_validate_json(file.read_text("utf-8")) for file in folder.rglob(_FILE)]
    if failures:
        return _raised(min(failures, key=_rank))
    if -process.exitcode == signal.SIGTERM:
        return TrainingError(f"a training process was ended by SIGTERM. {_GOES_ON}", transient=True)
    # It failed before it could record why, for example while it imported a module.
    recorded = process.message
    reason = recorded["message"] if isinstance(recorded, dict) else f"exit code {process.exitcode}"
    return TrainingError(f"a training process failed with {str(reason).splitlines()[0]}. {_GOES_ON}")


def forget_failures(folder: Path) -> None:
    """Remove what the processes of a launch recorded, before they are started again."""
    for file in list(folder.rglob(_FILE)):
        file.unlink()


def killed_error(what: str, signum: int) -> OutOfMemoryError | TrainingError:
    """The error for a process that a signal ended: for SIGKILL, most likely the host ran out of memory."""
    if signum == signal.SIGKILL:
        return OutOfMemoryError(
            f"{what} was killed by signal 9 (SIGKILL). Did the host run out of memory? Give it more, or lower "
            f"training.micro_batch_size. {_GOES_ON}"
        )
    try:
        name = f" ({signal.Signals(signum).name})"
    except ValueError:
        name = ""
    return TrainingError(f"{what} was ended by signal {signum}{name}. {_GOES_ON}")


def _rank(failure: Failure) -> int:
    """0 for the failures that explain most: those of other kinds may follow from them in other processes."""
    return 1 if failure.kind == "Interrupted" else 2 if not failure.kind else 0


def _raised(failure: Failure) -> FlyteLlamaError:
    kinds = {kind.__name__: kind for kind in _kinds(FlyteLlamaError)}
    error = kinds.get(failure.kind, TrainingError)(failure.message)
    error.transient = failure.transient
    return error


def _kinds(kind: type[FlyteLlamaError]) -> Iterator[type[FlyteLlamaError]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _kinds(subclass)
