"""`flyte-llama doctor` says in one line each what a run on the cluster lacks, with exit code 2 if it would fail."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import keyring
import pytest
from click.testing import CliRunner
from flyteidl.admin.launch_plan_pb2 import LaunchPlanCreateRequest
from flyteidl.admin.project_pb2 import Project
from flyteidl.admin.schedule_pb2 import FixedRateUnit
from flyteidl.admin.task_pb2 import TaskCreateRequest
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest
from flyteidl.core.identifier_pb2 import LAUNCH_PLAN, TASK, WORKFLOW, Identifier
from flyteidl.core.literals_pb2 import Literal
from flyteidl.core.tasks_pb2 import Resources
from flytekit import FlyteContext
from flytekit.configuration.file import get_config_file
from flytekit.core.type_engine import TypeEngine
from keyring.backend import KeyringBackend
from keyring.backends import fail, null

from flyte_llama.cli import doctor, main
from flyte_llama.cluster import backend, connection
from flyte_llama.cluster.pods import requests_of_tasks
from flyte_llama.cluster.registry import parse_image
from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.settings import read_settings, settings_digest
from tests.tasks.admin import DOMAIN, PROJECT, Admin, serve_admin
from tests.tasks.bucket import Bucket
from tests.tasks.refusals import Refusal

CONFIGS = Path(__file__).parents[2] / "configs"
COMMIT = "0123456789ab"
REFRESH = "flyte_llama.weekly_refresh"
TRAIN = "flyte_llama.workflows.train_flyte_llama"
SUBJECTS = ["settings", "connection", "gpu", "nodes", "secrets", "image", "project", "limits", "version", "schedule"]


class Registry(ThreadingHTTPServer):
    """A registry that has one image, `team/flyte-llama:there`, and shows it to who has fetched a token."""

    daemon_threads = True

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        repository, _, tag = self.path.removeprefix("/v2/").partition("/manifests/")
        if self.headers.get("Authorization") == "Bearer anyone" and repository != "team/private":
            self._end(200 if (repository, tag) == ("team/flyte-llama", "there") else 404)
        else:
            scope = f"repository:{repository}:pull"
            challenge = f'Bearer realm="http://{self.server.host}/token",service="registry",scope="{scope}"'  # type: ignore[attr-defined]
            self._end(401, challenge=challenge)

    def do_GET(self) -> None:
        scoped = self.path.startswith("/token?service=registry&scope=repository%3Ateam%2F")
        self._end(200 if scoped else 400, b'{"token": "anyone"}')

    def _end(self, status: int, body: bytes = b"", challenge: str = "") -> None:
        self.send_response(status)
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def admin(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Admin]:
    """A cluster on which a run of this checkout lacks nothing, and the environment that leads to it."""
    with serve_admin(Bucket()) as server:
        monkeypatch.setenv("FLYTECTL_CONFIG", str(server.write_config(tmp_path)))
        monkeypatch.setenv("FLYTE_PROJECT", PROJECT)
        monkeypatch.setenv("IMAGE", f"{registry.host}/team/flyte-llama:there")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setattr(doctor, "describe_checkout", lambda: COMMIT)
        server.overrides = {"cpu": "96", "memory": "1Ti", "gpu": "8"}
        get_config_file.cache_clear()
        register(server)
        yield server
    get_config_file.cache_clear()


@functools.cache
def config_literal(name: str) -> Literal:
    """A shipped configuration as registration sends it."""
    kind = TypeEngine.to_literal_type(ExperimentConfig)
    config = load_config(CONFIGS / f"{name}.yaml")
    return TypeEngine.to_literal(FlyteContext.current_context(), config, ExperimentConfig, kind).to_flyte_idl()


def register(admin: Admin, *, has_rate: bool = False) -> None:
    """Register the workflow and its refresh under the version of this environment, and activate the refresh.

    Args:
        has_rate: Schedule the refresh for each week, not for a time of the week.
    """
    version = f"{COMMIT}-{settings_digest(read_settings())}"

    def identify(kind: int, name: str) -> Identifier:
        return Identifier(resource_type=kind, project=PROJECT, domain=DOMAIN, name=name, version=version)

    workflow = WorkflowCreateRequest(id=identify(WORKFLOW, TRAIN))
    workflow.spec.template.interface.inputs.variables["config"].description = "the experiment"
    admin.create_workflow(workflow)
    for name in (TRAIN, REFRESH):
        plan = LaunchPlanCreateRequest(id=identify(LAUNCH_PLAN, name))
        plan.spec.workflow_id.CopyFrom(workflow.id)
        if name == REFRESH:
            plan.spec.default_inputs.parameters["config"].default.CopyFrom(config_literal("code_llama_7b_lora"))
            schedule = plan.spec.entity_metadata.schedule
            if has_rate:
                schedule.rate.value, schedule.rate.unit = 7, FixedRateUnit.DAY
            else:
                schedule.cron_schedule.schedule = "0 6 * * 1"
        admin.create_launch_plan(plan)
    admin.active[(PROJECT, DOMAIN, REFRESH)] = version


def run(*arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code, and subject → state and text of each line."""
    result = CliRunner().invoke(main, ["doctor", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    lines = {}
    for line in result.stdout.splitlines():
        state, subject, text = line.split(None, 2)
        lines[subject] = (state, text)
    return result.exit_code, lines


def test_a_cluster_that_lacks_nothing_fails_nothing(admin: Admin):
    code, lines = run("--config", str(CONFIGS / "local.yaml"))
    assert code == 0
    assert sorted(lines) == sorted([*SUBJECTS, "configuration"])
    states = {subject: state for subject, (state, _) in lines.items()}
    # Flyte does not tell which labels its nodes have.
    assert states == {**dict.fromkeys(states, "ok"), "gpu": "look"}
    assert lines["connection"][1].startswith(f"localhost:{admin.port} (from ")
    assert lines["connection"][1].endswith("Flyte v1.16.8 answers without TLS")
    assert "gpu-device-node-label" in lines["gpu"][1]
    assert "is nvidia-a100-80gb." in lines["gpu"][1]
    assert "configuration code_llama_7b_lora, schedule 0 6 * * 1, next at 20" in lines["schedule"][1]


def refuse(status: grpc.StatusCode, message: str, *, method: str = "") -> Callable[[str], None]:
    def answer(called: str) -> None:
        if method in ("", called):
            raise Refusal(message, status)

    return answer


@pytest.mark.parametrize(
    ("change", "subject", "words"),
    [
        ({"projects": {}}, "project", "there is no such project. Create it (`flytectl create project --id llama"),
        ({"projects": {PROJECT: Project.ARCHIVED}}, "project", "the project is archived."),
        ({"domains": ["beta", "prod"]}, "project", "there is no such domain. Set FLYTE_DOMAIN to one of beta, prod."),
        ({"overrides": {"cpu": "2", "gpu": "8"}}, "limits", "cpu 2, and fine_tune requests 64. Raise them (`flytectl"),
        ({"overrides": {"ephemeral_storage": "100Gi"}}, "limits", "ephemeral_storage 100Gi, and fine_tune requests"),
        (
            {"before": refuse(grpc.StatusCode.INTERNAL, "database is gone\n at line 3", method="GetActiveLaunchPlan")},
            "schedule",
            "database is gone",
        ),
    ],
)
def test_what_the_cluster_lacks_is_named(admin: Admin, change: dict[str, object], subject: str, words: str):
    for name, value in change.items():
        setattr(admin, name, value)
    code, lines = run()
    assert code == 2
    assert [each for each, (state, _) in lines.items() if state == "FAIL"] == [subject]
    assert words in lines[subject][1]


@pytest.mark.parametrize("status", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED])
def test_what_the_cluster_does_not_tell_to_this_user_fails_nothing(admin: Admin, status: grpc.StatusCode):
    admin.before = refuse(status, "not for you", method="GetProjectDomainAttributes")
    code, lines = run()
    assert (code, lines["limits"]) == (0, ("look", f"not for you ({status.name})."))


def test_outside_of_a_checkout_the_image_must_be_named(admin: Admin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "describe_checkout", lambda: "")
    code, lines = run()
    assert (code, lines["image"][0], lines["version"][0]) == (0, "ok", "look")
    monkeypatch.delenv("IMAGE")
    code, lines = run()
    assert (code, lines["image"][0]) == (2, "FAIL")


def test_limits_that_flyte_does_not_tell_are_not_guessed(admin: Admin):
    admin.overrides = None
    code, lines = run()
    assert (code, lines["limits"][0]) == (0, "look")
    assert "By default they are cpu 2, memory 1Gi and gpu 1." in lines["limits"][1]


def test_limits_that_flyte_does_not_tell_allow_what_is_registered(admin: Admin, monkeypatch: pytest.MonkeyPatch):
    admin.overrides = None
    name = "flyte_llama.tasks.training.fine_tune"
    task = TaskCreateRequest(id=Identifier(resource_type=TASK, project=PROJECT, domain=DOMAIN, name=name, version="v7"))
    for kind, value in (("CPU", "64"), ("MEMORY", "800Gi"), ("GPU", "8"), ("EPHEMERAL_STORAGE", "400Gi")):
        task.spec.template.container.resources.requests.add(name=Resources.ResourceName.Value(kind), value=value)
    admin.create_task(task)
    assert run()[1]["limits"] == ("ok", "Flyte took version v7, whose fine_tune requests as much as this one")
    # Limits are the same for all tasks, so what one of them requests beyond that may be refused.
    requests = requests_of_tasks() | {"build_corpus": {"cpu": "65"}}
    monkeypatch.setattr(backend, "requests_of_tasks", lambda: requests)
    assert run()[1]["limits"][0] == "look"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("admin: {endpoint: dns:///localhost:1, insecure: true}", "nothing listens there. Correct host and port"),
        ("admin: {endpoint: dns:///localhost:PORT}", "it does not speak TLS. Set admin.insecure to true."),
        ("admin: [", "is no YAML with keys"),
        ("admin: x", "has no admin.endpoint. Write it as flytectl does."),
        (None, "there is no such file"),
    ],
    ids=["refused", "TLS", "no YAML", "no keys", "no file"],
)
def test_a_connection_that_fails_is_explained_and_the_rest_is_still_looked_at(
    admin: Admin, tmp_path: Path, text: str | None, words: str
):
    file = tmp_path / "flyte.yaml"
    if text is None:
        file.unlink()
    else:
        file.write_text(text.replace("PORT", str(admin.port)))
    code, lines = run()
    assert (code, lines["connection"][0]) == (2, "FAIL")
    assert words in lines["connection"][1]
    assert lines["image"][0] == "ok"
    assert lines["cluster"][0] == "look"


