"""The folders that tasks exchange: made empty, sealed, handed to Flyte, and verified before they are read.

A local run keeps them in the user's output folder, see `workspace`: a step writes to `work`, and its finished folder is
moved to `data/NAME-HASH`. In a pod Flyte stores them in its bucket, and FLYTE_LLAMA_CACHE names the bucket of the
filter results of each source.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import flytekit
from flytekit import FlyteDirectory, HashMethod
from flytekit.exceptions.user import FlyteDataNotFoundException, FlyteRecoverableException

from flyte_llama.errors import DataError, FlyteLlamaError
from flyte_llama.progress import say
from flyte_llama.storage import MANIFEST, content_digest, read_manifest, seal, verify
from flyte_llama.tasks.bucket import (
    BUCKET_ERRORS,
    download_file,
    download_folder,
    list_names,
    upload_folder,
)
from flyte_llama.tasks.cache import CACHE, MadeBy, note_damage
from flyte_llama.tasks.resources import SETTINGS
from flyte_llama.workspace import keep_folder


def download(folder: FlyteDirectory, *, made_by: MadeBy = "data") -> Path:
    """Download a folder, verify every file of it, and return its local path.

    Args:
        made_by: The steps that made it; on a cluster they run again if the folder is damaged.

    Raises:
        DataError: if it is gone, or is not as it was sealed; transient if the storage did not answer.
    """
    uri = str(folder.remote_source or folder.path)
    try:
        path = Path(folder.download())
        verify(path, strict=True)
    except (DataError, FlyteDataNotFoundException) as error:
        if output_folder_of(folder) is not None:
            raise DataError(f"{error} The same command makes it again.") from None
        raise DataError(f"{uri}: {error} {note_damage(uri, made_by)}") from None
    except BUCKET_ERRORS as error:
        # The storage did not answer, or the disk is full. The folder may be whole.
        raise DataError(f"{uri}: could not be downloaded ({error}).", transient=True) from None
    return path


def download_given(folder: FlyteDirectory) -> Path:
    """Download a folder that the user gives, which has no manifest, and return its local path.

    Raises:
        DataError: if there is none; transient if the storage did not answer.
    """
    try:
        return Path(folder.download())
    except FlyteDataNotFoundException:
        raise DataError(f"{folder.remote_source or folder.path}: does not exist. Give another folder.") from None
    except BUCKET_ERRORS as error:
        raise DataError(f"{folder.remote_source}: could not be downloaded ({error}).", transient=True) from None


def upload(folder: Path, *, made_from: FlyteDirectory | None = None) -> FlyteDirectory:
    """Seal a folder made by `new_folder`, unless it is sealed, and wrap it as the output of a task.

    On a cluster Flyte uploads it to its storage. A local run moves it to `output/data/NAME-HASH`.

    Args:
        made_from: An input of the task, needed only in a process spawned by Elastic, where Flyte does not report
            whether the run is local. If the input is in the output folder of a local run, the result goes there too.
    """
    output = output_folder_of(made_from)
    if output is not None:
        return FlyteDirectory(str(keep_folder(folder, output)), remote_directory=False)
    if not (folder / MANIFEST).is_file():
        seal(folder)
    return FlyteDirectory(str(folder))


def keep_apart(folder: Path, *, made_from: FlyteDirectory) -> str:
    """Put a sealed folder where it survives without being a result of the task, and return its path or URI.

    A local run moves it to `output/data/NAME-HASH`. A pod uploads it to the bucket, below the attempt's raw output.

    Args:
        made_from: As for `upload`.
    """
    output = output_folder_of(made_from)
    if output is not None:
        return str(keep_folder(folder, output))
    access = flytekit.FlyteContextManager.current_context().file_access
    try:
        return str(access.put_raw_data(str(folder), upload_prefix="")).rstrip("/")
    except BUCKET_ERRORS as error:
        say(f"{folder}: could not be uploaded, so it is lost with this pod: {error}")
        return str(folder)


def new_folder(name: str, *, made_from: FlyteDirectory | None = None) -> Path:
    """Make an empty folder for this task; `upload` explains `made_from`.

    In a local run, all tasks share one working directory, so its name ends in random characters.
    """
    output = output_folder_of(made_from)
    parent = output / "work" if output else Path(flytekit.current_context().working_directory)
    folder = parent / f"{name}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    return folder


def stored_folders(name: str, *, made_from: FlyteDirectory) -> list[Path]:
    """The folders `NAME-HASH` that this step of local runs has made so far, newest first; none in a pod."""
    output = output_folder_of(made_from)
    if output is None:
        return []
    folders = [path for path in (output / "data").glob(f"{name}-*") if path.suffix != ".damaged"]
    return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)


def output_folder_of(made_from: FlyteDirectory | None) -> Path | None:
    """The output folder if the run is local, otherwise None; `upload` explains `made_from`."""
    if made_from is not None and Path(made_from.path).parent == _output() / "data":
        return _output()
    return local_output()


def attempt_folders(rows: FlyteDirectory) -> tuple[str, str | None] | None:
    """The folder that Flyte gives this attempt, and that of the previous one; None in a local run."""
    try:
        store: Any = flytekit.current_context().checkpoint
    except NotImplementedError:
        return None
    if store is None or output_folder_of(rows) is not None:
        return None
    previous = store._checkpoint_src
    return str(store._checkpoint_dest).rstrip("/"), str(previous).rstrip("/") if previous else None


@contextmanager
def retry_network_errors() -> Iterator[None]:
    """Turn transient errors, of the network for example, into errors that Flyte retries. Other errors fail the task."""
    try:
        yield
    except FlyteLlamaError as error:
        if error.transient and local_output() is None:
            raise FlyteRecoverableException(error.message) from None
        raise


@contextmanager
def open_cache_folder(name: str) -> Iterator[Path | None]:
    """A folder with the files that an earlier run stored under this name; the task updates it for the next run.

    In a local run it is in the output folder. In a pod it is downloaded from FLYTE_LLAMA_CACHE and uploaded at the end;
    None if that variable is not set, or if its bucket cannot be read: the task then works without a cache.
    """
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    output = local_output()
    if output is not None or SETTINGS.cache is None:
        yield output / "cache" / digest if output else None
        return
    # No failure of the bucket is an error of the task, which only loses the cached work.
    folder, remote = new_folder("cache"), f"{SETTINGS.cache.rstrip('/')}/{digest}"

    def read() -> None:
        if list_names(remote):
            download_folder(remote, folder)

    is_read = _goes_well(read, "read, so this run")
    yield folder if is_read else None
    if is_read:
        _goes_well(lambda: upload_folder(folder, remote), "written, so the next run")


def _goes_well(work: Callable[[], object], what: str) -> bool:
    """Call `work`, and say in one line if it fails."""
    try:
        work()
    except Exception as error:  # each store's client raises its own classes
        reason = " ".join(str(error).split()) or type(error).__name__
        say(f"FLYTE_LLAMA_CACHE = {SETTINGS.cache}: cannot be {what} works without this cache: {reason[:500]}")
        return False
    return True


def newest_if_cached(folders: Iterable[FlyteDirectory], *, started: datetime) -> datetime | None:
    """When the newest of these folders was made, if all of them come from the cache.

    None if this run made one of them, or if the storage does not say when one was made.

    Args:
        started: When this run started; what is older was not made by it.
    """
    access, newest = flytekit.FlyteContextManager.current_context().file_access, None
    for folder in folders:
        manifest = f"{str(folder.remote_source or folder.path).rstrip('/')}/{MANIFEST}"
        try:
            modified = access.get_filesystem_for_path(manifest).modified(manifest)
        except Exception as error:  # raised by the storage's client
            say(f"{manifest}: its time is not known, so neither is whether this run made it: {error}")
            return None
        modified = modified if modified.tzinfo else modified.replace(tzinfo=UTC)
        # A local step that makes the same folder again keeps the old one, so its time is not enough.
        if modified >= started or Path(folder.path).name in CACHE.made:
            return None
        newest = max(newest or modified, modified)
    return newest


def local_output() -> Path | None:
    """The user's output folder in a local run; None in a pod."""
    state = flytekit.FlyteContextManager.current_context().execution_state
    return _output() if state is not None and state.is_local_execution() else None


def fetch_manifest(folder: FlyteDirectory) -> FlyteDirectory:
    """Download a folder's manifest alone, and return the folder: it can now be an output with a content hash.

    Without a manifest the folder is gone or damaged; the task that reads it says so.
    """
    if folder.remote_source is None:
        return folder
    uri = str(folder.remote_source).rstrip("/")
    Path(folder.path).mkdir(parents=True, exist_ok=True)
    try:
        download_file(f"{uri}/{MANIFEST}", Path(folder.path) / MANIFEST)
    except FlyteDataNotFoundException:
        pass
    except BUCKET_ERRORS as error:
        raise DataError(f"{uri}/{MANIFEST}: could not be downloaded ({error}).", transient=True) from None
    return folder


def content_hash(folder: FlyteDirectory) -> str:
    """The hash of a sealed folder, by its manifest. Downstream caches use it as key, so equal content is a cache hit.

    The address of the folder if its manifest is gone or damaged.
    """
    try:
        return content_digest(read_manifest(Path(folder.path)))
    except DataError:
        return str(folder.remote_source or folder.path)


Folder = Annotated[FlyteDirectory, HashMethod(content_hash)]
"""The output type of a task that writes a folder."""


def _output() -> Path:
    return SETTINGS.output_folder
