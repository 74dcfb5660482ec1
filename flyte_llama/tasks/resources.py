"""The pod of each kind of task: image, CPUs, memory, storage, GPUs, timeout, environment and secrets.

A timeout counts for each attempt, from the moment that Flyte asks for the pod. So a pod that fits no node ends its
attempt too. Flyte gives all attempts at a task together twice its timeout, whatever its retries.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flytekit import PodTemplate, Resources, Secret
from flytekit.extras.accelerators import GPUAccelerator

from flyte_llama.settings import (
    bytes_quantity,
    cpu_quantity,
    parse_bytes,
    parse_millicpus,
    pod_environment,
    read_settings,
)
from flyte_llama.sources import GIT_TOKEN, SSH_KEY, SSH_KNOWN_HOSTS

SETTINGS = read_settings()


def _pod(
    *, cpu: str, memory: str, storage: str, gpus: int = 0, hours: float = SETTINGS.timeout_hours, **variables: str
) -> dict[str, Any]:
    """Keyword arguments of `@task`. Limits equal requests, so a pod is never evicted for exceeding its requests.

    The environment gives the pod the settings of registration, so `SETTINGS` is the same there.
    """
    resources = Resources(cpu=cpu, mem=memory, ephemeral_storage=storage, gpu=str(gpus) if gpus else None)
    image = SETTINGS.image if gpus else SETTINGS.image_cpu
    pod: dict[str, Any] = {"container_image": image, "requests": resources, "limits": resources}
    pod |= {"timeout": timedelta(hours=hours), "environment": pod_environment(SETTINGS) | variables}
    if gpus:
        # Ranks and data loaders exchange tensors in /dev/shm, which has only 64 MB in a pod by default.
        pod |= {"shared_memory": True, "interruptible": SETTINGS.spot}
        if SETTINGS.gpu_label is not None:
            pod["accelerator"] = GPUAccelerator(SETTINGS.gpu_label)
    return pod


def _ending_within(seconds: int) -> PodTemplate:
    """A pod that may live on for `seconds` after it is told to end. The task's spec then has a pod for a container."""
    from kubernetes.client import V1PodSpec

    return PodTemplate(pod_spec=V1PodSpec(containers=[], termination_grace_period_seconds=seconds))


def _half(quantity: str) -> str:
    """Half of an amount of memory."""
    return bytes_quantity(parse_bytes(quantity) // 2)


SMALL = _pod(cpu="1", memory="1Gi", storage="5Gi")
READER = _pod(
    cpu=cpu_quantity(max(1, parse_millicpus(SETTINGS.data_cpu) // 2)),
    memory=_half(SETTINGS.data_memory),
    storage=_half(SETTINGS.data_storage),
)
CORPUS = _pod(cpu=SETTINGS.data_cpu, memory=SETTINGS.data_memory, storage=SETTINGS.data_storage)
UPLOADER = _pod(cpu=SETTINGS.data_cpu, memory=SETTINGS.data_memory, storage=SETTINGS.gpu_storage)
ONE_GPU = _pod(cpu=SETTINGS.eval_cpu, memory=SETTINGS.eval_memory, storage=SETTINGS.gpu_storage, gpus=1)
ALL_GPUS = _pod(
    cpu=SETTINGS.gpu_cpu,
    memory=SETTINGS.gpu_memory,
    storage=SETTINGS.gpu_storage,
    gpus=SETTINGS.gpu_count,
    hours=SETTINGS.training_timeout_hours,
    PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True",
)
if SETTINGS.grace_seconds is not None:
    ALL_GPUS["pod_template"] = _ending_within(SETTINGS.grace_seconds)

HUB_TOKEN = "HF_TOKEN"  # noqa: S105  # the name of a variable


def _secret(
    group: str | None, key: str, variable: str, mount: Secret.MountType = Secret.MountType.ENV_VAR
) -> list[Secret]:
    """The `secret_requests` of `@task`; empty if no group is configured.

    Args:
        variable: It holds the secret, or the path of its file if `mount` is FILE.
    """
    return [Secret(group=group, key=key, env_var=variable, mount_requirement=mount)] if group else []


HUB_SECRETS = _secret(SETTINGS.secret_group, "hf_token", HUB_TOKEN)
GIT_SECRETS = [
    *_secret(SETTINGS.git_secret_group, "git_token", GIT_TOKEN),
    *_secret(SETTINGS.ssh_secret_group, "ssh_key", SSH_KEY, Secret.MountType.FILE),
    *_secret(SETTINGS.ssh_secret_group, "known_hosts", SSH_KNOWN_HOSTS, Secret.MountType.FILE),
]
# Only those that the group has: by the secret manager of Flyte, a pod that requests another starts without it or never.
TRACKER_SECRETS = [
    secret for key in SETTINGS.tracker_keys for secret in _secret(SETTINGS.tracker_secret_group, key, key.upper())
]
TRAINING_SECRETS = [*HUB_SECRETS, *TRACKER_SECRETS]
