"""What a run takes for `auto`: chosen once for all its processes, kept by its checkpoints, lowered if it was too much.

    FOLDER/node-0/
      step-150/manifest.json       has the settings that the checkpoint was made with, so a resumed run keeps them
      out-of-memory/failed.json    settings with which a GPU ran out of memory, so the next start takes smaller ones

Memory that runs out in the first steps ends the processes with a `ChoiceTooLarge`, and `launch` starts them once more.
How the fastest settings are found is in `plan.choice`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flyte_llama.config import Frozen, ResolvedTraining, TrainingConfig
from flyte_llama.errors import OutOfMemoryError
from flyte_llama.plan import Choice, Devices, ModelShape, choose_settings
from flyte_llama.plan.choice import choose_smaller, chooses_pair, describe_pair, fits
from flyte_llama.storage import MANIFEST, sync_to_disk
from flyte_llama.training.failures import is_out_of_memory

FIRST_STEPS = 3
"""Optimizer steps of a start in which it may fall back. Later ones need no more memory than these."""

NOTES = "out-of-memory"
"""The folder, beside the checkpoints of a node, that has the settings with which a GPU ran out of memory."""

_FILE = "failed.json"


class ChoiceTooLarge(OutOfMemoryError):  # noqa: N818  # not the end of the run: the next start takes a smaller choice
    """A GPU ran out of memory with settings that the run had chosen. The next start chooses smaller ones."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


class Chosen(Frozen):
    """The settings that can be `auto`, as a run took them."""

    micro_batch_size: int
    activation_checkpointing: bool
    liger: bool


class FailedChoices(Frozen):
    """The choices of a run with which a GPU ran out of memory, the last one last."""

    made_from: dict[str, str]
    """The fingerprint of the run."""

    gpu: str
    failed: list[Chosen]


@dataclass(frozen=True)
class Chooser:
    """Chooses for a run on its devices, in the process that calls it."""

    training: TrainingConfig
    base: Path
    shape: ModelShape | None
    devices: Devices | None
    """None is a CPU."""

    made_from: Mapping[str, str]

    def choose(self, checkpoint: Path | None, failed: Sequence[Chosen]) -> Choice:
        """Return the settings of this start.

        Args:
            checkpoint: The folder that the run resumes from, if any. Its settings are kept if they fit these GPUs and
                did not fail.
            failed: Settings with which a GPU ran out of memory before.
        """
        kept = _read_chosen(checkpoint) if checkpoint is not None else None
        if kept is not None and kept not in failed and self._fits(kept):
            resolved = self._resolve(kept)
            reason = f"keeping {describe_pair(resolved)}, as in the checkpoint" if chooses_pair(self.training) else ""
            return Choice(resolved, reason)
        if failed and self.shape is not None and self.devices is not None:
            smaller = choose_smaller(list(map(self._resolve, failed)), self.shape, self.training, self.devices)
            if smaller is not None:
                return smaller
        return choose_settings(self.shape, self.training, self.devices, model_name=_architecture(self.base))

    def note_failure(
        self,
        error: Exception,
        used: ResolvedTraining,
        *,
        num_steps: int,
        node: Path,
        upload: Callable[[Path], None] | None,
    ) -> OutOfMemoryError | None:
        """Return the error to raise for memory that ran out in this process; None if `error` is another one.

        In the first steps the settings are noted beside the checkpoints, so that the next start takes smaller ones.

        Args:
            num_steps: Optimizer steps that this start has done.
            node: The folder of this node's checkpoints.
            upload: Uploads a folder inside `node` to where the next attempt will look.
        """
        if not is_out_of_memory(error):
            return None
        smaller = None
        if num_steps < FIRST_STEPS and self.shape is not None and self.devices is not None:
            smaller = choose_smaller([used], self.shape, self.training, self.devices)
        sentence = f"{'the GPU' if self.devices else 'this machine'} {_describe(error, used)}"
        if smaller is None or self.devices is None:
            return OutOfMemoryError(f"{sentence} {_advice(used)}")
        failed = [each for each in read_failed(node, self.made_from, self.devices) if each != _chosen(used)]
        noted = FailedChoices(made_from=dict(self.made_from), gpu=self.devices.name, failed=[*failed, _chosen(used)])
        try:
            _write_failed(node, noted)
        except OSError:  # without the note, the next start would fail in the same way
            return OutOfMemoryError(f"{sentence} {_advice(used)}")
        if upload is not None:
            upload(node / NOTES)
        return ChoiceTooLarge(f"{sentence} The next start takes {describe_pair(smaller.training)}.")

    def _fits(self, chosen: Chosen) -> bool:
        if self.shape is None or self.devices is None:
            return True
        return fits(self.shape, self._resolve(chosen), self.devices)

    def _resolve(self, chosen: Chosen) -> ResolvedTraining:
        # A checkpoint may come from a machine that had Liger's kernels.
        liger = chosen.liger and self.devices is not None and self.devices.has_liger
        return self.training.resolved(**chosen.model_dump() | {"liger": liger})


