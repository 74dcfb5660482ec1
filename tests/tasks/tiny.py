"""The configuration of a tiny experiment, and a local run of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.conftest import TEXTS, commit_files, git

ROOT = Path(__file__).parents[2]


def code(seed: int) -> str:
    """A function that is like no other."""
    lines = [f"    value = value * {seed + n} + len('{(seed + n) * 7919:x}')\n" for n in range(4)]
    return f"def scale_{seed}(value: float) -> float:\n{''.join(lines)}    return value\n\n\n"


def train_files() -> dict[str, str | bytes]:
    """The files of a repository to train on."""
    texts = [*TEXTS, *map(code, range(1, 400, 10))]
    return {f"src/{n}.py": text for n, text in enumerate(texts)}


def new_repository(folder: Path, files: dict[str, str | bytes]) -> Path:
    """A git repository with one commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    commit_files(folder, files)
    return folder


def write_config(path: Path, sources: dict[str, list[dict[str, object]]], **evaluation: object) -> Path:
    """Write the configuration of a tiny experiment on these sources."""
    config = {
        "corpus": sources,
        "model": {
            "name": "scratch",
            "released": "2023-08-24",
            "scratch": {"vocab_size": 400, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "max_positions": 256},
        },
        "training": {
            "method": "full",
            "seq_len": 64,
            "max_steps": 24,
            "log_every_steps": 1,
            "learning_rate": 0.01,
            "global_batch_size": 2,
            "micro_batch_size": 2,
            "precision": "fp32",
            "activation_checkpointing": False,
        },
        "evaluation": {
            "window": 128,
            "stride": 64,
            "batch_tokens": 1024,
            # Enough general code for its figures; more would only take longer.
            "probe_bytes": 20_000,
            "completion": {"lines": 20, "spans": 5, "max_new_tokens": 16},
            **evaluation,
        },
    }
    path.write_text(yaml.safe_dump(config))
    return path


def run_workflow(config_file: Path, folder: Path) -> str:
    """Run everything by `pyflyte run` in the folder, with a cache in it, and return what it printed."""
    environment = {**os.environ, "HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    pyflyte, file = Path(sys.executable).with_name("pyflyte"), str(ROOT / "flyte_llama/workflows.py")
    command = [pyflyte, "run", file, "train_flyte_llama", "--config", str(config_file)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr
