"""What a cluster's admin tells: project and domain, limits of resources, what is registered, and the schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from flyte_llama.cluster.connection import call
from flyte_llama.cluster.finding import Finding
from flyte_llama.cluster.pods import requests_of_tasks
from flyte_llama.config import ExperimentConfig
from flyte_llama.settings import Settings

WORKFLOW = "flyte_llama.workflows.train_flyte_llama"
REFRESH = "flyte_llama.weekly_refresh"
_REPLACE = "Run `make register` with FLYTE_LLAMA_ACTIVATE_SCHEDULE=1 to replace it."
_NAMES = ("cpu", "memory", "gpu", "ephemeral_storage")


class Place(NamedTuple):
    """A cluster's project and domain, and flytekit's client of the cluster."""

    client: Any
    project: str
    domain: str


def place_finding(place: Place) -> Finding:
    """Whether the project and the domain exist."""
    from flytekit.models.filters import Equal
    from flytekit.models.project import Project

    wanted = Equal("identifier", place.project)
    projects, _ = call(place.client.list_projects_paginated, limit=1, filters=[wanted])
    domains = sorted(domain.id for domain in call(place.client.get_domains))
    name = f"project {place.project}, domain {place.domain}"
    if not projects:
        fix = f"Create it (`flytectl create project --id {place.project} --name {place.project}`) or set FLYTE_PROJECT."
        return Finding(subject="project", state="FAIL", text=f"{name}: there is no such project. {fix}")
    if projects[0].state != Project.ProjectState.ACTIVE:
        text = f"{name}: the project is archived. Activate it, or set FLYTE_PROJECT."
        return Finding(subject="project", state="FAIL", text=text)
    if place.domain not in domains:
        text = f"{name}: there is no such domain. Set FLYTE_DOMAIN to one of {', '.join(domains)}."
        return Finding(subject="project", state="FAIL", text=text)
    return Finding(subject="project", state="ok", text=f"{name} exist")


def limits_finding(place: Place) -> Finding:
    """Whether the limits of a task's resources are above what the tasks request, as far as Flyte tells them."""
    from flytekit.exceptions.user import FlyteEntityNotExistException
    from flytekit.models.matchable_resource import MatchableResource

    requests = requests_of_tasks()
    most = {name: max((each.get(name, "0") for each in requests.values()), key=_amount) for name in _NAMES}
    asked = ", ".join(f"{name} {value}" for name, value in most.items())

    # An override for the project or the domain replaces the limits of the server's own configuration.
    try:
        resource = MatchableResource.TASK_RESOURCE
        answer = call(place.client.get_project_domain_attributes, place.project, place.domain, resource)
    except FlyteEntityNotExistException:
        return _unknown_limits_finding(place, most, asked)
    limits = answer.attributes.matching_attributes.task_resource_attributes.limits
    too_low = []
    for name in _NAMES:
        limit = getattr(limits, name)
        above = [task for task, each in requests.items() if limit and _amount(each.get(name, "0")) > _amount(limit)]
        if above:
            too_low.append(f"{name} {limit}, and {above[0]} requests {requests[above[0]][name]}")
    if too_low:
        text = (
            f"the limits of {place.project}-{place.domain} are too low: {'; '.join(too_low)}. Raise them (`flytectl "
            "update task-resource-attribute`), or request less by the settings."
        )
        return Finding(subject="limits", state="FAIL", text=text)
    text = f"the tasks request up to {asked}; the limits of {place.project}-{place.domain} allow it"
    return Finding(subject="limits", state="ok", text=text)


def version_finding(place: Place, version: str | None, *, is_dirty: bool) -> Finding:
    """Whether the commit of this checkout, with these settings, is registered.

    Args:
        version: That of a registration from here; None outside of a checkout.
        is_dirty: Whether files of the checkout differ from the commit.
    """
    from flytekit.exceptions.user import FlyteEntityNotExistException
    from flytekit.models.core.identifier import Identifier, ResourceType

    if version is None:
        text = "this is no git checkout, so it is not known which version of it would be registered"
        return Finding(subject="version", state="look", text=text)
    if is_dirty:
        text = "files differ from the commit: `make launch` sends them; commit them before you run `make register`."
        return Finding(subject="version", state="look", text=text)
    wanted = Identifier(ResourceType.LAUNCH_PLAN, place.project, place.domain, WORKFLOW, version)
    try:
        call(place.client.get_launch_plan, wanted)
    except FlyteEntityNotExistException:
        newest = _newest(place, "list_launch_plans_paginated", REFRESH)
        known = f"{newest.id.version} is the newest" if newest else "no version is"
        text = f"{known} that is registered; this checkout with these settings is {version}: run `make register`."
        return Finding(subject="version", state="look", text=text)
    return Finding(subject="version", state="ok", text=f"{version}, this checkout with these settings, is registered")


