"""The settings needed when the package is registered, read once from the environment.

| variable | meaning | default |
|---|---|---|
| IMAGE | container image of every task | the `--image` of `pyflyte` |
| FLYTE_LLAMA_GPU | an accelerator of flytekit.extras.accelerators | A100_80GB |
| FLYTE_LLAMA_GPU_COUNT | GPUs, and so training processes, per node | 8 |
| FLYTE_LLAMA_NODES | nodes that train together; more than 1 needs Kubeflow's training operator | 1 |
| FLYTE_LLAMA_GPU_CPU | CPUs of the training pod | 8 per GPU |
| FLYTE_LLAMA_GPU_MEMORY | memory of the training pod | 100Gi per GPU |
| FLYTE_LLAMA_GPU_STORAGE | ephemeral storage of the GPU pods | 400Gi |
| FLYTE_LLAMA_SECRET_GROUP | Flyte secret group that has a hub token as `hf_token` | none: no secret is requested |
| FLYTE_LLAMA_GIT_SECRET_GROUP | Flyte secret group that has a git token as `git_token` | none: no secret is requested |
| FLYTE_LLAMA_GIT_HOST | the only host that receives the git token | github.com |
| FLYTE_LLAMA_CACHE | bucket folder where pods keep the results of files, and notes of damage, between runs | none |
| FLYTE_LLAMA_SCHEDULE | schedule of the weekly refresh, five-field cron, UTC | 0 6 * * 1 |
| FLYTE_LLAMA_ACTIVATE_SCHEDULE | 1 activates the weekly refresh at registration | 0 |
| FLYTE_LLAMA_OUTPUT | folder for the results of a local run | output |
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pydantic import Field, ValidationError, field_validator

from flyte_llama.config import Frozen
from flyte_llama.config.stage import hint
from flyte_llama.errors import ConfigError

PREFIX = "FLYTE_LLAMA_"
OTHER_VARIABLES = ("DEBUG", "GIT_TOKEN")
"""Further variables with the prefix, which are read where they are needed."""

# Kubernetes gives every pod such variables for a service that is called flyte-llama or flyte-llama-….
_SERVICE = re.compile(rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")


class Settings(Frozen):
    """The settings above, validated; each field is the variable's name in lower case, without the prefix."""

    image: str | None = None
    gpu: str = "A100_80GB"
    gpu_count: int = Field(8, ge=1)
    nodes: int = Field(1, ge=1)
    gpu_cpu: str = Field(default_factory=lambda data: str(8 * data.get("gpu_count", 1)))
    gpu_memory: str = Field(default_factory=lambda data: f"{100 * data.get('gpu_count', 1)}Gi")
    gpu_storage: str = "400Gi"
    secret_group: str | None = None
    git_secret_group: str | None = None
    git_host: str = "github.com"
    cache: str | None = None
    schedule: str = Field("0 6 * * 1", pattern=r"^\S+( \S+){4}$")
    activate_schedule: bool = False
    output: str = "output"

    @field_validator("gpu")
    @classmethod
    def _known_accelerator(cls, gpu: str) -> str:
        from flytekit.extras import accelerators
        from flytekit.extras.accelerators import BaseAccelerator

        known = sorted(name for name, value in vars(accelerators).items() if isinstance(value, BaseAccelerator))
        if gpu not in known:
            raise ValueError(f"is not an accelerator of flytekit. Use one of {', '.join(known)}")
        return gpu


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; an empty variable counts as unset.

    Raises:
        ConfigError: lists every variable that has an invalid value, or that begins like a setting and is none.
    """
    values = {name: environment.get(PREFIX + name.upper()) for name in Settings.model_fields if name != "image"}
    values["image"] = environment.get("IMAGE")
    lines = _unknown_variables(environment)
    try:
        settings = Settings.model_validate({name: value for name, value in values.items() if value})
    except ValidationError as error:
        lines += [
            f"{PREFIX}{str(problem['loc'][0]).upper()} = {problem['input']!r}: "
            f"{problem['msg'].removeprefix('Value error, ').removeprefix('Input ')}."
            for problem in error.errors()
        ]
    if lines:
        raise ConfigError("\n  - ".join(["the environment:", *lines]), problems=lines)
    return settings


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a line for each variable that begins like a setting and is none, such as a mistyped one."""
    names = [name.upper() for name in Settings.model_fields if name != "image"]
    known = [PREFIX + name for name in sorted([*names, *OTHER_VARIABLES])]
    return [
        f"{name}: no setting has this name. {hint(name, known, otherwise='Unset it.')}"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known and not _SERVICE.fullmatch(name)
    ]
