"""Checkpoints as all processes of a run make and find them together.

Each node has a disk of its own, on which its first process seals what the node's processes wrote; they go on from the
newest step that is whole on every node. Does not write a checkpoint's content, which is the Trainer's to do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flyte_llama.errors import TrainingError
from flyte_llama.progress import say
from flyte_llama.training.checkpoints import Checkpoints
from flyte_llama.training.metrics import METRICS, Curve
from flyte_llama.training.processes import all_here, first_of_node, node, on_each_node

Carry = Callable[[Path], None]
"""Given the folder of a sealed checkpoint, `…/node-N/step-N`: takes a copy to where the next attempt will look."""


class SharedCheckpoints:
    """Every method is called by all processes, and an error of one is raised in all.

    `last` is the step of the newest checkpoint known to be whole, or None.
    """

    def __init__(self, checkpoints: Checkpoints, curve: Curve, carry: Carry | None) -> None:
        self._checkpoints = checkpoints
        self._curve = curve
        self._carry = carry
        self.last: int | None = None

    def written(self, step: int) -> Path:
        """Where the Trainer writes the checkpoint of a step."""
        return self._checkpoints.written(step)

    def find(self) -> Path | None:
        """The newest checkpoint that is whole on every node. Later ones are removed, damaged ones set aside.

        Raises:
            TrainingError: if it was made from something else.
        """
        on_each_node(self._checkpoints.prepare)
        at_most: int | None = None
        while True:
            limit = at_most
            found = on_each_node(lambda: self._checkpoints.newest(at_most=limit))  # noqa: B023  # called at once
            if None in found:
                on_each_node(self._say_if_all_were_damaged)
                return self._go_on(None)
            steps = [step for step in found if step is not None]
            if min(steps) == max(steps):
                return self._go_on(steps[0])
            at_most = min(steps)

    def check_room(self, expected_bytes: int, *, count: int) -> None:
        on_each_node(lambda: self._checkpoints.check_room(expected_bytes, count=count))

    def write(self, step: int, save: Callable[[], None], *, expected_bytes: int) -> None:
        """Let all processes `save` into `unsealed`, seal it, and carry a copy away.

        Raises:
            TrainingError: naming the folder, if it cannot be written; earlier checkpoints are as they were.
        """
        if step == self.last:
            return
        self.check_room(expected_bytes, count=1)
        try:
            save()
        except (OSError, RuntimeError) as error:
            raise self._unwritten(step, error) from error
        all_here()  # each writes files of its own
        on_each_node(lambda: self._seal(step))
        self.last = step

    def place(self) -> str:
        """Where the last one is, for a message."""
        if self.last is None:
            return "There is no checkpoint yet."
        return f"The last checkpoint is of step {self.last}, {self._checkpoints.place(self.last)}."

    def _go_on(self, step: int | None) -> Path | None:
        on_each_node(lambda: self._checkpoints.forget_after(step))
        self.last = step
        if step is None:
            return None
        place = self._checkpoints.place(step)
        self._curve.go_on_from(place)
        on_each_node(lambda: self._carry(place) if self._carry else None)
        return place

    def _seal(self, step: int) -> None:
        try:
            self._curve.copy_into(self._checkpoints.written(step))
            place = self._checkpoints.seal(step)
        except OSError as error:
            raise self._unwritten(step, error) from error
        if self._carry:
            self._carry(place)

    def _unwritten(self, step: int, error: Exception) -> TrainingError:
        return TrainingError(
            f"{self._checkpoints.written(step)}: the checkpoint of step {step} could not be written: "
            f"{error or type(error).__name__}. {self.place()} Look whether the disk is full, and start again: "
            "the run goes on from there."
        )

    def _say_if_all_were_damaged(self) -> None:
        if any(path.name.endswith(".damaged") for path in self._checkpoints.folder.iterdir()):
            say(f"{self._checkpoints.folder}: no checkpoint is whole, so the run begins anew at step 0")


def node_folder(folder: Path) -> Path:
    """Where this node's checkpoints lie in the folder of a run's."""
    return folder / f"node-{node()}"


def curve_of(folder: Path) -> Curve:
    """The run's curve; the first process of a node writes its file."""
    return Curve(node_folder(folder) / METRICS if first_of_node() else None)
