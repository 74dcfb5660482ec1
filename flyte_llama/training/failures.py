"""The error that ends a training process, passed on to its launcher as one message.

torch's launcher reports the traceback of one process. So each process also writes its error as a `Failure` next to the
file in which torch expects it, and the launcher raises the one that explains the end of the run.

| what ended the run | raised | a retry may help |
|---|---|---|
| a full GPU; a process killed because the pod's memory was full | `OutOfMemoryError` | no: it says what to lower |
| a process killed for another reason, by any signal | `TrainingError` | yes |
| another process or node that is gone; nodes that did not meet | `LostProcess` | yes |
| an error of CUDA, cuBLAS, cuDNN or NCCL | `TrainingError` | yes, unless the GPU cannot run this program at all |
| any other error | as it was, or `TrainingError` | if it says so |
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
from flyte_llama.training.memory import out_of_memory_kills

DEBUG = "FLYTE_LLAMA_DEBUG"
"""The variable that, set to 1, shows tracebacks of training processes."""

_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
_FILE = "failure.json"
# What gloo, NCCL and torch's store say when a process of the group has ended, or does not answer any more.
_LOST_PROCESS = re.compile(
    r"Dist(Network|Store)Error|Connection (closed|reset|refused|timed out)|closed by peer|broken pipe"
    r"|remote process exited|failed to recv|socket has timed out|application timeout caused pair closure"
    r"|timed out waiting \S+ for (recv|send)|connectFullMesh failed|communicator was aborted|watchdog"
    r"|nccl(Remote|System)Error|unhandled system error",
    re.IGNORECASE,
)
# What torch says of an error in CUDA and its libraries. Another GPU, or the same one once it is reset, may not fail.
_GPU = re.compile(
    r"AcceleratorError|CUDA (driver |runtime )?error|Cuda failure|cudaError|device-side assert|CUBLAS_STATUS"
    r"|CUDNN_STATUS|cuDNN error|DistBackendError|NCCL error|\bnccl[A-Z]\w*Error",
)
_LASTING = re.compile(r"no kernel image|driver version is insufficient|invalid device ordinal|not compiled with CUDA")
# What torch says when a GPU's memory ran out elsewhere than in torch's own allocator: in CUDA, cuBLAS or NCCL.
_OUT_OF_MEMORY = re.compile(r"CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|Cuda failure \d+ 'out of memory'")
# What torch says when it cannot write a file of a checkpoint.
_TORCH_FILE = re.compile(r"PytorchStreamWriter|inline_container|unexpected pos \d+ vs|No space left|iostream error")
_GOES_ON = "The same command goes on from the last checkpoint."


class LostProcess(TrainingError):  # noqa: N818  # says what happened, as `Interrupted` does
    """Another process or node of the run is gone, or was never there. Its own error, if it had one, says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


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
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, RuntimeError) and _LOST_PROCESS.search(text):
        message = f"another process of the run is gone ({reason.rstrip('.')}). {_GOES_ON}"
        return Failure(kind=LostProcess.__name__, message=message, transient=True)
    message = f"a training process failed with {reason.rstrip('.')}. {_GOES_ON} Set {DEBUG}=1 to see where it happened."
    is_of_gpu = _GPU.search(text) is not None and _LASTING.search(text) is None
    return Failure(kind="", message=message, transient=is_of_gpu or isinstance(error, ConnectionError | TimeoutError))


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch raised the error because the memory of a GPU ran out."""
    # By its name, since torch need not be imported for this.
    return type(error).__name__ == "OutOfMemoryError" or _OUT_OF_MEMORY.search(str(error)) is not None


def is_disk_error(error: Exception) -> bool:
    """Whether a file could not be written, as on a full disk; not if a connection failed, which is an OSError too."""
    if isinstance(error, OSError):
        return not isinstance(error, ConnectionError | TimeoutError) and not _LOST_PROCESS.search(str(error))
    # torch and safetensors report the disk's errors with classes of their own.
    return type(error).__name__ == "SafetensorError" or _TORCH_FILE.search(str(error)) is not None


def launch_error(error: Exception, folder: Path, *, former_kills: int | None = None) -> FlyteLlamaError | None:
    """The error that ended the processes of a launch; None if `error` is not about its processes.

    Args:
        error: What the launcher raised.
        folder: The folder with the temporary files of the launch.
        former_kills: `out_of_memory_kills` before the launch. If the number has grown, a process that was killed was
            killed because the memory of this pod is full.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    causes = [error, error.__context__, getattr(error, "value", None)]
    failed = next((cause for cause in causes if isinstance(cause, ChildFailedError)), None)
    if failed is None:
        lost = next((cause for cause in causes if cause is not None and _is_about_nodes(cause, RendezvousError)), None)
        if lost is None:
            return None
        return LostProcess(
            f"the nodes of the run did not meet, or lost each other ({type(lost).__name__}: {lost}). Look whether all "
            f"of their pods could start. {_GOES_ON}"
        )
    # A process that the system killed comes first: the errors of the others follow from its end.
    _, process = failed.get_first_failure()
    killed = [each.exitcode for each in failed.failures.values() if each.exitcode < 0]
    for exitcode in sorted(killed):
        if -exitcode != signal.SIGTERM:
            return killed_error("a training process", -exitcode, former_kills=former_kills)
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


def killed_error(what: str, signum: int, *, former_kills: int | None = None) -> OutOfMemoryError | TrainingError:
    """The error for a process that a signal ended.

    For SIGKILL it is an OutOfMemoryError, since most likely the memory of the host ran out. Only if the system says so,
    a retry cannot help: a machine that is taken away kills too.

    Args:
        former_kills: `out_of_memory_kills` before the process was started.
    """
    if signum == signal.SIGKILL:
        kills = out_of_memory_kills()
        is_proven = kills is not None and former_kills is not None and kills > former_kills
        reason = "The memory of this machine or pod is full." if is_proven else "Did the host run out of memory?"
        return OutOfMemoryError(
            f"{what} was killed by signal 9 (SIGKILL). {reason} Give it more (on a cluster, FLYTE_LLAMA_GPU_MEMORY), "
            f"or lower training.micro_batch_size. {_GOES_ON}",
            transient=not is_proven,
        )
    try:
        name = f" ({signal.Signals(signum).name})"
    except ValueError:
        name = ""
    advice = "Is /dev/shm full, or the disk? " if signum == signal.SIGBUS else ""
    return TrainingError(f"{what} was ended by signal {signum}{name}. {advice}{_GOES_ON}", transient=True)


def _is_about_nodes(error: BaseException, rendezvous_error: type[Exception]) -> bool:
    """Whether the launcher failed to meet the others, or lost the store that they share."""
    return isinstance(error, rendezvous_error) or _LOST_PROCESS.match(type(error).__name__) is not None


def _rank(failure: Failure) -> int:
    """0 for the failures that explain most: those of other kinds may follow from them in other processes."""
    return {"Interrupted": 1, "": 2, LostProcess.__name__: 3}.get(failure.kind, 0)


def _raised(failure: Failure) -> FlyteLlamaError:
    kinds = {kind.__name__: kind for kind in _kinds(FlyteLlamaError)}
    error = kinds.get(failure.kind, TrainingError)(failure.message)
    error.transient = failure.transient
    return error


def _kinds(kind: type[FlyteLlamaError]) -> Iterator[type[FlyteLlamaError]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _kinds(subclass)
