"""Starts of `story.py`, which trains a tiny Llama in processes of its own, and what a test asks of them."""

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

from flyte_llama.objective import clm
from flyte_llama.packing import pack, write_rows
from flyte_llama.tokens import DocumentTokenizer
from flyte_llama.training import TrainingSummary
from tests.conftest import TEXTS

STORY = Path(__file__).with_name("story.py")
# Dropout and accumulation, so that both have to be gone on with; an order that begins a second epoch at step 7.
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


def packed_rows(base: Path, folder: Path, texts: Sequence[str] = tuple(TEXTS * 10)) -> Path:
    tokenizer = DocumentTokenizer(base)
    pieces = [clm(ids, seq_len=64) for ids in map(tokenizer.framed, tokenizer.encode(texts))]
    write_rows(folder, [pack(pieces, seq_len=64, pad_id=tokenizer.eos_id)], seq_len=64, objective="clm")
    return folder


def tell(
    base: Path, rows: Path, runs: Sequence[dict[str, Any]], *, processes: int = 1
) -> subprocess.CompletedProcess[str]:
    """Train the runs one after the other, in one launch; without `checkpoints` they lie beside `out`."""
    command = _command(["--standalone", "--nproc_per_node", str(processes)], base, rows, runs)
    return subprocess.run(command, capture_output=True, text=True, env=_environment(), timeout=170)


def tell_on_two_nodes(base: Path, rows: Path, runs: Sequence[dict[str, Any]]) -> str:
    """The same by two launchers, each of which takes itself for a node and has one process; what both said."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    place = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "localhost", "--master_port", str(port)]
    pipe, environment = subprocess.PIPE, _environment()
    launchers = [
        subprocess.Popen(
            _command([*place, "--node_rank", number], base, rows, runs),
            stdout=pipe,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        for number in ("0", "1")
    ]
    try:
        said = "".join(launcher.communicate(timeout=170)[0].decode() for launcher in launchers)
    finally:
        for launcher in launchers:
            launcher.kill()
    assert [launcher.returncode for launcher in launchers] == [0, 0], said[-3000:]
    return said


def _command(place: Sequence[str], base: Path, rows: Path, runs: Sequence[dict[str, Any]]) -> list[str]:
    whole = [
        {**run, "out": str(run["out"]), "checkpoints": str(run.get("checkpoints", f"{run['out']}-checkpoints"))}
        for run in runs
    ]
    launcher = [sys.executable, "-m", "torch.distributed.run", *place]
    return [*launcher, str(STORY), str(base), str(rows), json.dumps(whole)]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def digest(out: Path) -> str:
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def summary(out: Path) -> TrainingSummary:
    return TrainingSummary.model_validate_json((out / "summary.json").read_text())
