"""Fine-tuning in separate processes, without Flyte: a launcher starts them, and their memory is freed when they end.

python -m torch.distributed.run --standalone --nproc_per_node N -m flyte_llama.training.launch JOB.json
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from flyte_llama.config import Frozen, TrainingConfig
from flyte_llama.errors import FlyteLlamaError, OutOfMemoryError, TrainingError
from flyte_llama.training.fine_tuning import fine_tune
from flyte_llama.training.fresh import fresh_environment
from flyte_llama.training.processes import process_group
from flyte_llama.training.summary import TrainingSummary

_FAILURE, _SUMMARY = "failure.json", "summary.json"


class Failure(Frozen):
    """The error that ended a process."""

    message: str
    transient: bool = False
    out_of_memory: bool = False


class TrainingJob(Frozen):
    """The arguments of `fine_tune`."""

    base: Path
    rows: Path
    training: TrainingConfig
    out: Path | None = None
    """Folder for the model; None writes no model. The written model is not verified."""


def launch_training(job: TrainingJob, folder: Path, *, num_processes: int = 1) -> TrainingSummary:
    """Run the job in `num_processes` processes on this machine; `folder` holds the files exchanged with them.

    Raises:
        OutOfMemoryError: if the job does not fit into memory.
        TrainingError: if it fails in another way, with the message of the process that failed first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job_file = folder / "job.json"
    job_file.write_text(job.model_dump_json(), encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(num_processes)]
    command = [sys.executable, *launcher, "-m", __name__, str(job_file)]
    tail: deque[str] = deque(maxlen=60)
    with subprocess.Popen(command, env=fresh_environment(), stderr=subprocess.PIPE, text=True) as process:  # noqa: S603  # built above
        for line in process.stderr or ():
            sys.stderr.write(line)
            tail.append(line)
    if process.returncode == 0:
        return TrainingSummary.model_validate_json((folder / _SUMMARY).read_text(encoding="utf-8"))
    last_lines, failure_file = "".join(tail), folder / _FAILURE
    if failure_file.exists():
        failure = Failure.model_validate_json(failure_file.read_text(encoding="utf-8"))
    else:
        # When the host runs out of memory, the kernel kills a process with SIGKILL (9).
        failure = Failure(message=last_lines, out_of_memory=bool(re.search(r"exitcode\s*: -9\b", last_lines)))
    kind = OutOfMemoryError if failure.out_of_memory else TrainingError
    raise kind(failure.message, transient=failure.transient)


def main(arguments: Sequence[str]) -> int:
    """Run one process of the launcher, and leave its summary or its failure next to the job file."""
    import torch

    job_file = Path(arguments[0])
    job = TrainingJob.model_validate_json(job_file.read_text(encoding="utf-8"))
    try:
        with process_group() as rank:
            checkpoints = job_file.parent / "checkpoints"
            summary = fine_tune(job.base, job.rows, job.out, job.training, heldout=[], checkpoints=checkpoints)
            if rank == 0:
                (job_file.parent / _SUMMARY).write_text(summary.model_dump_json(), encoding="utf-8")
    except (FlyteLlamaError, torch.OutOfMemoryError) as error:
        failure = Failure(
            message=str(error),
            transient=getattr(error, "transient", False),
            out_of_memory=isinstance(error, OutOfMemoryError | torch.OutOfMemoryError),
        )
        (job_file.parent / _FAILURE).write_text(failure.model_dump_json(), encoding="utf-8")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