def schedule_finding(place: Place, settings: Settings, version: str | None, config: ExperimentConfig | None) -> Finding:
    """Whether the refresh is active, what it runs and when, and what differs from the settings here.

    Args:
        config: The configuration that a registration from here would schedule, if it can be used.
    """
    from flytekit.exceptions.user import FlyteEntityNotExistException
    from flytekit.models.common import NamedEntityIdentifier

    try:
        name = NamedEntityIdentifier(place.project, place.domain, REFRESH)
        plan = call(place.client.get_active_launch_plan, name)
    except FlyteEntityNotExistException:
        if settings.activate_schedule:
            text = f"{REFRESH} is not active, and FLYTE_LLAMA_ACTIVATE_SCHEDULE is 1: run `make register`."
            return Finding(subject="schedule", state="look", text=text)
        text = f"{REFRESH} is not active; FLYTE_LLAMA_ACTIVATE_SCHEDULE=1 activates it at registration"
        return Finding(subject="schedule", state="ok", text=text)

    schedule = plan.spec.entity_metadata.schedule
    if schedule is None or schedule.cron_schedule is None:
        text = (
            f"{REFRESH} is active in version {plan.id.version}, which has another kind of schedule or none. {_REPLACE}"
        )
        return Finding(subject="schedule", state="look", text=text)
    cron = schedule.cron_schedule.schedule
    active = _config_of(plan)
    shown = f"{REFRESH} is active: configuration {active.get('name')}, schedule {cron}, next at {_next_time(cron)}"
    differences = []
    if cron != settings.schedule:
        differences.append(f"FLYTE_LLAMA_SCHEDULE is {settings.schedule}")
    if active.get("name") != settings.refresh_config:
        differences.append(f"FLYTE_LLAMA_REFRESH_CONFIG is {settings.refresh_config}")
    elif config is not None and config.model_dump(mode="json") != active:
        differences.append(f"configs/{settings.refresh_config}.yaml is another one now")
    if version is not None and plan.id.version != version:
        differences.append(f"its version is {plan.id.version}, and this checkout with these settings is {version}")
    if not differences:
        return Finding(subject="schedule", state="ok", text=shown)
    return Finding(subject="schedule", state="look", text=f"{shown}; but {'; '.join(differences)}. {_REPLACE}")


def _amount(quantity: str) -> int:
    """A quantity of Kubernetes as a number, rounded up as Flyte does before it compares two."""
    from kubernetes.utils.quantity import parse_quantity

    return math.ceil(parse_quantity(quantity))


def _unknown_limits_finding(place: Place, most: Mapping[str, str], asked: str) -> Finding:
    """The limits in the server's own configuration. No call returns them, but the server accepted the registered tasks.

    Args:
        most: The most that any task requests of each resource, to which limits apply alike.
    """
    newest = _newest(place, "list_tasks_paginated", "flyte_llama.tasks.training.fine_tune")
    container = newest.closure.compiled_task.template.container if newest else None
    if newest and container:
        names = {1: "cpu", 2: "gpu", 3: "memory", 5: "ephemeral_storage"}  # flyteidl.core.Resources.ResourceName
        taken = {names.get(entry.name): entry.value for entry in container.resources.requests}
        if all(_amount(taken.get(name, "0")) >= _amount(value) for name, value in most.items()):
            text = f"Flyte took version {newest.id.version}, whose fine_tune requests as much as this one"
            return Finding(subject="limits", state="ok", text=text)
    text = (
        f"the tasks request up to {asked}. The project has no limits of its own, and Flyte does not tell those of its "
        "configuration, above which it refuses tasks: look for task_resources.limits in it (`kubectl -n flyte get "
        "configmap -o yaml`). By default they are cpu 2, memory 1Gi and gpu 1."
    )
    return Finding(subject="limits", state="look", text=text)


def _newest(place: Place, method: str, name: str) -> Any | None:
    """The newest version of a registered entity, or None."""
    from flytekit.models.admin.common import Sort
    from flytekit.models.common import NamedEntityIdentifier

    identifier = NamedEntityIdentifier(place.project, place.domain, name)
    newest_first = Sort("created_at", Sort.Direction.DESCENDING)
    found, _ = call(getattr(place.client, method), identifier, limit=1, sort_by=newest_first)
    return found[0] if found else None


def _config_of(plan: Any) -> dict[str, Any]:
    """The configuration that a launch plan runs, as its fields; a plan of an older package may have others."""
    import msgpack

    literal = plan.spec.default_inputs.parameters["config"].default
    return dict(msgpack.unpackb(literal.scalar.binary.value))


def _next_time(cron: str) -> str:
    from croniter import croniter

    return f"{croniter(cron, datetime.now(UTC)).get_next(datetime):%Y-%m-%d %H:%M} UTC"
