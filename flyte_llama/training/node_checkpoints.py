"""Checkpoints of a run on several nodes, written and looked up by all its processes together.

Each node has a separate disk, where its first process seals the files written by all processes of the node. The run
resumes from the newest step that is whole on every node. The Trainer, not this module, writes a checkpoint's content.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import TrainingError
from flyte_llama.progress import say
from flyte_llama.training.checkpoints import Checkpoints, read_fingerprint, run_fingerprint
from flyte_llama.training.failures import is_disk_error
from flyte_llama.training.metrics import METRICS, Curve
from flyte_llama.training.processes import barrier, is_first_of_node, node_rank, on_each_node, on_first_rank

Upload = Callable[[Path], None]
"""Called with the folder of a sealed checkpoint, `…/node-N/step-N`; uploads it to where the next attempt will look."""


class NodeCheckpoints:
    """The checkpoints of all nodes. All processes must call every method, and an error in one is raised in all.

    `last` is the step of the newest checkpoint known to be whole, or None.
    """

    def __init__(
        self, checkpoints: Checkpoints, curve: Curve, upload: Upload | None, *, keep_best: bool = False
    ) -> None:
        """Refer to the checkpoints; nothing is read or written yet.

        Args:
            keep_best: Keep the checkpoint of the step with the lowest validation loss too, however old it is.
        """
        self._checkpoints = checkpoints
        self._curve = curve
        self._upload = upload
        self._keep_best = keep_best
        self.last: int | None = None

    def unsealed_folder(self, step: int) -> Path:
        """Where the Trainer writes the checkpoint of a step."""
        return self._checkpoints.unsealed_folder(step)

    def resume(self) -> Path | None:
        """Return the newest checkpoint that is whole on every node, or None to start from scratch.

        Damaged checkpoints are set aside, later ones are removed, and the curve continues from the returned one.

        Raises:
            TrainingError: if the checkpoint belongs to another run.
        """
        on_each_node(self._checkpoints.prepare)
        # Each round asks every node for its newest whole step. While they differ, the oldest of the answers becomes the
        # limit of the next round, until all agree or a node has none.
        at_most: int | None = None
        while True:
            limit = at_most
            newest = on_each_node(lambda: self._checkpoints.newest(at_most=limit))  # noqa: B023  # called at once
            if None in newest:
                on_each_node(self._report_if_all_damaged)
                return self._resume_after(None)
            steps = [step for step in newest if step is not None]
            if min(steps) == max(steps):
                return self._resume_after(steps[0])
            at_most = min(steps)

    def check_room(self, expected_bytes: int, *, count: int) -> None:
        """Check that the disk of every node has room for `count` more checkpoints."""
        on_each_node(lambda: self._checkpoints.check_room(expected_bytes, count=count))

    def write(self, step: int, save: Callable[[], None], *, expected_bytes: int) -> None:
        """Let all processes `save` into `unsealed`, then seal the checkpoint and upload it.

        Raises:
            TrainingError: naming the folder, if it cannot be written; earlier checkpoints are untouched.
        """
        if step == self.last:
            return
        self.check_room(expected_bytes, count=1)
        try:
            save()
        except Exception as error:
            if not is_disk_error(error):
                raise
            raise self._write_error(step, error) from error
        barrier()  # every process writes some of the files
        on_each_node(lambda: self._seal(step))
        self.last = step

    @property
    def best(self) -> int | None:
        """The step with the lowest validation loss, if that is kept; None before the first."""
        point = self._curve.best
        return point.step if point is not None and self._keep_best else None

    def is_best(self, validation_loss: float) -> bool:
        """Whether the best step is kept, and this loss is below those of all steps so far."""
        losses = [point.validation_loss for point in self._curve.points if point.validation_loss is not None]
        return self._keep_best and all(validation_loss < loss for loss in losses)

    def is_whole(self, step: int) -> bool:
        """Whether the checkpoint of this step is whole on every node."""
        return set(on_each_node(lambda: self._checkpoints.newest(at_most=step))) == {step}

    def sealed_folder(self, step: int) -> Path:
        """The folder of this step's checkpoint on this node."""
        return self._checkpoints.sealed_folder(step)

    def last_checkpoint_text(self) -> str:
        """Where the last checkpoint is, as a sentence for a message."""
        if self.last is None:
            return "There is no checkpoint yet."
        return f"The last checkpoint is from step {self.last}: {self._checkpoints.sealed_folder(self.last)}."

    def _resume_after(self, step: int | None) -> Path | None:
        """Drop everything after `step` on every node and continue its curve; None means to start from scratch."""
        on_each_node(lambda: self._checkpoints.remove_after(step))
        self.last = step
        if step is None:
            self._curve.start()
            return None
        checkpoint = self._checkpoints.sealed_folder(step)
        self._curve.resume_from(checkpoint)
        # The next attempt can read the folder of this one alone, so upload all that it will need.
        kept = [each for each in (self.best, step) if each is not None and self.sealed_folder(each).is_dir()]
        on_each_node(lambda: [self._upload(self.sealed_folder(each)) for each in dict.fromkeys(kept) if self._upload])
        return checkpoint

    def _seal(self, step: int) -> None:
        try:
            self._curve.copy_into(self._checkpoints.unsealed_folder(step))
            checkpoint = self._checkpoints.seal(step, best=self.best)
        except OSError as error:
            raise self._write_error(step, error) from error
        if self._upload:
            self._upload(checkpoint)

    def _write_error(self, step: int, error: Exception) -> TrainingError:
        return TrainingError(
            f"{self._checkpoints.unsealed_folder(step)}: the checkpoint of step {step} could not be written: "
            f"{error or type(error).__name__}. {self.last_checkpoint_text()} "
            "Check whether the disk is full, and start again: the run resumes from there."
        )

    def _report_if_all_damaged(self) -> None:
        if any(path.name.endswith(".damaged") for path in self._checkpoints.folder.iterdir()):
            say(f"{self._checkpoints.folder}: no checkpoint is whole, so the run starts again at step 0")


def node_folder(folder: Path) -> Path:
    """The folder of this node's checkpoints, inside the folder of the run's checkpoints."""
    return folder / f"node-{node_rank()}"


def group_fingerprint(base: Path, rows_folder: Path, training: TrainingConfig) -> dict[str, str]:
    """The fingerprint of a run of these processes, computed once for all of them."""
    import torch

    processes = torch.distributed.get_world_size()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return on_first_rank(lambda: run_fingerprint(base, rows_folder, training, num_processes=processes, device=device))


def remove_checkpoints(folder: Path, made_from: Mapping[str, str]) -> None:
    """Remove the run's checkpoints on every node, once its result is where it survives. All processes must call this.

    Checkpoints of another run, for example with another learning rate on the same rows, stay. If the process is killed
    meanwhile, the next start finds that result, and removes the rest.

    Args:
        made_from: The fingerprint of the run.
    """
    node = node_folder(folder)

    def remove() -> None:
        if all(read_fingerprint(checkpoint) in ({}, made_from) for checkpoint in node.glob("step-*")):
            shutil.rmtree(node, ignore_errors=True)

    on_each_node(remove)
    with contextlib.suppress(OSError):  # on a shared disk, another node's folder may still be in it
        folder.rmdir()


def open_curve(folder: Path) -> Curve:
    """A curve without points; the first process of each node also writes it to a file, from its start on."""
    return Curve(node_folder(folder) / METRICS if is_first_of_node() else None)
