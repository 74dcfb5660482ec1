"""Fine-tuning in processes of its own, without Flyte: a launcher starts them, and what they hold ends with them.

python -m torch.distributed.run --standalone --nproc_per_node N -m flyte_llama.training.launch JOB.json
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import FlyteLlamaError, OutOfMemoryError, TrainingError
from flyte_llama.evaluation.fresh import fresh_environment
from flyte_llama.training.fine_tune import fine_tune
from flyte_llama.training.processes import process_group
from flyte_llama.training.summary import TrainingSummary

_FAILURE, _SUMMARY = "failure.json", "summary.json"


class Failure(BaseModel):
    """What a process ended with."""

    message: str
    transient: bool = False
    out_of_memory: bool = False


class Job(BaseModel):
    """The arguments of `fine_tune`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path
    rows: Path
    training: TrainingConfig
    out: Path | None = None
    """None writes no model; what is written is not verified: whoever launches a trial measures it."""


def launch(job: Job, folder: Path, *, processes: int = 1) -> TrainingSummary:
    """Run the job in `processes` processes of this machine; `folder` takes what they say to each other.

    Raises:
        OutOfMemoryError: if it does not fit.
        TrainingError: if it fails otherwise, with the message of the process that failed first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "job.json"
    told.write_text(job.model_dump_json(), encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *launcher, "-m", __name__, str(told)]
    said: deque[str] = deque(maxlen=60)
    with subprocess.Popen(command, env=fresh_environment(), stderr=subprocess.PIPE, text=True) as launched:  # noqa: S603  # ours
        for line in launched.stderr or ():
            sys.stderr.write(line)
            said.append(line)
    if launched.returncode == 0:
        return TrainingSummary.model_validate_json((folder / _SUMMARY).read_text(encoding="utf-8"))
    last_words, told_failure = "".join(said), folder / _FAILURE
    if told_failure.exists():
        failure = Failure.model_validate_json(told_failure.read_text(encoding="utf-8"))
    else:
        # The kernel ends a process that takes the host's last memory by SIGKILL.
        failure = Failure(message=last_words, out_of_memory=bool(re.search(r"exitcode\s*: -9\b", last_words)))
    kind = OutOfMemoryError if failure.out_of_memory else TrainingError
    raise kind(failure.message, transient=failure.transient)


def main(arguments: Sequence[str]) -> int:
    """One process of the launcher."""
    import torch

    told = Path(arguments[0])
    job = Job.model_validate_json(told.read_text(encoding="utf-8"))
    try:
        with process_group() as rank:
            checkpoints = told.parent / "checkpoints"
            summary = fine_tune(job.base, job.rows, job.out, job.training, heldout=[], checkpoints=checkpoints)
            if rank == 0:
                (told.parent / _SUMMARY).write_text(summary.model_dump_json(), encoding="utf-8")
    except (FlyteLlamaError, torch.OutOfMemoryError) as error:
        failure = Failure(
            message=str(error),
            transient=getattr(error, "transient", False),
            out_of_memory=isinstance(error, OutOfMemoryError | torch.OutOfMemoryError),
        )
        (told.parent / _FAILURE).write_text(failure.model_dump_json(), encoding="utf-8")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
