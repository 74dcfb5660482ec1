"""The resources of each kind of task: image, CPUs, memory, storage, GPUs and secrets."""

from __future__ import annotations

from typing import Any

from flytekit import Resources, Secret
from flytekit.extras import accelerators

from flyte_llama.settings import read_settings
from flyte_llama.sources import GIT_HOST, GIT_TOKEN

SETTINGS = read_settings()


def _pod(*, cpu: str, memory: str, storage: str, gpus: int = 0) -> dict[str, Any]:
    """Keyword arguments of `@task`. Limits equal requests, so a pod is never evicted for exceeding its requests."""
    resources = Resources(cpu=cpu, mem=memory, ephemeral_storage=storage, gpu=str(gpus) if gpus else None)
    pod = {"container_image": SETTINGS.image, "requests": resources, "limits": resources}
    if gpus:
        # Ranks and data loaders exchange tensors in /dev/shm, which has only 64 MB in a pod by default.
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
    """The `secret_requests` of `@task`; None if no group is configured."""
    env = Secret.MountType.ENV_VAR
    return [Secret(group=group, key=key, env_var=variable, mount_requirement=env)] if group else None


HUB_SECRETS = _secret(SETTINGS.secret_group, "hf_token", HUB_TOKEN)
GIT_SECRETS = _secret(SETTINGS.git_secret_group, "git_token", GIT_TOKEN)
GIT_ENVIRONMENT = {GIT_HOST: SETTINGS.git_host}