@pytest.mark.parametrize(
    ("store", "expected", "words"),
    [
        (null.Keyring(), (2, "FAIL"), "asks for a login, and none is stored here. `make register` opens it"),
        (fail.Keyring(), (0, "look"), "asks for a login, and this machine has no keyring that keeps one"),
    ],
    ids=["empty keyring", "no keyring"],
)
def test_a_login_that_is_wanted_is_not_started(
    admin: Admin, store: KeyringBackend, expected: tuple[int, str], words: str, monkeypatch: pytest.MonkeyPatch
):
    admin.token = "let me in"  # noqa: S105  # of this test
    monkeypatch.setattr(keyring.core, "_keyring_backend", store)
    code, lines = run()
    assert (code, lines["connection"][0]) == expected
    assert words in lines["connection"][1]


@pytest.mark.parametrize(
    ("token", "expected", "words"), [("open", 0, "logged in"), ("other", 2, "the login was refused")]
)
def test_a_login_by_a_command_is_used(admin: Admin, tmp_path: Path, token: str, expected: int, words: str):
    admin.token = "open"  # noqa: S105  # of this test
    file = tmp_path / "flyte.yaml"
    file.write_text(f"{file.read_text()}  authType: ExternalCommand\n  command: [echo, {token}]\n")
    code, lines = run()
    assert code == expected
    assert words in lines["connection"][1]


