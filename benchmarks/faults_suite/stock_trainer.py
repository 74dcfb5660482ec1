"""The stock recipe: transformers' Trainer on the packed rows of a run, with `resume_from_checkpoint=True`.

    stock_trainer.py BASE ROWS WORK kill          train, and die by SIGKILL in the middle
    stock_trainer.py BASE ROWS WORK FAULTS_JSON   for each fault: damage a copy of what `kill` left, and resume

Adds a line of JSON for each to WORK/results.jsonl: the fault, and the digest of the weights or the error.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from flyte_llama.encoding import open_rows

STEPS, SAVE_EVERY, KILL_AFTER = 80, 20, 63


class Rows(torch.utils.data.Dataset):
    """Packed rows as the Trainer wants them."""

    def __init__(self, folder: Path, num_rows: int | None = None) -> None:
        self.rows = open_rows(folder)[0]
        self.num_rows = num_rows or len(self.rows)

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = self.rows[index]
        ids = torch.as_tensor(row["input_ids"])
        return {"input_ids": ids, "labels": ids.clone()}


class Kill(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == KILL_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)


def train(base: Path, rows: Path, out: Path, *, resume: bool, kill: bool = False, **changes: Any) -> str:
    """Train, and return the sha256 of the weights."""
    num_rows = changes.pop("num_rows", None)
    settings: dict[str, Any] = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 3,
        "save_steps": SAVE_EVERY,
        "save_total_limit": 2,
        "seed": 0,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    model = AutoModelForCausalLM.from_pretrained(base)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(out), **settings | changes),
        train_dataset=Rows(rows, num_rows),
        callbacks=[Kill()] if kill else [],
    )
    trainer.train(resume_from_checkpoint=resume)
    digest = hashlib.sha256()
    for name, weights in sorted(model.state_dict().items()):
        digest.update(name.encode() + weights.numpy().tobytes())
    return digest.hexdigest()


def damage(folder: Path, fault: dict[str, Any]) -> dict[str, Any]:
    """Apply a fault to the checkpoints, and return the changes of the settings that it asks for."""
    from faults_suite.checkpoints import damage_file

    newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    if fault.get("file"):
        damage_file(newest / fault["file"], fault["change"])
    elif fault["change"] == "empty":
        (folder / "checkpoint-99").mkdir()
    elif fault["change"] == "all":
        for checkpoint in folder.glob("checkpoint-*"):
            damage_file(checkpoint / "model.safetensors", "cut")
    return dict(fault.get("settings", {}))


def main() -> None:
    base, rows, work = map(Path, sys.argv[1:4])
    if sys.argv[4] == "kill":
        train(base, rows, work / "killed", resume=False, kill=True)
        return
    for fault in json.loads(sys.argv[4]):
        out = work / "resumed"
        shutil.rmtree(out, ignore_errors=True)
        result = dict(fault)
        try:
            if fault["change"] == "undisturbed":
                result["weights"] = train(base, rows, out, resume=False)
            else:
                shutil.copytree(work / "killed", out)
                result["weights"] = train(base, rows, out, resume=True, **damage(out, fault))
        except Exception as error:
            result["error"] = f"{type(error).__name__}: {error}"
        with (work / "results.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
