"""Trains runs one after the other in one process of a launcher: `story.py BASE ROWS RUNS_JSON`.

A run is `{"out": …, "checkpoints": …, "settings": {…}, "fault": {"kind": …, "step": …, "rank": …}}`; the fault may be
null. Each run writes a model or, if it fails, `error.txt` to `out`, and then the next run starts.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import FlyteLlamaError
from flyte_llama.trackers import Tracking
from flyte_llama.training import fine_tune
from flyte_llama.training.processes import process_group


@contextmanager
def plant(fault: dict[str, Any] | None) -> Iterator[None]:
    """Make a run fail: by SIGTERM, SIGKILL or a NaN loss in the last micro-batch of a step, or, like a full disk, by a
    limit on the size of files."""
    from flyte_llama.training.trainer import PackedTrainer

    compute_loss, limits = PackedTrainer.compute_loss, resource.getrlimit(resource.RLIMIT_FSIZE)

    def faulty(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        loss = compute_loss(trainer, *args, **kwargs)
        last = trainer.accelerator.gradient_state.sync_gradients
        if trainer.state.global_step == fault["step"] - 1 and trainer.args.process_index == fault["rank"] and last:
            if fault["kind"] == "nan":
                return loss * float("nan")
            # Twice, as a pod that is shut down may receive it.
            for _ in range(2):
                os.kill(os.getpid(), getattr(signal, fault["kind"]))
        return loss

    if fault and fault["kind"] == "small files":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["num_bytes"], limits[1]))
    elif fault:
        PackedTrainer.compute_loss = faulty
    try:
        yield
    finally:
        PackedTrainer.compute_loss = compute_loss
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


if __name__ == "__main__":
    base, rows = Path(sys.argv[1]), Path(sys.argv[2])
    with process_group() as rank:
        for run in json.loads(sys.argv[3]):
            out = Path(run["out"])
            out.mkdir(parents=True, exist_ok=True)
            torch.distributed.barrier()
            with plant(run.get("fault")):
                try:
                    training = TrainingConfig(**run["settings"])
                    # It needs no tracker to have a name for them.
                    tracking = Tracking(trackers=[], name="story", tags={}, config={}, folder=out)
                    checkpoints = Path(run["checkpoints"])
                    fine_tune(base, rows, out, training, heldout=[], checkpoints=checkpoints, tracking=tracking)
                except FlyteLlamaError as error:
                    name = "error.txt" if rank == 0 else f"{rank}-error.txt"
                    (out / name).write_text(f"{type(error).__name__}: {error.message}")
