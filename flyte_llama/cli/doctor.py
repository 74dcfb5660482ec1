"""The command `flyte-llama doctor`: what a run on the cluster needs, and whether it is there."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flyte_llama
from flyte_llama.cluster import (
    FINDING_LIMIT_S,
    Finding,
    Place,
    connect,
    failure_finding,
    gpu_finding,
    image_finding,
    limits_finding,
    nodes_finding,
    place_finding,
    run_within,
    schedule_finding,
    secrets_finding,
    version_finding,
)
from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.errors import ConfigError, FlyteLlamaError
from flyte_llama.preflight import remote_problems
from flyte_llama.settings import Settings, read_settings, settings_digest


def find_all(path: str | None, project: str, domain: str) -> Iterator[Finding]:
    """Yield one finding after the other, as `make register` and `make launch` would meet them; none raises.

    Args:
        path: The configuration to check, or None.
    """
    # what this machine knows
    described = describe_checkout()
    commit = described.removesuffix("-dirty")
    settings, finding = _settings_finding(commit)
    yield finding
    config = None
    if path is not None:
        config, finding = _config_finding(path)
        yield finding
    client, finding = _connect()
    yield finding

    # what needs the settings only
    if settings is not None:
        publishes = config is not None and config.publish.repository is not None
        yield _found("gpu", functools.partial(gpu_finding, settings))
        yield _found("nodes", functools.partial(nodes_finding, settings))
        yield _found("secrets", functools.partial(secrets_finding, project, domain, publishes=publishes))
        trackers = config.training.report_to if config is not None else []
        for name, fix in _images(settings, trackers, is_dirty=commit != described).items():
            yield _found("image", functools.partial(image_finding, name, fix=fix))
        if settings.image is None:
            text = "IMAGE is not set, and this is no git checkout whose commit would name it. Set IMAGE."
            yield Finding(subject="image", state="FAIL", text=text)

    # what the cluster tells
    if client is None:
        text = "project, limits, version and schedule were not looked at, because there is no connection"
        yield Finding(subject="cluster", state="look", text=text)
        return
    place = Place(client, project, domain)
    yield _found("project", functools.partial(place_finding, place))
    if settings is not None:
        named = os.environ.get("VERSION") or commit
        version = f"{named}-{settings_digest(settings)}" if named else None
        yield _found("limits", functools.partial(limits_finding, place))
        yield _found("version", functools.partial(version_finding, place, version, is_dirty=commit != described))
        yield _found("schedule", functools.partial(_schedule_finding, place, settings, version))


def describe_checkout() -> str:
    """The commit of the checkout as `make` names it; ends in -dirty if files differ; empty outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    root = Path(flyte_llama.__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=20)  # noqa: S603  # as above
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _settings_finding(commit: str) -> tuple[Settings | None, Finding]:
    """The settings, with the image that `make` would name by the commit, if IMAGE names none."""
    named = f"{os.environ.get('REGISTRY') or 'localhost:30000'}/flyte-llama:{commit}" if commit else ""
    try:
        settings = read_settings({**os.environ, "IMAGE": os.environ.get("IMAGE") or named})
    except ConfigError as error:
        return None, Finding(subject="settings", state="FAIL", text="; ".join(error.problems))
    text = f"digest {settings_digest(settings)}; `flyte-llama settings` prints them"
    return settings, Finding(subject="settings", state="ok", text=text)


def _images(settings: Settings, trackers: Sequence[str], *, is_dirty: bool) -> dict[str, str]:
    """Each image that tasks have → how to build and push it.

    Args:
        trackers: Those of the configuration, which the image must have.
    """
    images: dict[str, str] = {}
    for field, name in settings:
        if field.startswith("image") and name:
            command = f"make {field.replace('_', '-')} {field.upper()}={name}"
            note = ""
            if field == "image_cpu" and not os.environ.get("TORCH_INDEX"):
                command, note = f"{command} TORCH_INDEX=CPU_INDEX", " (CPU_INDEX: see docs/cluster.md)"
            if trackers and not os.environ.get("REPORTERS"):
                packages = ["mlflow-skinny" if tracker == "mlflow" else tracker for tracker in trackers]
                command = f"{command} REPORTERS='{' '.join(packages)}'"
            fix = f"Run `{command} && docker push {name}`{note}"
            # The image would have the edits, under the name of the commit without them.
            images.setdefault(name, "Commit your changes first: an image is named by its commit" if is_dirty else fix)
    return images


def _config_finding(path: str) -> tuple[ExperimentConfig | None, Finding]:
    try:
        config = load_config(path, check=remote_problems)
    except FlyteLlamaError as error:
        text = f"{error.message} See `flyte-llama check --remote`."
        return None, Finding(subject="configuration", state="FAIL", text=text)
    return config, Finding(subject="configuration", state="ok", text=f"{path} is valid")


def _connect() -> tuple[Any | None, Finding]:
    try:
        return run_within(FINDING_LIMIT_S, connect)
    except Exception as error:  # whatever flytekit or the system raises, the doctor says it in one line
        return None, failure_finding("connection", error)


def _schedule_finding(place: Place, settings: Settings, version: str | None) -> Finding:
    from flyte_llama.tasks.shipped import shipped_configs

    path = shipped_configs().get(settings.refresh_config)
    return schedule_finding(place, settings, version, load_config(path) if path else None)


def _found(subject: str, find: Callable[[], Finding]) -> Finding:
    """The finding, or that there was none within the time limit, or why."""
    try:
        return run_within(FINDING_LIMIT_S, find)
    except Exception as error:  # as above
        return failure_finding(subject, error)