def test_a_cluster_that_answers_slowly_is_waited_for(admin: Admin):
    admin.before = lambda method: time.sleep(0.3)
    assert run()[0] == 0


@pytest.mark.parametrize(("silent", "subject"), [("ListProjects", "connection"), ("GetDomains", "project")])
def test_a_cluster_that_does_not_answer_ends_the_wait(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, silent: str, subject: str
):
    monkeypatch.setattr(connection, "CALL_LIMIT_S", 0.3)
    admin.before = lambda method: time.sleep(2) if method == silent else None
    start = time.monotonic()
    code, lines = run()
    assert time.monotonic() - start < 10
    assert (code, lines[subject][0]) == (2, "FAIL")
    assert "no answer within" in lines[subject][1]


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("team/flyte-llama:gone", "FAIL", "is not in its registry. Run `make image IMAGE="),
        ("team/private:1", "look", "its registry does not tell it without a login (HTTP 401)"),
    ],
)
def test_an_image_is_asked_for_in_its_registry(
    admin: Admin, registry: Registry, monkeypatch: pytest.MonkeyPatch, name: str, state: str, words: str
):
    monkeypatch.setenv("IMAGE", f"{registry.host}/{name}")
    code, lines = run()
    assert (code, lines["image"][0]) == (2 if state == "FAIL" else 0, state)
    assert words in lines["image"][1]


@pytest.mark.parametrize("name", ["{}:1", "docker.io/{}:1", "index.docker.io/{}:1"])
@pytest.mark.parametrize(("short", "repository"), [("team/llama", "team/llama"), ("ubuntu", "library/ubuntu")])
def test_every_name_of_docker_hub_leads_to_its_registry(name: str, short: str, repository: str):
    assert parse_image(name.format(short)) == ("registry-1.docker.io", repository, "1")


