"""Launches `story.py`, which trains a tiny Llama in separate processes, and reads its results.

Also gives the rows, the environment and the time limit of every launch in these tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flyte_llama.config import ObjectiveConfig
from flyte_llama.encoding import VALIDATION_TABLE, DocumentTokenizer, write_validation
from flyte_llama.encoding.objectives import clm
from flyte_llama.encoding.packing import pack
from flyte_llama.encoding.pieces import KeyedText
from flyte_llama.storage import verify
from flyte_llama.training import TrainingSummary
from tests.conftest import TEXTS, write_rows

TIMEOUT_S = 900
"""Ends a launch that hangs. A process that waits for another in vain does so for two hours (`processes`)."""

STORY = Path(__file__).with_name("story.py")
# Dropout and accumulation, so that a resumed run must restore both. The second epoch begins at step 7.
SETTINGS: dict[str, Any] = {
    "method": "lora",
    "lora": {"rank": 4, "dropout": 0.1},
    "seq_len": 64,
    "max_steps": 8,
    "learning_rate": 1e-2,
    "warmup_share": 0.0,
    "global_batch_size": 4,
    "micro_batch_size": 1,
    "precision": "fp32",
    "activation_checkpointing": False,
    "log_every_steps": 2,
    "checkpoint_every_steps": 2,
    "deepspeed": {"zero_stage": 2},
}


def write_packed_rows(
    base: Path, folder: Path, texts: Sequence[str] = tuple(TEXTS * 10), *, validation: Sequence[str] = ()
) -> Path:
    tokenizer = DocumentTokenizer(base)
    pieces = [clm(ids, seq_len=64) for ids in map(tokenizer.add_bos_eos, tokenizer.encode(texts))]
    tables = {}
    if validation:
        keyed = [KeyedText(str(index), text) for index, text in enumerate(validation)]
        tables[VALIDATION_TABLE] = write_validation(folder, keyed, ObjectiveConfig(kind="clm"), tokenizer, seq_len=64)
    packed = [pack(pieces, seq_len=64, pad_id=tokenizer.eos_id)]
    write_rows(folder, packed, seq_len=64, objective="clm", other_tables=tables)
    return folder


def launch_runs(
    base: Path, rows: Path, runs: Sequence[dict[str, Any]], *, processes: int = 1
) -> subprocess.CompletedProcess[str]:
    """Train the runs one after the other in one launch. `checkpoints` is a folder next to `out` by default."""
    command = _command(["--standalone", "--nproc_per_node", str(processes)], base, rows, runs)
    return subprocess.run(command, capture_output=True, text=True, env=launch_environment(), timeout=TIMEOUT_S)


def launch_runs_on_two_nodes(base: Path, rows: Path, runs: Sequence[dict[str, Any]]) -> str:
    """Train the runs with two launchers that act as two nodes of one process each, and return both their output."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    node_options = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "localhost", "--master_port", str(port)]
    pipe, environment = subprocess.PIPE, launch_environment()
    launchers = [
        subprocess.Popen(
            _command([*node_options, "--node_rank", node_rank], base, rows, runs),
            stdout=pipe,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        for node_rank in ("0", "1")
    ]
    try:
        output = "".join(launcher.communicate(timeout=TIMEOUT_S)[0].decode() for launcher in launchers)
    finally:
        for launcher in launchers:
            launcher.kill()
    assert [launcher.returncode for launcher in launchers] == [0, 0], output[-3000:]
    return output


def _command(options: Sequence[str], base: Path, rows: Path, runs: Sequence[dict[str, Any]]) -> list[str]:
    with_paths = [
        {**run, "out": str(run["out"]), "checkpoints": str(run.get("checkpoints", f"{run['out']}-checkpoints"))}
        for run in runs
    ]
    launcher = [sys.executable, "-m", "torch.distributed.run", *options]
    return [*launcher, str(STORY), str(base), str(rows), json.dumps(with_paths)]


def launch_environment() -> dict[str, str]:
    """One thread per process, as a launcher sets it."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def digest(out: Path) -> str:
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def summary(out: Path) -> TrainingSummary:
    """The summary in the manifest of a model's folder."""
    return TrainingSummary.model_validate(verify(out, strict=True)["summary"])
