"""Checkpoints on one disk: written aside, sealed, moved into place, and verified before use.

    FOLDER/
      unsealed/           what is being written; never read, and removed at the next start
      step-150/           sealed: its manifest names every file with its sha256, and what the run was made from
      step-200/
      step-250.damaged/   set aside under this name, for whoever wants to look
      metrics.jsonl       belongs to the run, see `metrics`

Whatever moment a process, the machine or the disk gives out at, every `step-N` is whole or is found not to be. Only
sealed ones of the same run are ever given out, for what DeepSpeed reads from them is pickled.

Does not know what is in a checkpoint, nor of other processes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from flyte_llama.errors import DataError, TrainingError
from flyte_llama.manifest import seal, synced, verify
from flyte_llama.progress import say
from flyte_llama.training.fingerprint import changes

UNSEALED = "unsealed"
_PLACE = re.compile(r"step-(\d+)")


class Checkpoints:
    """The checkpoints of one run in `folder`; one process at a time works with it, and calls `prepare` first."""

    def __init__(self, folder: Path, *, made_from: Mapping[str, str], keep: int) -> None:
        """
        Args:
            made_from: The fingerprint of the run.
            keep: How many stay; at least 1.
        """
        self.folder = folder
        self.unsealed = folder / UNSEALED
        self._made_from = dict(made_from)
        self._keep = keep

    def prepare(self) -> None:
        """Make the folder, or remove from it what an interrupted process left half written or half removed."""
        self.unsealed.mkdir(parents=True, exist_ok=True)
        left = [path.name for path in self.unsealed.iterdir()]
        if left:
            say(f"{self.unsealed}: {', '.join(sorted(left))} was never finished; removed")
        shutil.rmtree(self.unsealed)
        self.unsealed.mkdir()

    def newest(self, *, at_most: int | None = None) -> int | None:
        """Step of the newest whole checkpoint; each that is not is set aside as `step-N.damaged`, and said.

        Args:
            at_most: Later ones are passed over.

        Raises:
            TrainingError: naming what differs, if the checkpoint was made from something else.
        """
        for step in self.steps():
            if at_most is not None and step > at_most:
                continue
            try:
                manifest = verify(self.place(step), alone=True)
            except (DataError, OSError) as error:
                self._set_aside(step, str(error))
                continue
            self._check_made_from(step, manifest.get("made_from"))
            return step
        return None

    def forget_after(self, step: int | None) -> None:
        """Remove those that came later: the run goes on from `step`, or from the beginning with None."""
        for later in self.steps():
            if step is None or later > step:
                self._remove(self.place(later))

    def seal(self, step: int) -> Path:
        """Seal what lies under `unsealed/checkpoint-STEP`, move it into place, remove those above the number kept."""
        written, place = self.written(step), self.place(step)
        seal(written, step=step, made_from=self._made_from)
        if place.exists():
            self._remove(place)
        written.rename(place)
        synced(self.folder)
        for old in self.steps()[self._keep :]:
            self._remove(self.place(old))
        return place

    def check_room(self, expected_bytes: int, *, count: int = 1) -> None:
        """Look whether there is room for `count` more checkpoints before any is written.

        Args:
            expected_bytes: Size of one, as long as there is none to go by.

        Raises:
            TrainingError: saying how much is needed, how much is there, and where.
        """
        steps = self.steps()
        size = self._size(steps[0]) if steps else expected_bytes
        free = shutil.disk_usage(self.folder).free
        if size * count > free:
            what = "a checkpoint" if count == 1 else f"{count} checkpoints"
            last = f"The last one is of step {steps[0]}" if steps else "There is none yet"
            raise TrainingError(
                f"need {amount(size * count)} free for {what} at {self.folder}, {amount(free)} available. {last}. "
                "Make room, or lower training.keep_checkpoints, and start again."
            )

    def steps(self) -> list[int]:
        """Of all that are in place, newest first, whole or not."""
        named = (_PLACE.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted((int(match[1]) for match in named if match), reverse=True)

    def place(self, step: int) -> Path:
        return self.folder / f"step-{step}"

    def written(self, step: int) -> Path:
        """Where the Trainer, told `unsealed` as its output folder, writes a checkpoint."""
        return self.unsealed / f"checkpoint-{step}"

    def _check_made_from(self, step: int, made_from: Mapping[str, str] | None) -> None:
        differences = changes(made_from or {}, self._made_from)
        if differences:
            raise TrainingError(
                "\n  - ".join(
                    [
                        f"{self.place(step)}: this checkpoint was made from something else. Set back what changed, or "
                        f"remove {self.folder} to begin anew:",
                        *differences,
                    ]
                )
            )

    def _set_aside(self, step: int, reason: str) -> None:
        aside = self.folder / f"step-{step}.damaged"
        if aside.exists():
            self._remove(aside)
        self.place(step).rename(aside)
        say(f"checkpoint step-{step} is damaged and not used; set aside as {aside}. {reason}")

    def _remove(self, path: Path) -> None:
        """Out of its place first, so that no half of it is ever taken for a damaged checkpoint."""
        out_of_place = self.unsealed / f"removed-{path.name}"
        shutil.rmtree(out_of_place, ignore_errors=True)
        path.rename(out_of_place)
        shutil.rmtree(out_of_place)

    def _size(self, step: int) -> int:
        return sum(file.stat().st_size for file in self.place(step).rglob("*") if file.is_file())


def amount(num_bytes: int) -> str:
    """`92 GB`, `1.2 MB`."""
    size, unit = float(num_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if size < 10 and unit != "bytes" else f"{size:.0f} {unit}"
