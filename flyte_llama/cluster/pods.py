"""What the pods of a run ask of their cluster that Flyte's services do not tell, and how to look at it."""

from __future__ import annotations

from typing import Any

from flyte_llama.cluster.finding import Finding
from flyte_llama.settings import PREFIX, Settings

REQUESTED_BY = {
    "ALL_GPUS": "fine_tune",
    "ONE_GPU": "evaluate",
    "UPLOADER": "publish",
    "CORPUS": "build_corpus",
    "READER": "read_source",
    "SMALL": "report",
}
"""A pod of `tasks.resources` → one of the tasks that run in it."""


def requests_of_tasks() -> dict[str, dict[str, str]]:
    """Task → the CPUs, memory, GPUs and storage that it requests, by Flyte's names; one task for each kind of pod."""
    from flyte_llama.tasks import resources

    requests = {}
    for pod, task in REQUESTED_BY.items():
        asked = getattr(resources, pod)["requests"]
        named = {"cpu": asked.cpu, "memory": asked.mem, "gpu": asked.gpu, "ephemeral_storage": asked.ephemeral_storage}
        requests[task] = {name: value for name, value in named.items() if value is not None}
    return requests


def gpu_finding(settings: Settings) -> Finding:
    """The node label that GPU pods require."""
    if settings.gpu_label is None:
        text = f"{PREFIX}GPU = none: GPU pods run on any node with {settings.gpu_count} free GPUs"
        return Finding(subject="gpu", state="ok", text=text)
    text = (
        f"{PREFIX}GPU = {settings.gpu}: GPU pods run only on nodes whose label, named by Flyte's gpu-device-node-label "
        f"(k8s.amazonaws.com/accelerator by default), is {settings.gpu_label}. Flyte does not tell what its nodes "
        "have: see `kubectl get nodes --show-labels`, and set none if they have no such label."
    )
    return Finding(subject="gpu", state="look", text=text)


def nodes_finding(settings: Settings) -> Finding:
    """What training on several nodes needs."""
    if settings.nodes == 1:
        return Finding(subject="nodes", state="ok", text="training runs on one node, without an operator")
    text = (
        f"{PREFIX}NODES = {settings.nodes}: training needs Kubeflow's training operator, and Flyte's pytorch plugin. "
        "Flyte does not tell whether it has them: see `kubectl get crd pytorchjobs.kubeflow.org`, and enabled-plugins "
        "of propeller."
    )
    return Finding(subject="nodes", state="look", text=text)


def secrets_finding(project: str, domain: str, *, publishes: bool) -> Finding:
    """The secrets that the tasks request.

    Args:
        publishes: Whether the configuration publishes a model, for which a hub token is needed.
    """
    from flyte_llama.tasks import resources

    lists: list[list[Any] | None] = [value for name, value in vars(resources).items() if name.endswith("_SECRETS")]
    secrets = sorted({(secret.group, secret.key) for each in lists if each for secret in each})
    if publishes and not any(key == "hf_token" for _, key in secrets):
        text = "publish.repository is set, and no task gets a hub token. Set FLYTE_LLAMA_SECRET_GROUP."
        return Finding(subject="secrets", state="FAIL", text=text)
    if not secrets:
        text = "no task requests one, so private repositories, gated models and publishing are out of reach"
        return Finding(subject="secrets", state="ok", text=text)
    wanted: dict[str, list[str]] = {}
    for group, key in secrets:
        wanted.setdefault(group, []).append(key)
    named = "; ".join(f"{', '.join(keys)} of group {group}" for group, keys in wanted.items())
    text = (
        f"tasks request {named}. Flyte does not tell whether it has them: see `kubectl -n {project}-{domain} describe "
        f"secret {' '.join(wanted)}`; on Union, `union get secret`."
    )
    return Finding(subject="secrets", state="look", text=text)
