"""The folder of a training task's checkpoints, and their transfer from one attempt to the next.

A local run keeps them in the output folder, in a subfolder named after the content of its base model and rows. So the
same command, typed again, resumes from them. A command that changes the learning rate, say, is refused with a message
that names the change, since starting again from step 0 would silently discard the earlier work. A run on new data gets
a new folder. Checkpoints are removed when the model is complete.

In a pod, Flyte gives each attempt a folder in the bucket, and access to the folder of the previous attempt, but to no
earlier one. So the attempt first copies the previous checkpoints to its folder, then trains. An incomplete upload is
recognised: its seal is missing or does not match. Training waits for each upload: one in the background would have to
finish when the pod is taken away, in the little time left then.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import flytekit
from flytekit import FlyteDirectory
from flytekit.exceptions.base import FlyteException
from flytekit.exceptions.user import FlyteDataNotFoundException

from flyte_llama.progress import say
from flyte_llama.tasks.folders import output_folder_of
from flyte_llama.training.node_checkpoints import Upload

TRIES = 3
SECONDS_BETWEEN_TRIES = 5.0


def checkpoint_folder(base: FlyteDirectory, rows: FlyteDirectory) -> Path:
    """The folder where a training run on these inputs finds its earlier checkpoints and writes new ones.

    In a pod, this downloads the checkpoints of the previous attempt: call it in one process per node.
    """
    output = output_folder_of(rows)
    if output is not None:
        return output / "checkpoints" / f"{Path(base.path).name}-{Path(rows.path).name}"
    # In the folder of the launcher: processes that it starts again find what the first ones left there.
    folder = Path(tempfile.gettempdir()) / "checkpoints"
    if not folder.is_dir():
        folder.mkdir()
        _restore(folder)
    return folder


def checkpoint_uploader(rows: FlyteDirectory) -> Upload | None:
    """The function that uploads sealed checkpoints for the next attempt; None in a local run, which needs no upload."""
    return None if output_folder_of(rows) is not None or _store() is None else upload_checkpoint


def upload_checkpoint(checkpoint: Path) -> None:
    """Upload `…/node-N/step-N`, then remove from the bucket the steps that the local `node-N` folder has removed.

    If the bucket cannot be written, training continues with a message, and the next checkpoint is uploaded again.
    """
    store = _store()
    if store is None:
        return
    access = flytekit.FlyteContextManager.current_context().file_access
    node_folder, remote = checkpoint.parent, f"{store._checkpoint_dest.rstrip('/')}/{checkpoint.parent.name}"
    try:
        access.put_data(str(checkpoint), f"{remote}/{checkpoint.name}", is_multipart=True)
        files = access.get_filesystem_for_path(remote)
        for path in files.ls(remote, detail=False):
            name = str(path).rstrip("/").rsplit("/", 1)[-1]
            if re.fullmatch(r"step-\d+", name) and not (node_folder / name).is_dir():
                files.rm(path, recursive=True)
    except (FlyteException, OSError) as error:
        say(f"{remote}: {checkpoint.name} could not be uploaded for a later attempt; training continues: {error}")


def _restore(folder: Path) -> None:
    """Download the checkpoints of the previous attempt, if there was one and it uploaded any."""
    store = _store()
    if store is None or not store.prev_exists():
        return
    for attempt in range(1, TRIES + 1):
        try:
            store.restore(folder)
            return
        except FlyteDataNotFoundException:
            say("the previous attempt left no checkpoint, so training starts at step 0")
            return
        except (FlyteException, OSError) as error:
            say(f"the checkpoints of the previous attempt could not be downloaded, try {attempt} of {TRIES}: {error}")
            shutil.rmtree(folder)
            folder.mkdir()
            time.sleep(SECONDS_BETWEEN_TRIES)
    # Failing would not help: the next attempt reads the folder of this one, which is empty.
    say("training starts at step 0")


def _store() -> Any:
    """Flyte's checkpoint storage for this attempt, or None if Flyte provides none."""
    try:
        return flytekit.current_context().checkpoint
    except NotImplementedError:
        return None
