"""What tasks ask of the cluster: image, CPUs, memory, storage, accelerator, secret; and the folders they exchange."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import flytekit
from flytekit import FlyteDirectory, HashMethod, Resources, Secret
from flytekit.exceptions.base import FlyteException
from flytekit.exceptions.user import FlyteRecoverableException
from flytekit.extras import accelerators

from flyte_llama.errors import DataError, FlyteLlamaError
from flyte_llama.manifest import sha256_folder
from flyte_llama.progress import say
from flyte_llama.settings import read_settings
from flyte_llama.sources import GIT_HOST, GIT_TOKEN

SETTINGS = read_settings()


def _pod(*, cpu: str, memory: str, storage: str, gpus: int = 0) -> dict[str, Any]:
    """Keyword arguments of `@task`. Limits equal requests: a pod that fits where it starts is not evicted later."""
    asked = Resources(cpu=cpu, mem=memory, ephemeral_storage=storage, gpu=str(gpus) if gpus else None)
    pod = {"container_image": SETTINGS.image, "requests": asked, "limits": asked}
    if gpus:
        # Ranks and data loaders exchange tensors in /dev/shm, of which a pod has 64 MB unless it asks for more.
        accelerator = getattr(accelerators, SETTINGS.gpu)
        pod |= {"accelerator": accelerator, "shared_memory": True, "interruptible": True}
    return pod


SMALL = _pod(cpu="1", memory="1Gi", storage="5Gi")
READER = _pod(cpu="2", memory="4Gi", storage="20Gi")
CORPUS = _pod(cpu="4", memory="16Gi", storage="50Gi")
ONE_GPU = _pod(cpu="8", memory="100Gi", storage=SETTINGS.gpu_storage, gpus=1)
UPLOADER = _pod(cpu="2", memory="16Gi", storage=SETTINGS.gpu_storage)
ALL_GPUS = _pod(cpu=SETTINGS.gpu_cpu, memory=SETTINGS.gpu_memory, storage=SETTINGS.gpu_storage, gpus=SETTINGS.gpu_count)

HUB_TOKEN = "HF_TOKEN"  # noqa: S105  # the name of a variable


def _secret(group: str | None, key: str, variable: str) -> list[Secret] | None:
    """`secret_requests` of `@task`; None where no group is named."""
    env = Secret.MountType.ENV_VAR
    return [Secret(group=group, key=key, env_var=variable, mount_requirement=env)] if group else None


HUB_SECRETS = _secret(SETTINGS.secret_group, "hf_token", HUB_TOKEN)
GIT_SECRETS = _secret(SETTINGS.git_secret_group, "git_token", GIT_TOKEN)
GIT_ENVIRONMENT = {GIT_HOST: SETTINGS.git_host}


def content_hash(folder: FlyteDirectory) -> str:
    """Of a folder that this task wrote. Downstream caches go by it, so equal content is never worked on twice."""
    return sha256_folder(Path(folder.path))


Folder = Annotated[FlyteDirectory, HashMethod(content_hash)]


def new_folder(name: str) -> Path:
    """An empty folder of this execution; locally all tasks of a run share one working directory."""
    working_directory = str(flytekit.current_context().working_directory)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=working_directory))


def finished(folder: Path, *, made_from: FlyteDirectory | None = None) -> FlyteDirectory:
    """A folder of `new_folder`, as a task returns it: on a cluster Flyte stores it.

    A local run keeps it as `output/data/NAME-HASH`: the working directory is temporary, and Flyte's local cache
    would point into nothing.

    Args:
        made_from: In a process that Elastic spawned, which Flyte does not tell whether the run is local, an input: if
            it lies in the output folder of a local run, so does what is made from it.
    """
    output = output_of(made_from)
    if output is None:
        return FlyteDirectory(str(folder))
    name = f"{folder.name.split('-')[0]}-{sha256_folder(folder)[:12]}"
    return FlyteDirectory(str(folder), remote_directory=str(output / "data" / name))


def output_of(made_from: FlyteDirectory | None) -> Path | None:
    """The output folder, if the run is local; see `finished` for what `made_from` is."""
    if made_from is not None and Path(made_from.path).parent == _output() / "data":
        return _output()
    return local_output()


def local(folder: FlyteDirectory) -> Path:
    """The folder, downloaded.

    Raises:
        DataError: if it is gone, as when Flyte's local cache outlived the output folder of a local run.
    """
    path = Path(folder.download())
    if not path.is_dir():
        raise DataError(
            f"{path}: is gone, but Flyte's local cache still points to it. Run once with pyflyte run --overwrite-cache."
        )
    return path


@contextmanager
def kept_between_runs(name: str) -> Iterator[Path | None]:
    """A folder in which a task finds what an earlier run left under this name, and leaves what it has.

    In a local run it lies in the output folder; in a pod it is copied from and to FLYTE_LLAMA_CACHE. None without one.
    """
    own = hashlib.sha256(name.encode()).hexdigest()[:32]
    output = local_output()
    if output is not None or SETTINGS.cache is None:
        yield output / "cache" / own if output else None
        return
    access = flytekit.FlyteContextManager.current_context().file_access
    folder, remote = new_folder("cache"), f"{SETTINGS.cache.rstrip('/')}/{own}"
    if access.exists(remote):
        access.get_data(remote, str(folder), is_multipart=True)
    yield folder
    try:
        access.put_data(str(folder), remote, is_multipart=True)
    except (FlyteException, OSError) as error:
        # The work is done; without this the next run does it again.
        say(f"{SETTINGS.cache}: cannot be written, so nothing is kept for the next run: {error}")


@contextmanager
def retried() -> Iterator[None]:
    """Failures of the network as errors that Flyte retries: a task's `retries` is for those alone."""
    try:
        yield
    except FlyteLlamaError as error:
        if error.transient and local_output() is None:
            raise FlyteRecoverableException(error.message) from error
        raise


def local_output() -> Path | None:
    """The user's own output folder in a local run; None in a pod."""
    state = flytekit.FlyteContextManager.current_context().execution_state
    if state is None or not state.is_local_execution():
        return None
    _output().mkdir(parents=True, exist_ok=True)
    return _output()


def _output() -> Path:
    return Path(SETTINGS.output).resolve()
