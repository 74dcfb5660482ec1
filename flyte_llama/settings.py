"""What must be known when the package is registered, read once from the environment.

| variable | meaning | default |
|---|---|---|
| IMAGE | container image of every task | what `pyflyte` is told with `--image` |
| FLYTE_LLAMA_GPU | accelerator of flytekit.extras.accelerators | A100_80GB |
| FLYTE_LLAMA_GPU_COUNT | GPUs, and so processes, that train together on one node | 8 |
| FLYTE_LLAMA_NODES | nodes that train together; more than 1 needs Kubeflow's training operator | 1 |
| FLYTE_LLAMA_GPU_CPU | CPUs of the training pod | 8 a GPU |
| FLYTE_LLAMA_GPU_MEMORY | memory of the training pod | 100Gi a GPU |
| FLYTE_LLAMA_GPU_STORAGE | ephemeral storage of the GPU pods | 400Gi |
| FLYTE_LLAMA_SECRET_GROUP | Flyte secret group whose key `hf_token` holds a hub token | none: no secret is asked for |
| FLYTE_LLAMA_GIT_SECRET_GROUP | Flyte secret group whose key `git_token` holds a token of git | none |
| FLYTE_LLAMA_GIT_HOST | the one host that is sent that token | github.com |
| FLYTE_LLAMA_CACHE | bucket folder where pods keep between runs what they found in each file | none |
| FLYTE_LLAMA_SCHEDULE | five-field cron of the weekly refresh, UTC | 0 6 * * 1 |
| FLYTE_LLAMA_ACTIVATE_SCHEDULE | 1 activates the refresh when registered | 0 |
| FLYTE_LLAMA_OUTPUT | folder for the report of a local run | output |
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from flyte_llama.errors import ConfigError

PREFIX = "FLYTE_LLAMA_"


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

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
    def _known(cls, gpu: str) -> str:
        from flytekit.extras import accelerators

        known = [name for name in dir(accelerators) if isinstance(getattr(accelerators, name), _accelerator_type())]
        if gpu not in known:
            raise ValueError(f"is no accelerator of flytekit. Use one of {', '.join(known)}")
        return gpu


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of an environment.

    Raises:
        ConfigError: naming every variable with a bad value.
    """
    found = {name: environment.get(PREFIX + name.upper()) for name in Settings.model_fields if name != "image"}
    found["image"] = environment.get("IMAGE")
    try:
        return Settings.model_validate({name: value for name, value in found.items() if value})
    except ValidationError as error:
        lines = [
            f"{PREFIX}{str(problem['loc'][0]).upper()} = {problem['input']!r}: "
            f"{problem['msg'].removeprefix('Value error, ')}."
            for problem in error.errors()
        ]
        raise ConfigError("\n  - ".join(["the environment:", *lines])) from None


def _accelerator_type() -> type:
    from flytekit.extras.accelerators import BaseAccelerator

    return BaseAccelerator
