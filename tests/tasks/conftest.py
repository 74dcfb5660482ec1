"""The package in the form that registration sends."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.options import Options
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
    """Everything that `pyflyte register flyte_llama` would send."""
    repo.serialize_load_only(["flyte_llama"], SETTINGS, ".")
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
