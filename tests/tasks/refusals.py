"""What flyteadmin refuses, as in flyteadmin/pkg/manager/impl/validation, and how its server answers then."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
from flyteidl.core.tasks_pb2 import Resources
from google.protobuf.json_format import MessageToDict
from kubernetes.utils.quantity import parse_quantity


class Refusal(Exception):  # noqa: N818  # the answer of a server, not a fault of the test
    """The status and the message that a request is answered with."""

    def __init__(self, message: str, status: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.status = status


class Answers(grpc.ServerInterceptor):
    """Answers each method by the function of an object with its name in lower case, such as `create_task`.

    A Refusal becomes the status of the answer. The object's `token` is asked of every request but those of a login, and
    its `before` is called with the method's name.
    """

    def __init__(self, answering: Any) -> None:
        self._answering = answering

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler, (_, service, method) = continuation(details), details.method.split("/")
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", method).lower()
        if handler is None or not hasattr(self._answering, name):
            return handler
        wanted = f"Bearer {self._answering.token}" if self._answering.token and "Auth" not in service else None

        def answer(request: Any, context: Any) -> Any:
            try:
                if wanted not in (None, dict(context.invocation_metadata()).get("authorization")):
                    raise Refusal("token parse error", grpc.StatusCode.UNAUTHENTICATED)
                self._answering.before(method)
                return getattr(self._answering, name)(request)
            except Refusal as refusal:
                context.abort(refusal.status, str(refusal))

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


def check_resources(template: Any, limits: Mapping[str, str]) -> None:
    """Refuse a task that requests more than its own limits, or than those of the platform; Go rounds both up."""
    for name, request, limit in _asked(template):
        if limit is not None and math.ceil(request) > math.ceil(limit):
            raise Refusal(f"Requested {name} default [{request}] is greater than the limit [{limit}].")
        platform = limits.get(name)
        if platform and math.ceil(request) > math.ceil(parse_quantity(platform)):
            where = "current limit set in the platform configuration"
            raise Refusal(f"Requested {name} default [{request}] is greater than {where} [{platform}].")


def check_cron(text: str) -> None:
    """Refuse what the scheduler's reader, `ParseStandard` of github.com/unionai/cron, refuses."""
    fields, bounds = text.split(), ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    if len(fields) != len(bounds):
        raise Refusal(f"Invalid cron expression: expected exactly 5 fields, found {len(fields)}")
    for field, (low, high) in zip(fields, bounds, strict=True):
        for part in field.lower().split(","):
            if not re.fullmatch(r"([*?]|\d+(-\d+)?|[a-z]{3}(-[a-z]{3})?)(/\d+)?", part):
                raise Refusal(f"Invalid cron expression: failed to parse {part}")
            for number in re.findall(r"\d+", part.partition("/")[0]):
                if not low <= int(number) <= high:
                    raise Refusal(f"Invalid cron expression: {number} is not in {low} to {high}")


def open_inputs(spec: Any, workflow_inputs: Mapping[str, Any]) -> list[str]:
    """The inputs that a launch plan leaves open; refuse values for inputs that its workflow does not have."""
    defaults, fixed = spec.default_inputs.parameters, set(spec.fixed_inputs.literals)
    for name in sorted({*defaults, *fixed} - set(workflow_inputs)):
        raise Refusal(f"unexpected default_input {name}")
    given = {name for name, parameter in defaults.items() if parameter.WhichOneof("behavior") == "default"}
    return sorted(set(workflow_inputs) - given - fixed)


def task_references(spec: Any) -> Iterator[Any]:
    """The identifiers of the tasks in a workflow and its subworkflows."""
    for template in (spec.template, *spec.sub_workflows):
        failure = [template.failure_node] if template.HasField("failure_node") else []
        for node in (*template.nodes, *failure):
            inner = node.array_node.node if node.HasField("array_node") else node
            if inner.HasField("task_node"):
                yield inner.task_node.reference_id


def _asked(template: Any) -> Iterator[tuple[str, Any, Any]]:
    """The name, request and limit (or None) of each resource of a task, which has a container, or a pod."""
    if template.HasField("k8s_pod"):
        for container in MessageToDict(template.k8s_pod.pod_spec)["containers"]:
            resources = container.get("resources", {})
            limits = {name: parse_quantity(value) for name, value in resources.get("limits", {}).items()}
            for name, value in resources.get("requests", {}).items():
                yield name, parse_quantity(value), limits.get(name)
        return
    resources = template.container.resources
    limits = {entry.name: parse_quantity(entry.value) for entry in resources.limits}
    for entry in resources.requests:
        yield Resources.ResourceName.Name(entry.name).lower(), parse_quantity(entry.value), limits.get(entry.name)
