"""The package in the form that registration sends."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.options import Options
from flytekit.models.admin.workflow import WorkflowSpec
from flytekit.models.launch_plan import LaunchPlan
from flytekit.models.task import TaskSpec
from flytekit.tools import repo

SETTINGS = SerializationSettings(
    image_config=ImageConfig.auto(img_name="registry.example.com/flyte-llama:test"),
    project="project",
    domain="domain",
    version="version",
)


class Registered(NamedTuple):
    """The serialised entities, each by its short name (a launch plan by its full name)."""

    tasks: dict[str, TaskSpec]
    workflows: dict[str, object]
    launch_plans: dict[str, LaunchPlan]


@pytest.fixture(scope="session")
def registered() -> Registered:
    return serialise_package()


def serialise_package() -> Registered:
    """Everything that `pyflyte register flyte_llama` would send.

    It imports every module; this imports the launch plans, which import the workflows and so every module with a task.
    """
    repo.serialize_load_only(["flyte_llama.launch_plans"], SETTINGS, ".")
    entities = repo.serialize_get_control_plane_entities(SETTINGS, ".", Options())
    tasks, workflows, launch_plans = {}, {}, {}
    for entity in entities:
        name = entity.id.name if isinstance(entity, LaunchPlan) else entity.template.id.name
        if not name.startswith("flyte_llama."):
            continue  # a task of another test in this process
        if isinstance(entity, TaskSpec):
            tasks[entity.template.id.name.rsplit(".", 1)[-1]] = entity
        elif hasattr(entity, "spec"):
            launch_plans[entity.id.name] = entity
        else:
            workflows[entity.template.id.name.rsplit(".", 1)[-1]] = entity
    return Registered(tasks, workflows, launch_plans)


_SERIALISE = """
import pickle, sys
from tests.tasks.conftest import serialise_package
messages = [{name: entity.to_flyte_idl() for name, entity in group.items()} for group in serialise_package()]
with open(sys.argv[1], "wb") as file:
    pickle.dump(messages, file)
"""


def register_with(settings: Mapping[str, str], folder: Path) -> Registered:
    """What `pyflyte register` would send with these variables: they are read at import, so in a new process."""
    root, file = Path(__file__).parents[2], folder / "registered.pickle"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLYTE_LLAMA_")}
    command = [sys.executable, "-c", _SERIALISE, str(file)]
    environment = {**inherited, **settings, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    messages = pickle.loads(file.read_bytes())  # noqa: S301  # written just now
    kinds = (TaskSpec, WorkflowSpec, LaunchPlan)
    tasks, workflows, launch_plans = (
        {name: kind.from_flyte_idl(message) for name, message in group.items()}
        for kind, group in zip(kinds, messages, strict=True)
    )
    return Registered(tasks, workflows, launch_plans)