def test_a_registry_that_does_not_answer_fails_nothing(admin: Admin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IMAGE", "localhost:1/flyte-llama:1")
    code, lines = run()
    assert (code, lines["image"][0]) == (0, "look")
    assert "its registry does not answer from here" in lines["image"][1]


def test_what_differs_between_the_active_schedule_and_the_settings_is_named(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
):
    registered = f"{COMMIT}-{settings_digest(read_settings())}"
    monkeypatch.setenv("FLYTE_LLAMA_SCHEDULE", "30 4 * * 6")
    monkeypatch.setenv("FLYTE_LLAMA_REFRESH_CONFIG", "smollm2_135m")
    code, lines = run()
    here = f"{COMMIT}-{settings_digest(read_settings())}"
    assert (code, lines["schedule"][0], lines["version"][0]) == (0, "look", "look")
    assert "FLYTE_LLAMA_SCHEDULE is 30 4 * * 6; FLYTE_LLAMA_REFRESH_CONFIG is smollm2_135m" in lines["schedule"][1]
    assert f"its version is {registered}, and this checkout with these settings is {here}" in lines["schedule"][1]
    assert lines["version"][1].startswith(f"{registered} is the newest that is registered; ")


def test_a_schedule_that_is_not_active_is_no_fault_unless_it_is_wanted(admin: Admin, monkeypatch: pytest.MonkeyPatch):
    admin.active.clear()
    assert run()[1]["schedule"][0] == "ok"
    monkeypatch.setenv("FLYTE_LLAMA_ACTIVATE_SCHEDULE", "1")
    assert run()[1]["schedule"] == (
        "look",
        f"{REFRESH} is not active, and FLYTE_LLAMA_ACTIVATE_SCHEDULE is 1: run `make register`.",
    )


def test_changes_that_are_not_committed_are_named(admin: Admin, registry: Registry, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "describe_checkout", lambda: f"{COMMIT}-dirty")
    monkeypatch.setenv("IMAGE", f"{registry.host}/team/flyte-llama:gone")
    lines = run()[1]
    assert lines["version"][1].startswith("files differ from the commit: `make launch` sends them")
    assert "Commit your changes first" in lines["image"][1]
    assert "make image" not in lines["image"][1]


def test_the_command_that_builds_an_image_gives_it_what_the_configuration_needs(
    admin: Admin, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    image = f"{registry.host}/team/flyte-llama:cpu"
    monkeypatch.setenv("IMAGE_CPU", image)
    file = tmp_path / "reporting.yaml"
    file.write_text((CONFIGS / "local.yaml").read_text().replace("training:", "training:\n  report_to: [mlflow]", 1))
    monkeypatch.setenv("FLYTE_LLAMA_MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    command = f"make image-cpu IMAGE_CPU={image} TORCH_INDEX=CPU_INDEX REPORTERS='mlflow-skinny' && docker push {image}"
    assert f"Run `{command}` (CPU_INDEX: " in run("--config", str(file))[1]["image"][1]


def test_the_version_that_make_would_register_is_looked_for(admin: Admin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VERSION", "v8")
    assert f"this checkout with these settings is v8-{settings_digest(read_settings())}" in run()[1]["version"][1]


def test_an_active_schedule_of_another_kind_is_named(admin: Admin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYTE_LLAMA_SPOT", "0")  # another version
    register(admin, has_rate=True)
    code, lines = run()
    assert (code, lines["schedule"][0]) == (0, "look")
    assert "which has another kind of schedule or none. Run `make register`" in lines["schedule"][1]


def test_a_bad_setting_and_a_bad_configuration_are_findings(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("FLYTE_LLAMA_SPOT", "maybe")
    (tmp_path / "bad.yaml").write_text("training: {epochs: 0}\nmodel: {nam: x}\n")
    code, lines = run("--config", str(tmp_path / "bad.yaml"))
    assert code == 2
    assert lines["settings"] == ("FAIL", "FLYTE_LLAMA_SPOT = 'maybe': is neither 1 nor 0. Set one of them.")
    assert lines["configuration"][0] == "FAIL"
    assert "training.epochs = 0" in lines["configuration"][1]
    assert "model.nam" in lines["configuration"][1]
    assert lines["project"][0] == "ok"


def test_publishing_without_a_hub_token_fails(admin: Admin, tmp_path: Path):
    file = tmp_path / "publishing.yaml"
    file.write_text(f"{(CONFIGS / 'local.yaml').read_text()}  published: none\npublish: {{repository: owner/model}}\n")
    code, lines = run("--config", str(file))
    assert (code, lines["secrets"][0]) == (2, "FAIL")
    assert lines["secrets"][1].endswith("no task gets a hub token. Set FLYTE_LLAMA_SECRET_GROUP.")
