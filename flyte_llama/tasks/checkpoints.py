"""Where the checkpoints of a training task lie, and how they come from one attempt of it to the next.

A local run keeps them in the output folder, named by the content of its base model and rows. So the same command typed
again goes on with them; one with another learning rate, say, is refused and told what changed, for to begin anew
without a word would throw away what the first has cost; and one on new data has a folder of its own. They go when the
model is there.

In a pod Flyte gives each attempt a place in the bucket, and shows it that of the attempt before, no older one: so what
is found is carried on into the own place before training starts. What is half uploaded is found out by its seal.
Uploads are waited for: one in the background would have to be waited for when the pod is taken away, which is when
time is short.
"""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import flytekit
from flytekit import FlyteDirectory
from flytekit.exceptions.base import FlyteException
from flytekit.exceptions.user import FlyteDataNotFoundException

from flyte_llama.progress import say
from flyte_llama.tasks.resources import new_folder, output_of
from flyte_llama.training.saving import Carry

TRIES = 3
SECONDS_BETWEEN_TRIES = 5.0


def checkpoint_folder(base: FlyteDirectory, rows: FlyteDirectory) -> Path:
    """The folder in which a training on these inputs finds earlier checkpoints of it and leaves its own.

    In a pod, this brings those of the attempt before; call it in one process of each node.
    """
    output = output_of(rows)
    if output is not None:
        return output / "checkpoints" / f"{Path(base.path).name}-{Path(rows.path).name}"
    folder = new_folder("checkpoints")
    _restore(folder)
    return folder


def carrier(rows: FlyteDirectory) -> Carry | None:
    """What takes sealed checkpoints to where the next attempt will look; None in a local run, which leaves them."""
    return None if output_of(rows) is not None or _store() is None else carry


def carry(checkpoint: Path) -> None:
    """Upload `…/node-N/step-N`, then remove from the bucket those that are no longer beside it.

    A bucket that cannot be written is said and costs no training: the next checkpoint is tried again.
    """
    store = _store()
    if store is None:
        return
    access = flytekit.FlyteContextManager.current_context().file_access
    beside, remote = checkpoint.parent, f"{store._checkpoint_dest.rstrip('/')}/{checkpoint.parent.name}"
    try:
        access.put_data(str(checkpoint), f"{remote}/{checkpoint.name}", is_multipart=True)
        files = access.get_filesystem_for_path(remote)
        for found in files.ls(remote, detail=False):
            name = str(found).rstrip("/").rsplit("/", 1)[-1]
            if re.fullmatch(r"step-\d+", name) and not (beside / name).is_dir():
                files.rm(found, recursive=True)
    except (FlyteException, OSError) as error:
        say(f"{remote}: {checkpoint.name} could not be kept there for a next attempt, and training goes on: {error}")


def _restore(folder: Path) -> None:
    """Bring the checkpoints of the attempt before, if there was one and it left any."""
    store = _store()
    if store is None or not store.prev_exists():
        return
    for attempt in range(1, TRIES + 1):
        try:
            store.restore(folder)
            return
        except FlyteDataNotFoundException:
            say("the attempt before this one left no checkpoint, so training starts at step 0")
            return
        except (FlyteException, OSError) as error:
            say(f"the checkpoints of the attempt before could not be fetched, try {attempt} of {TRIES}: {error}")
            shutil.rmtree(folder)
            folder.mkdir()
            time.sleep(SECONDS_BETWEEN_TRIES)
    # A further attempt would look in this one's place, which is empty, so there is nothing to be won by failing.
    say("training starts at step 0")


def _store() -> Any:
    """Flyte's place for checkpoints; None where Flyte gives none."""
    try:
        return flytekit.current_context().checkpoint
    except NotImplementedError:
        return None
