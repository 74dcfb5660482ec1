"""Reads the settings of the table above (see the room's docstring), checks them, and passes them on to the pods."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from flyte_llama.config import Frozen
from flyte_llama.config.stage import hint
from flyte_llama.errors import ConfigError
from flyte_llama.redaction import may_hold_password
from flyte_llama.settings.cron import check_cron
from flyte_llama.settings.quantities import bytes_quantity, cpu_quantity, parse_bytes, parse_millicpus

PREFIX = "FLYTE_LLAMA_"
OTHER_VARIABLES = ("DEBUG", "GIT_TOKEN", "SSH_KEY", "SSH_KNOWN_HOSTS")
"""Further variables with the prefix, which are read where they are needed."""

NO_GPU_LABEL = "none"
"""The value of FLYTE_LLAMA_GPU that asks for GPUs on any node."""

# Read at registration only; all others reach the pods, also those that no task reads yet.
_NOT_IN_PODS = {
    "image",
    "image_cpu",
    "output",
    "refresh_config",
    "schedule",
    "activate_schedule",
    "notify_email",
    "notify_slack",
    "notify_pagerduty",
}
TRACKER_KEYS = ("wandb_api_key", "mlflow_tracking_token", "mlflow_tracking_username", "mlflow_tracking_password")
"""The keys of trackers that a secret group may have. Each reaches a pod as the variable of its upper-case name."""

# What the trackers' libraries read under their own names.
_OF_TRACKERS = (
    "wandb_base_url",
    "wandb_entity",
    "wandb_project",
    "mlflow_tracking_uri",
    "mlflow_experiment_name",
)
# Kubernetes gives every pod such variables for a service that is called flyte-llama or flyte-llama-….
_SERVICE = re.compile(rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")
_SWITCH = {"1": True, "true": True, "0": False, "false": False}
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.IGNORECASE)


def _count(value: Any) -> int:
    if not re.fullmatch(r"0*[1-9]\d{0,5}", str(value), re.ASCII):
        raise ValueError("is not a whole number from 1 to 999999. Write it like 8")
    return int(value)


def _hours(value: Any) -> float:
    if not re.fullmatch(r"\d{1,5}(\.\d+)?", str(value), re.ASCII) or not float(value):
        raise ValueError("is not a number of hours above 0. Write it like 6 or 0.5")
    return float(value)


def _switch(value: Any) -> bool:
    if str(value).lower() not in _SWITCH:
        raise ValueError("is neither 1 nor 0. Set one of them")
    return _SWITCH[str(value).lower()]


def _cpus(value: Any) -> str:
    parse_millicpus(str(value))
    return str(value)


def _amount(value: Any) -> str:
    parse_bytes(str(value))
    return str(value)


def _addresses(value: Any) -> tuple[str, ...]:
    addresses = tuple(address.strip() for address in value.split(",")) if isinstance(value, str) else tuple(value)
    for address in addresses:
        if not re.fullmatch(r"[^\s@,]+@[^\s@,]+\.[^\s@,]+", address):
            raise ValueError(f"{address!r} is not an e-mail address. Write them like a@example.com,b@example.com")
    return addresses


def _tracker_keys(value: Any) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in value.split(",")) if isinstance(value, str) else tuple(value)
    for key in keys:
        if key not in TRACKER_KEYS:
            raise ValueError(f"has an entry that is not a key of a tracker. Keys: {', '.join(TRACKER_KEYS)}")
    return keys


def is_server_address(text: str) -> bool:
    """Whether a text is the http address of a server, with any path."""
    try:
        return re.fullmatch(r"https?://[^\s/]+\S*", text) is not None and bool(urlsplit(text).hostname)
    except ValueError:
        return False


def _server(value: Any) -> str:
    if may_hold_password(str(value)):
        raise ValueError("may hold a password, which every pod would show. Put it into the secret group")
    if not is_server_address(str(value)):
        raise ValueError("is not the address of a server. Write it like https://mlflow.example.com")
    return str(value)


Count = Annotated[int, BeforeValidator(_count)]
Hours = Annotated[float, BeforeValidator(_hours)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Cpus = Annotated[str, BeforeValidator(_cpus)]
Amount = Annotated[str, BeforeValidator(_amount)]
Addresses = Annotated[tuple[str, ...], BeforeValidator(_addresses)]
Keys = Annotated[tuple[str, ...], BeforeValidator(_tracker_keys)]
Server = Annotated[str, BeforeValidator(_server)]


class Settings(Frozen):
    """The settings above, validated; each field is the variable's name in lower case, without the prefix."""

    image: str | None = None
    image_cpu: str | None = Field(default_factory=lambda data: data["image"])
    gpu: str = "A100_80GB"
    gpu_count: Count = 8
    nodes: Count = 1
    gpu_cpu: Cpus = Field(default_factory=lambda data: str(8 * data["gpu_count"]))
    gpu_memory: Amount = Field(default_factory=lambda data: f"{100 * data['gpu_count']}Gi")
    gpu_storage: Amount = "400Gi"
    eval_cpu: Cpus = Field(
        default_factory=lambda data: cpu_quantity(max(1, parse_millicpus(data["gpu_cpu"]) // data["gpu_count"]))
    )
    eval_memory: Amount = Field(
        default_factory=lambda data: bytes_quantity(parse_bytes(data["gpu_memory"]) // data["gpu_count"])
    )
    data_cpu: Cpus = "4"
    data_memory: Amount = "16Gi"
    data_storage: Amount = "50Gi"
    spot: Switch = True
    grace_seconds: Count | None = None
    timeout_hours: Hours = 6
    training_timeout_hours: Hours = 72
    trial_concurrency: Count = 1
    secret_group: str | None = None
    git_secret_group: str | None = None
    ssh_secret_group: str | None = None
    git_host: str = "github.com"
    git_user: str | None = None
    tracker_secret_group: str | None = None
    tracker_keys: Keys = ()
    wandb_base_url: Server | None = None
    wandb_entity: str | None = None
    wandb_project: str | None = None
    mlflow_tracking_uri: Server | None = None
    mlflow_experiment_name: str | None = None
    cache: str | None = None
    refresh_config: str = "code_llama_7b_lora"
    schedule: str = "0 6 * * 1"
    activate_schedule: Switch = False
    notify_email: Addresses = ()
    notify_slack: Addresses = ()
    notify_pagerduty: Addresses = ()
    output: str = "output"

    @property
    def output_folder(self) -> Path:
        return Path(self.output).resolve()

    @property
    def gpu_label(self) -> str | None:
        """The value of the node label that GPU pods require, such as nvidia-a100-80gb; None if they require none."""
        return None if self.gpu == NO_GPU_LABEL else _flytekit_devices().get(self.gpu, self.gpu)

    @field_validator("gpu")
    @classmethod
    def _check_gpu(cls, gpu: str) -> str:
        if gpu.lower() == NO_GPU_LABEL:
            return NO_GPU_LABEL
        if _flytekit_devices().get(gpu, gpu).startswith("tpu"):
            raise ValueError("is a TPU, and training runs on GPUs. Name a GPU, or none for any node with GPUs")
        if not _LABEL_VALUE.fullmatch(gpu):
            raise ValueError("cannot be the value of a node label. Name a GPU, or none for any node with GPUs")
        return gpu

    @field_validator("git_host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        if not _HOST.fullmatch(host):
            raise ValueError("is not the name of a host. Write it like git.example.com, without https:// and port")
        return host

    @field_validator("git_user")
    @classmethod
    def _check_user(cls, user: str) -> str:
        if not re.fullmatch(r"[!-9;-~]+", user):
            raise ValueError("is not the name of a user. Write it without blanks and colons, like x-token-auth")
        return user

    @field_validator("cache")
    @classmethod
    def _check_folder(cls, folder: str) -> str:
        if not re.match(r"\w[\w+.-]*://[^/]|/", folder):
            raise ValueError("is no address of a folder. Write it like s3://bucket/flyte-llama")
        return folder

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, schedule: str) -> str:
        return check_cron(schedule)


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; an empty variable counts as unset, except FLYTE_LLAMA_GPU.

    Raises:
        ConfigError: lists every variable that has an invalid value, or that begins like a setting and is none.
    """
    values = {name: environment.get(_variable(name)) for name in Settings.model_fields}
    if values["gpu"] == "":
        values["gpu"] = NO_GPU_LABEL
    lines = _unknown_variables(environment)
    try:
        settings = Settings.model_validate({name: value for name, value in values.items() if value})
    except ValidationError as error:
        for problem in error.errors():
            # Some defaults are computed from other settings. If one of those is invalid, only that one is listed.
            if problem["type"] != "default_factory_not_called":
                reason = problem["msg"].removeprefix("Value error, ")
                lines.append(f"{_variable(str(problem['loc'][0]))} = {problem['input']!r}: {reason}.")
    if lines:
        raise ConfigError("\n  - ".join(["the environment:", *lines]), problems=lines)
    return settings


def pod_environment(settings: Settings) -> dict[str, str]:
    """The variables that give a pod these settings, whatever its image sets: `read_settings` reads them there.

    Those of trackers are also under the names that the trackers read.
    """
    variables = {_variable(name): _text(value) for name, value in settings if name not in _NOT_IN_PODS}
    return variables | {name.upper(): value for name in _OF_TRACKERS if (value := getattr(settings, name)) is not None}


def settings_text(settings: Settings) -> str:
    """The settings as lines `NAME = value`, a star before those that are set, and what GPU pods ask of their node."""
    lines = [
        f"{'*' if name in settings.model_fields_set else ' '} {_variable(name)} = {_text(value)}"
        for name, value in settings
    ]
    label = settings.gpu_label
    node = f"require the accelerator label {label}" if label else "require no label, and run on any node with GPUs"
    return "\n".join([*lines, f"GPU pods {node}. Digest: {settings_digest(settings)}. * is set by you."])


def settings_digest(settings: Settings) -> str:
    """Eight hex digits that change with every setting that registration sends."""
    values = settings.model_dump(mode="json", exclude={"output"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def _variable(name: str) -> str:
    """The variable of a field."""
    return name.upper() if name in ("image", "image_cpu") else PREFIX + name.upper()


def _text(value: Any) -> str:
    """The text of a variable that is read as this value."""
    if value is None or isinstance(value, bool):
        return "1" if value else "" if value is None else "0"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _flytekit_devices() -> dict[str, str]:
    """Name in flytekit.extras.accelerators → the value of its node label."""
    from flytekit.extras import accelerators
    from flytekit.extras.accelerators import BaseAccelerator

    found = {name: value for name, value in vars(accelerators).items() if isinstance(value, BaseAccelerator)}
    return {name: value.to_flyte_idl().device for name, value in found.items()}


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a line for each variable that has the prefix of the settings and is no setting, such as a mistyped one."""
    known = sorted([*map(_variable, Settings.model_fields), *(PREFIX + name for name in OTHER_VARIABLES)])
    return [
        f"{name}: no setting has this name. {hint(name.upper(), known, otherwise='Unset it.')}"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known and not _SERVICE.fullmatch(name)
    ]
