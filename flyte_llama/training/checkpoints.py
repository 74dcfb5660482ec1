"""Checkpoints on one disk: written aside, sealed, moved into place, and verified before use.

    FOLDER/
      unsealed/           a checkpoint while it is written; never read, and emptied at the next start
      step-150/           sealed: its manifest lists every file with its sha256, and the run's fingerprint
      step-200/
      step-250.damaged/   failed verification; kept for inspection
      metrics.jsonl       the curve of the run, see `metrics`

Whenever a process, the machine or the disk fails, every `step-N` is either whole or recognised as damaged. Only sealed
checkpoints with the fingerprint of this run are ever returned: others would give another result, and DeepSpeed
unpickles files in them. The fingerprint has one field for each thing that decides the weights: rows, base model,
settings, processes, device and packages.

Knows nothing about the content of a checkpoint, or about other processes.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import DataError, TrainingError
from flyte_llama.progress import bytes_text, say
from flyte_llama.storage import MANIFEST, seal, sha256_file, sha256_folder, sync_to_disk, verify
from flyte_llama.workspace import lock_folder

UNSEALED = "unsealed"
VERSION = "5"
"""Version of the training code; raise it when the same inputs give another model. Flyte's cache has it as key too."""

# Settings that do not change the weights, so the fingerprint leaves them out.
_WITHOUT_EFFECT = ("checkpoint_every_steps", "keep_checkpoints", "log_every_steps", "report_to")
# Packages that may change the weights, so the fingerprint has their versions.
_PACKAGES = ("torch", "transformers", "deepspeed", "peft")
_SECONDS_BETWEEN_TRIES = 0.5
_STEP_FOLDER = re.compile(r"step-(\d+)")


