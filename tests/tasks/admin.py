"""A double of flyteadmin on loopback, on flyteidl's own services: it keeps what is created, and fires schedules.

It refuses what flyteadmin refuses: an unknown project or domain, other content under an identifier that exists,
requests above the limits, a schedule that is not cron or leaves an input open, and a run with other inputs, or with
more at a time, than its launch plan takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from flyteidl.admin import execution_pb2, launch_plan_pb2, matchable_resource_pb2, project_pb2, task_pb2, workflow_pb2
from flyteidl.admin.project_domain_attributes_pb2 import ProjectDomainAttributes, ProjectDomainAttributesGetResponse
from flyteidl.admin.version_pb2 import GetVersionResponse, Version
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflow, CompiledWorkflowClosure
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import LAUNCH_PLAN, TASK, Identifier, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.service import admin_pb2_grpc, auth_pb2, auth_pb2_grpc, dataproxy_pb2, dataproxy_pb2_grpc
from google.protobuf.message import Message

from tests.tasks.bucket import NAME as BUCKET
from tests.tasks.bucket import Bucket
from tests.tasks.refusals import Answers, Refusal, check_cron, check_resources, open_inputs, task_references

PROJECT, DOMAIN = "llama", "development"
Key = tuple[int, str, str, str, str]


class Admin:
    """The state of the double, and a function for each method of its services, by its name in lower case.

    A test reads and changes the state while the server runs.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.projects = {PROJECT: project_pb2.Project.ACTIVE}
        self.domains = ["development", "staging", "production"]
        self.limits = {"cpu": "96", "memory": "1Ti", "gpu": "8"}
        """`task_resources.limits` of the server's own configuration, which no service tells."""

        self.overrides: dict[str, str] | None = None
        """The limits that a matchable resource sets for the project; then those above do not count."""

        self.created: dict[Key, Any] = {}
        self.active: dict[tuple[str, str, str], str] = {}
        """The project, domain and name of a launch plan → the version of it that is active."""

        self.executions: dict[str, execution_pb2.Execution] = {}
        self.token: str | None = None
        """The token without which a request is refused, if the cluster asks for a login."""

        self.before: Callable[[str], None] = lambda method: None
        """Called with the name of each method; may wait, and may raise a Refusal."""

        self.port = 0

    def find(self, kind: int, name: str = "") -> list[Any]:
        """What was created of a kind, and under a name if one is given, in the order of creation."""
        return [each for key, each in list(self.created.items()) if key[0] == kind and name in ("", key[3])]

    def write_config(self, folder: Path) -> Path:
        """Write the configuration file by which flytekit finds this server."""
        file = folder / "flyte.yaml"
        file.write_text(f"admin:\n  endpoint: dns:///localhost:{self.port}\n  insecure: true\n")
        return file

    def fire(self, name: str) -> execution_pb2.Execution | None:
        """Start a launch plan as the scheduler does when its time has come; None if the run is skipped."""
        plan = self._get(self._active_id(PROJECT, DOMAIN, name))
        if not plan.spec.entity_metadata.schedule.cron_schedule.schedule:
            raise ValueError(f"{name} has no schedule")
        request = execution_pb2.ExecutionCreateRequest(project=PROJECT, domain=DOMAIN)
        request.spec.launch_plan.CopyFrom(plan.id)
        request.spec.metadata.mode = execution_pb2.ExecutionMetadata.SCHEDULED
        try:
            return self._execute(request)
        except Refusal as refusal:
            if refusal.status != grpc.StatusCode.ALREADY_EXISTS:
                raise
            return None

    # tasks, workflows, launch plans

    def create_task(self, request: Any) -> Message:
        self._check_place(request.id)
        check_resources(request.spec.template, self.limits if self.overrides is None else self.overrides)
        self._keep(request, "task")
        return task_pb2.TaskCreateResponse()

    def create_workflow(self, request: Any) -> Message:
        self._check_place(request.id)
        for reference in task_references(request.spec):
            if _key(reference) not in self.created:
                raise Refusal(f"failed to compile workflow for [{request.id.name}]: there is no task {reference.name}")
        self._keep(request, "workflow")
        return workflow_pb2.WorkflowCreateResponse()

    def create_launch_plan(self, request: Any) -> Message:
        self._check_place(request.id)
        unbound = self._open_inputs(request.spec)
        cron = request.spec.entity_metadata.schedule.cron_schedule.schedule
        if cron:
            check_cron(cron)
            if unbound:
                raise Refusal(f"Cannot create a launch plan with a schedule: {unbound} are required")
        self._keep(request, "launch plan")
        return launch_plan_pb2.LaunchPlanCreateResponse()

    def update_launch_plan(self, request: Any) -> Message:
        self._get(request.id)
        name = (request.id.project, request.id.domain, request.id.name)
        if request.state == launch_plan_pb2.ACTIVE:
            self.active[name] = request.id.version
        elif self.active.get(name) == request.id.version:
            del self.active[name]
        return launch_plan_pb2.LaunchPlanUpdateResponse()

    def list_tasks(self, request: Any) -> Message:
        return task_pb2.TaskList(tasks=[_task(each) for each in self._newest(TASK, request)])

    def get_workflow(self, request: Any) -> Message:
        created = self._get(request.id)
        tasks = {_key(reference): self._get(reference) for reference in task_references(created.spec)}
        closure = CompiledWorkflowClosure(
            primary=CompiledWorkflow(template=created.spec.template),
            sub_workflows=[CompiledWorkflow(template=each) for each in created.spec.sub_workflows],
            tasks=[CompiledTask(template=each.spec.template) for each in tasks.values()],
        )
        return workflow_pb2.Workflow(id=created.id, closure=workflow_pb2.WorkflowClosure(compiled_workflow=closure))

    def get_launch_plan(self, request: Any) -> Message:
        return self._plan(self._get(request.id))

    def get_active_launch_plan(self, request: Any) -> Message:
        return self._plan(self._get(self._active_id(request.id.project, request.id.domain, request.id.name)))

    def list_launch_plans(self, request: Any) -> Message:
        return launch_plan_pb2.LaunchPlanList(
            launch_plans=[self._plan(each) for each in self._newest(LAUNCH_PLAN, request)]
        )

    # executions

    def create_execution(self, request: Any) -> Message:
        return execution_pb2.ExecutionCreateResponse(id=self._execute(request).id)

    def get_execution(self, request: Any) -> Message:
        if request.id.name not in self.executions:
            raise Refusal(f"missing execution {request.id.name}", grpc.StatusCode.NOT_FOUND)
        return self.executions[request.id.name]

    # the platform

    def get_version(self, request: Any) -> Message:
        return GetVersionResponse(control_plane_version=Version(Version="v1.16.8"))

    def list_projects(self, request: Any) -> Message:
        wanted = re.fullmatch(r"eq\(identifier,(.*)\)", request.filters)
        names = [name for name in self.projects if not wanted or name == wanted[1]]
        return project_pb2.Projects(
            projects=[project_pb2.Project(id=each, state=self.projects[each]) for each in names]
        )

    def get_domains(self, request: Any) -> Message:
        return project_pb2.GetDomainsResponse(domains=[project_pb2.Domain(id=name) for name in self.domains])

    def get_project_domain_attributes(self, request: Any) -> Message:
        if self.overrides is None or request.resource_type != matchable_resource_pb2.TASK_RESOURCE:
            raise Refusal("Resource not found", grpc.StatusCode.NOT_FOUND)
        limits = matchable_resource_pb2.TaskResourceSpec(**self.overrides)
        attributes = ProjectDomainAttributes(project=request.project, domain=request.domain)
        attributes.matching_attributes.task_resource_attributes.limits.CopyFrom(limits)
        return ProjectDomainAttributesGetResponse(attributes=attributes)

    def create_upload_location(self, request: Any) -> Message:
        folder = request.filename_root or request.content_md5.hex()
        key = f"upload/{request.project}/{request.domain}/{folder}/{request.filename}"
        return dataproxy_pb2.CreateUploadLocationResponse(
            signed_url=f"http://127.0.0.1:{self.bucket.port}/{BUCKET}/{key}", native_url=f"s3://{BUCKET}/{key}"
        )

    def get_public_client_config(self, request: Any) -> Message:
        return auth_pb2.PublicClientAuthConfigResponse(client_id="flytectl")

    def get_oauth2_metadata(self, request: Any) -> Message:
        return auth_pb2.OAuth2MetadataResponse(issuer="http://127.0.0.1:1")

    # helpers

    def _check_place(self, identifier: Any) -> None:
        if self.projects.get(identifier.project) != project_pb2.Project.ACTIVE:
            raise Refusal(f"failed to validate that project [{identifier.project}] is registered")
        if identifier.domain not in self.domains:
            raise Refusal(f"domain [{identifier.domain}] is unrecognized by system")

    def _keep(self, request: Any, kind: str) -> None:
        """Keep a new entity; refuse one whose identifier exists, with a status by whether its content is the same."""
        kept = self.created.setdefault(_key(request.id), request)
        if kept is request:
            return
        if kept.spec == request.spec:
            raise Refusal(f"{kind} with identical structure already exists", grpc.StatusCode.ALREADY_EXISTS)
        raise Refusal(f"{request.id.name} {kind} with different structure already exists. Register a new version.")

    def _get(self, identifier: Any) -> Any:
        if _key(identifier) not in self.created:
            name = f"{identifier.name} {identifier.version}"
            raise Refusal(f"missing entity {name}", grpc.StatusCode.NOT_FOUND)
        return self.created[_key(identifier)]

    def _newest(self, kind: int, request: Any) -> list[Any]:
        found = [each for each in reversed(self.find(kind, request.id.name)) if each.id.project == request.id.project]
        return [each for each in found if each.id.domain == request.id.domain][: request.limit]

    def _active_id(self, project: str, domain: str, name: str) -> Identifier:
        version = self.active.get((project, domain, name))
        if version is None:
            raise Refusal(f"No active launch plan could be found: {name}", grpc.StatusCode.NOT_FOUND)
        return Identifier(resource_type=LAUNCH_PLAN, project=project, domain=domain, name=name, version=version)

    def _open_inputs(self, spec: Any) -> list[str]:
        return open_inputs(spec, self._get(spec.workflow_id).spec.template.interface.inputs.variables)

    def _plan(self, created: Any) -> launch_plan_pb2.LaunchPlan:
        interface = self._get(created.spec.workflow_id).spec.template.interface
        is_active = self.active.get((created.id.project, created.id.domain, created.id.name)) == created.id.version
        plan = launch_plan_pb2.LaunchPlan(id=created.id, spec=created.spec)
        plan.closure.state = launch_plan_pb2.ACTIVE if is_active else launch_plan_pb2.INACTIVE
        plan.closure.expected_inputs.CopyFrom(created.spec.default_inputs)
        for name in self._open_inputs(created.spec):
            plan.closure.expected_inputs.parameters[name].var.CopyFrom(interface.inputs.variables[name])
            plan.closure.expected_inputs.parameters[name].required = True
        plan.closure.expected_outputs.CopyFrom(interface.outputs)
        return plan

    def _execute(self, request: Any) -> execution_pb2.Execution:
        """Start a run of a launch plan; its inputs are in `closure.computed_inputs`."""
        plan, given = self._get(request.spec.launch_plan), dict(request.inputs.literals)
        running = [each for each in self.executions.values() if each.closure.phase == WorkflowExecution.RUNNING]
        others = [each for each in running if each.spec.launch_plan.name == plan.id.name]
        limit = plan.spec.concurrency_policy.max
        if limit and len(others) >= limit:
            message = f"concurrency limit ({limit}) reached for launch plan {plan.id.name}; skipping execution"
            raise Refusal(message, grpc.StatusCode.ALREADY_EXISTS)
        open_names = self._open_inputs(plan.spec)
        defaults = plan.spec.default_inputs.parameters
        if set(given) - {*open_names, *defaults} or set(open_names) - set(given):
            raise Refusal(f"invalid inputs {sorted(given)}, expected {open_names} and perhaps {sorted(defaults)}")
        inputs = {name: parameter.default for name, parameter in defaults.items()} | given
        inputs |= dict(plan.spec.fixed_inputs.literals)
        name = request.name or f"run{len(self.executions)}"
        identifier = WorkflowExecutionIdentifier(project=request.project, domain=request.domain, name=name)
        execution = execution_pb2.Execution(id=identifier, spec=request.spec)
        execution.closure.phase = WorkflowExecution.RUNNING
        execution.closure.workflow_id.CopyFrom(plan.spec.workflow_id)
        execution.closure.computed_inputs.CopyFrom(LiteralMap(literals=inputs))
        self.executions[name] = execution
        return execution


@contextmanager
def serve_admin(bucket: Bucket) -> Iterator[Admin]:
    """An admin that answers on loopback within this context; what is uploaded goes to the bucket."""
    admin = Admin(bucket)
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[Answers(admin)])
    admin_pb2_grpc.add_AdminServiceServicer_to_server(admin_pb2_grpc.AdminServiceServicer(), server)
    dataproxy_pb2_grpc.add_DataProxyServiceServicer_to_server(dataproxy_pb2_grpc.DataProxyServiceServicer(), server)
    auth_pb2_grpc.add_AuthMetadataServiceServicer_to_server(auth_pb2_grpc.AuthMetadataServiceServicer(), server)
    admin.port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield admin
    finally:
        server.stop(None)


def _key(identifier: Any) -> Key:
    kind = identifier.resource_type
    return kind, identifier.project, identifier.domain, identifier.name, identifier.version


def _task(created: Any) -> task_pb2.Task:
    compiled = CompiledTask(template=created.spec.template)
    return task_pb2.Task(id=created.id, closure=task_pb2.TaskClosure(compiled_task=compiled))
