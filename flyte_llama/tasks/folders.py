"""The folders that tasks exchange: downloaded as inputs, made empty, uploaded as outputs, and cached between runs.

A local run keeps them in the user's output folder, which outlives the run:

    output/
      data/NAME-HASH     each task's output, named by its content
      cache/HASH         the filter results of each source, for the next run
      checkpoints/       of an unfinished training run; `tasks.checkpoints` manages it

In a pod Flyte stores the outputs in its bucket, and FLYTE_LLAMA_CACHE names the bucket of the cache.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import flytekit
from flytekit import FlyteDirectory, HashMethod
from flytekit.exceptions.base import FlyteException
from flytekit.exceptions.user import FlyteRecoverableException

from flyte_llama.errors import DataError, FlyteLlamaError
from flyte_llama.progress import say
from flyte_llama.storage import sha256_folder
from flyte_llama.tasks.resources import SETTINGS


def download(folder: FlyteDirectory) -> Path:
    """Download a folder, and return its local path.

    Raises:
        DataError: if it no longer exists, for example because the output folder of a local run was deleted while
            Flyte's local cache still points to it.
    """
    path = Path(folder.download())
    if not path.is_dir():
        raise DataError(
            f"{path}: no longer exists, but Flyte's local cache refers to it. Run pyflyte run --overwrite-cache once."
        )
    return path


def upload(folder: Path, *, made_from: FlyteDirectory | None = None) -> FlyteDirectory:
    """Wrap a folder made by `new_folder` as the output of a task; Flyte uploads it to its storage on a cluster.

    A local run stores it as `output/data/NAME-HASH`, since the working directory is temporary and Flyte's local cache
    would later point to a missing folder.

    Args:
        made_from: An input of the task, needed only in a process spawned by Elastic, where Flyte does not report
            whether the run is local. If the input is in the output folder of a local run, the result goes there too.
    """
    output = output_folder_of(made_from)
    if output is None:
        return FlyteDirectory(str(folder))
    name = f"{folder.name.split('-')[0]}-{sha256_folder(folder)[:12]}"
    return FlyteDirectory(str(folder), remote_directory=str(output / "data" / name))


def new_folder(name: str) -> Path:
    """Make an empty folder for this task.

    In a local run, all tasks share one working directory, so its name ends in random characters.
    """
    working_directory = str(flytekit.current_context().working_directory)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=working_directory))


def output_folder_of(made_from: FlyteDirectory | None) -> Path | None:
    """The output folder if the run is local, otherwise None; `upload` explains `made_from`."""
    if made_from is not None and Path(made_from.path).parent == _output() / "data":
        return _output()
    return local_output()


@contextmanager
def retry_network_errors() -> Iterator[None]:
    """Turn transient errors, of the network for example, into errors that Flyte retries. Other errors fail the task."""
    try:
        yield
    except FlyteLlamaError as error:
        if error.transient and local_output() is None:
            raise FlyteRecoverableException(error.message) from error
        raise


@contextmanager
def open_cache_folder(name: str) -> Iterator[Path | None]:
    """A folder with the files that an earlier run stored under this name; the task updates it for the next run.

    In a local run it is in the output folder. In a pod it is downloaded from FLYTE_LLAMA_CACHE and uploaded at the end;
    None if that variable is not set.
    """
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    output = local_output()
    if output is not None or SETTINGS.cache is None:
        yield output / "cache" / digest if output else None
        return
    access = flytekit.FlyteContextManager.current_context().file_access
    folder, remote = new_folder("cache"), f"{SETTINGS.cache.rstrip('/')}/{digest}"
    if access.exists(remote):
        access.get_data(remote, str(folder), is_multipart=True)
    yield folder
    try:
        access.put_data(str(folder), remote, is_multipart=True)
    except (FlyteException, OSError) as error:
        # Not an error: the task has its result, and the next run only loses the cached work.
        say(f"{SETTINGS.cache}: cannot be written, so the next run starts without this cache: {error}")


def local_output() -> Path | None:
    """The user's output folder in a local run; None in a pod."""
    state = flytekit.FlyteContextManager.current_context().execution_state
    if state is None or not state.is_local_execution():
        return None
    _output().mkdir(parents=True, exist_ok=True)
    return _output()


def content_hash(folder: FlyteDirectory) -> str:
    """The hash of a folder that this task wrote. Downstream caches use it as key, so equal content is a cache hit."""
    return sha256_folder(Path(folder.path))


Folder = Annotated[FlyteDirectory, HashMethod(content_hash)]
"""The output type of a task that writes a folder."""


def _output() -> Path:
    return Path(SETTINGS.output).resolve()