class Checkpoints:
    """The checkpoints of one run in `folder`. One process at a time may use them, and must call `prepare` first."""

    def __init__(self, folder: Path, *, made_from: Mapping[str, str], keep: int) -> None:
        """Refer to the checkpoints in `folder`; nothing is read or written yet.

        Args:
            made_from: The fingerprint of the run.
            keep: Number of newest checkpoints that `seal` leaves; at least 1.
        """
        self.folder = folder
        self.unsealed = folder / UNSEALED
        self.chosen: dict[str, Any] = {}
        """What the run took for `auto`; sealed with each checkpoint, so that a resumed run can keep it."""
        self.run_id: str | None = None
        """The run of this training in trackers; sealed with each checkpoint, so that a resumed run goes on with it."""
        self._made_from = dict(made_from)
        self._keep = keep

    def prepare(self, *, patience_s: float = 60.0) -> None:
        """Create the folder, lock it, and empty `unsealed` of anything that an interrupted process left there.

        Args:
            patience_s: How long to wait for another process that has the folder: after a kill of its launcher, the
                process of an earlier start may still be sealing a checkpoint.

        Raises:
            DataError: if another process still has the folder then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock(patience_s)
        self.unsealed.mkdir(exist_ok=True)
        leftovers = [path.name for path in self.unsealed.iterdir()]
        if leftovers:
            say(f"{self.unsealed}: removed {', '.join(sorted(leftovers))}, which an interrupted run left unfinished")
        shutil.rmtree(self.unsealed)
        self.unsealed.mkdir()

    def newest(self, *, at_most: int | None = None) -> int | None:
        """Step of the newest whole checkpoint, or None. Damaged ones are renamed to `step-N.damaged` and reported.

        Args:
            at_most: Later steps are skipped.

        Raises:
            TrainingError: listing the differences, if the checkpoint has the fingerprint of another run.
        """
        for step in self.steps():
            if at_most is not None and step > at_most:
                continue
            try:
                manifest = verify(self.sealed_folder(step), strict=True)
            except (DataError, OSError) as error:
                self._set_aside(step, str(error))
                continue
            self._check_made_from(step, manifest.get("made_from"))
            return step
        return None

    def remove_after(self, step: int | None) -> None:
        """Remove the checkpoints after `step`, where the run resumes; None removes them all."""
        for later in self.steps():
            if step is None or later > step:
                self._remove(self.sealed_folder(later))

    def seal(self, step: int, *, best: int | None = None) -> Path:
        """Seal `unsealed/checkpoint-STEP`, move it into place, and remove the oldest checkpoints beyond `keep`.

        Args:
            best: A step whose checkpoint stays, however old it is.
        """
        source, target = self.unsealed_folder(step), self.sealed_folder(step)
        seal(source, step=step, made_from=self._made_from, chosen=self.chosen, run_id=self.run_id)
        if target.exists():
            self._remove(target)
        source.rename(target)
        sync_to_disk(self.folder)
        for old in self.steps()[self._keep :]:
            if old != best:
                self._remove(self.sealed_folder(old))
        return target

    def check_room(self, expected_bytes: int, *, count: int = 1) -> None:
        """Check that the disk has room for `count` more checkpoints, before any of them is written.

        Args:
            expected_bytes: Size of one checkpoint, used until one can be measured.

        Raises:
            TrainingError: with the bytes needed, the bytes available, and the folder.
        """
        steps = self.steps()
        size = self._size(steps[0]) if steps else expected_bytes
        free = shutil.disk_usage(self.folder).free
        if size * count > free:
            what = "a checkpoint" if count == 1 else f"{count} checkpoints"
            last = f"The last one is from step {steps[0]}" if steps else "There is none yet"
            raise TrainingError(
                f"need {bytes_text(size * count)} free for {what} at {self.folder}, {bytes_text(free)} available. "
                f"{last}. Make room, or lower training.keep_checkpoints, and start again."
            )

    def steps(self) -> list[int]:
        """Steps of all checkpoints in place, whole or not, newest first."""
        named = (_STEP_FOLDER.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted((int(match[1]) for match in named if match), reverse=True)

    def sealed_folder(self, step: int) -> Path:
        """The folder of a sealed checkpoint."""
        return self.folder / f"step-{step}"

    def unsealed_folder(self, step: int) -> Path:
        """Where the Trainer writes a checkpoint: its output folder is `unsealed`."""
        return self.unsealed / f"checkpoint-{step}"

    def _lock(self, patience_s: float) -> None:
        end, told = time.monotonic() + patience_s, False
        while True:
            try:
                lock_folder(self.folder, what="Wait until it ends, and start again.")
                return
            except DataError:
                if time.monotonic() >= end:
                    raise
            if not told:
                say(f"{self.folder}: waiting for another process that still uses these checkpoints")
                told = True
            time.sleep(_SECONDS_BETWEEN_TRIES)

    def _check_made_from(self, step: int, made_from: Mapping[str, str] | None) -> None:
        differences = list_changes(made_from or {}, self._made_from)
        if differences:
            head = (
                f"{self.sealed_folder(step)}: this checkpoint belongs to another run. Undo these changes, or remove "
                f"{self.folder} to start from scratch:"
            )
            raise TrainingError("\n  - ".join([head, *differences]))

    def _set_aside(self, step: int, reason: str) -> None:
        aside = self.folder / f"step-{step}.damaged"
        if aside.exists():
            self._remove(aside)
        self.sealed_folder(step).rename(aside)
        say(f"checkpoint step-{step} is damaged and not used; set aside as {aside}. {reason}")

    def _remove(self, path: Path) -> None:
        """Remove a checkpoint. It is moved away first, so that a half-removed one never looks like a damaged one."""
        out_of_place = self.unsealed / f"removed-{path.name}"
        shutil.rmtree(out_of_place, ignore_errors=True)
        path.rename(out_of_place)
        shutil.rmtree(out_of_place)

    def _size(self, step: int) -> int:
        return sum(file.stat().st_size for file in self.sealed_folder(step).rglob("*") if file.is_file())


def run_fingerprint(
    base: Path, rows_folder: Path, training: TrainingConfig, *, num_processes: int, device: str
) -> dict[str, str]:
    """Field → value, as stored in a checkpoint's manifest; a run resumes from a checkpoint only if all fields match.

    Settings that only affect logging, reporting and the keeping of checkpoints are left out. `auto` stays `auto`, so
    that a run can resume on another kind of GPU; a checkpoint's manifest has what it stood for. The digest of the rows'
    manifest stands for the rows, because the manifest contains their sha256; the same goes for a sealed base. The
    number of processes is a field because ZeRO splits its state by it, and each process draws a different dropout.
    """
    settings = training.model_dump(mode="json", exclude=set(_WITHOUT_EFFECT))
    return {
        "training": VERSION,
        "rows": sha256_file(rows_folder / MANIFEST),
        "base": sha256_file(base / MANIFEST) if (base / MANIFEST).is_file() else sha256_folder(base),
        **_flatten("training", settings),
        "processes": str(num_processes),
        "device": device,
        **{package: version(package) for package in _PACKAGES},
    }


def read_fingerprint(folder: Path) -> dict[str, str]:
    """The fingerprint in a sealed folder's manifest, which is not verified; empty if it cannot be read."""
    try:
        return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["made_from"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def read_run_id(checkpoint: Path | None) -> str | None:
    """The run in trackers that a checkpoint, whose manifest is verified, belongs to; None if it has none."""
    if checkpoint is None:
        return None
    run_id: str | None = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8")).get("run_id")
    return run_id


def list_changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """One line `name: old → new` per difference, with digests shortened."""
    nothing = "nothing"
    return [
        f"{name}: {_shorten(old.get(name, nothing))} → {_shorten(new.get(name, nothing))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _flatten(name: str, value: Any) -> dict[str, str]:
    """Nested settings under dotted names, values as JSON: `{"training.lora.rank": "8"}`."""
    if not isinstance(value, dict):
        return {name: json.dumps(value)}
    return {key: text for inner in value for key, text in _flatten(f"{name}.{inner}", value[inner]).items()}


def _shorten(text: str) -> str:
    """The first 12 digits of a sha256; any other text unchanged."""
    return f"{text[:12]}…" if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