def facts_to_seal(training: ResolvedTraining) -> dict[str, Any]:
    """What a checkpoint's manifest holds about the choice."""
    return _chosen(training).model_dump()


def read_failed(
    node: Path, made_from: Mapping[str, str], devices: Devices | None, upload: Callable[[Path], None] | None = None
) -> list[Chosen]:
    """The settings of this run with which a GPU of the same kind ran out of memory; none if they cannot be read.

    Args:
        upload: Uploads the note again, since the next attempt looks only at what this one uploaded.
    """
    try:
        noted = FailedChoices.model_validate_json((node / NOTES / _FILE).read_bytes())
    except (OSError, ValidationError):
        return []
    if devices is None or (noted.made_from, noted.gpu) != (dict(made_from), devices.name):
        return []
    if upload is not None:
        upload(node / NOTES)
    return noted.failed


def count_failed(notes: Path) -> int:
    """How many choices are noted in a folder of notes; 0 if it cannot be read."""
    try:
        return len(FailedChoices.model_validate_json((notes / _FILE).read_bytes()).failed)
    except (OSError, ValidationError):
        return 0


def _write_failed(node: Path, noted: FailedChoices) -> None:
    """Write the note. Several processes of a node may do so at once, each with the same content."""
    folder = node / NOTES
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{_FILE}.{os.getpid()}"
    aside.write_text(noted.model_dump_json(), encoding="utf-8")
    sync_to_disk(aside)
    aside.rename(folder / _FILE)


def _read_chosen(checkpoint: Path) -> Chosen | None:
    """The settings of a checkpoint, whose manifest is verified."""
    manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    return Chosen.model_validate(manifest["chosen"]) if manifest.get("chosen") else None


def _chosen(training: ResolvedTraining) -> Chosen:
    return Chosen(
        micro_batch_size=training.micro_batch_size,
        activation_checkpointing=training.activation_checkpointing,
        liger=training.liger,
    )


def _architecture(base: Path) -> str:
    """The base's `model_type`, for a sentence."""
    model_type = json.loads((base / "config.json").read_text(encoding="utf-8")).get("model_type")
    return f"model_type {model_type}, or these adapters on it"


def _describe(error: Exception, used: ResolvedTraining) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"ran out of memory with {describe_pair(used)} ({reason})."


def _advice(used: ResolvedTraining) -> str:
    """What to lower, in the words of the configuration."""
    lower = [f"training.micro_batch_size (it was {used.micro_batch_size})"] if used.micro_batch_size > 1 else []
    others = "training.seq_len, or raise training.deepspeed.zero_stage"
    recompute = (
        "" if used.activation_checkpointing else "Set training.activation_checkpointing: true. Otherwise, lower "
    )
    return f"{recompute or 'Lower '}{' or '.join([*lower, others])}."
