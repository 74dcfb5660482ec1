"""The specs sent at registration: images, resources, accelerators, secrets, retries, caches, schedules."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.plugins.kubeflow.pytorch_pb2 import DistributedPyTorchTrainingTask
from flytekit import Secret
from flytekit.models.concurrency import ConcurrencyLimitBehavior
from flytekit.models.task import TaskSpec
from flytekit.remote import FlyteRemote
from google.protobuf.json_format import ParseDict

from flyte_llama.settings import read_settings
from flyte_llama.tasks.registration import DIGEST, count_settings
from tests.tasks.conftest import Registered, register_with

CPU, GPU, MEMORY, STORAGE = 1, 2, 3, 5  # flyteidl.core.Resources.ResourceName
ROOT = Path(__file__).parents[2]
FAILURES = {WorkflowExecution.FAILED, WorkflowExecution.TIMED_OUT, WorkflowExecution.ABORTED}
WORKFLOWS = ("train_flyte_llama", "tune_batch_size", "sweep", "complete_prompts")
TASKS = {
    # name: (cpu, gpu, memory, retries, cached, interruptible)
    "start_run": ("1", None, "1Gi", 3, False, None),
    "pin_sources": ("1", None, "1Gi", 3, False, None),
    "pin_model": ("1", None, "1Gi", 3, False, None),
    "read_source": ("2", None, "8Gi", 3, True, None),
    "build_corpus": ("4", None, "16Gi", 1, True, None),
    "prepare_base": ("4", None, "16Gi", 3, True, None),
    "encode": ("4", None, "16Gi", 1, True, None),
    "fine_tune": ("64", "8", "800Gi", 3, True, True),
    "fine_tune_on_nodes": ("64", "8", "800Gi", 3, True, True),
    "mine_flyte_eval": ("4", None, "16Gi", 1, True, None),
    "build_suite": ("4", None, "16Gi", 1, True, None),
    "pin_published": ("1", None, "1Gi", 3, False, None),
    "prepare_published": ("4", None, "16Gi", 3, True, None),
    "map_prepare_published": ("4", None, "16Gi", 3, True, None),
    "pair": ("1", None, "1Gi", 1, False, None),
    "evaluate": ("8", "1", "100Gi", 3, True, True),
    "map_evaluate": ("8", "1", "100Gi", 3, True, True),
    "join_shards": ("4", None, "16Gi", 1, True, None),
    "report": ("1", None, "1Gi", 1, False, None),
    "publish": ("4", None, "16Gi", 1, False, None),
    "report_failure": ("2", None, "8Gi", 1, False, None),
    "report_sweep_failure": ("2", None, "8Gi", 1, False, None),
    "batch_sizes": ("1", None, "1Gi", 1, False, None),
    "try_batch_size": ("64", "8", "800Gi", 1, True, True),
    "choose_batch_size": ("1", None, "1Gi", 1, False, None),
    "sweep_configs": ("1", None, "1Gi", 1, False, None),
    "try_point": ("64", "8", "800Gi", 3, True, True),
    "choose_point": ("1", None, "1Gi", 1, False, None),
    "read_prompts": ("2", None, "8Gi", 3, False, None),
    "prepare_completing": ("4", None, "16Gi", 3, False, None),
    "complete_shard": ("8", "1", "100Gi", 3, True, True),
    "map_complete_shard": ("8", "1", "100Gi", 3, True, True),
    "collect_completions": ("2", None, "8Gi", 3, False, None),
    "report_completion_failure": ("2", None, "8Gi", 1, False, None),
    "map_read_source": ("2", None, "8Gi", 3, True, None),
    "map_try_batch_size": ("64", "8", "800Gi", 1, True, True),
    "map_try_point": ("64", "8", "800Gi", 3, True, True),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_asks_for_what_it_needs(registered: Registered, name: str):
    cpu, gpu, memory, retries, cached, interruptible = TASKS[name]
    template = next(
        spec.template for full, spec in registered.tasks.items() if re.fullmatch(f"{name}(_[0-9a-f]{{32}}.*)?", full)
    )
    requests = {entry.name: entry.value for entry in template.container.resources.requests}
    assert (requests[CPU], requests.get(GPU), requests[MEMORY]) == (cpu, gpu, memory)
    assert STORAGE in requests
    assert requests == {entry.name: entry.value for entry in template.container.resources.limits}
    assert template.container.image == "registry.example.com/flyte-llama:test"
    assert template.metadata.retries.retries == retries
    assert template.metadata.interruptible == interruptible
    assert template.metadata.discoverable == cached
    assert bool(template.metadata.discovery_version) == cached
    if gpu:
        assert template.extended_resources.gpu_accelerator.device == "nvidia-a100-80gb"
        assert template.extended_resources.shared_memory.mount_path == "/dev/shm"  # noqa: S108  # a mount path


def test_every_task_is_in_the_table(registered: Registered):
    plain = {re.sub("_[0-9a-f]{32}.*", "", name) for name in registered.tasks}
    assert plain == set(TASKS)


def test_no_input_of_a_cached_task_is_a_part_of_an_output(registered: Registered):
    # Flyte's backend computes the cache's key of such an input differently each time, so the task would never hit.
    cached = {spec.template.id.name for spec in registered.tasks.values() if spec.template.metadata.discoverable}
    checked = 0
    for workflow in registered.workflows.values():
        for node in workflow.template.nodes:
            target = node.task_node or (node.array_node and node.array_node.node.task_node)
            if target and target.reference_id.name in cached:
                checked += 1
                for binding in node.inputs:
                    parts = binding.binding.promise.attr_path if binding.binding.promise else []
                    assert not parts, f"{target.reference_id.name}: {binding.var}"
    assert checked >= 15


def test_training_on_one_node_is_an_ordinary_task_without_an_operator(registered: Registered):
    assert registered.tasks["fine_tune"].template.type == "python-task"


@pytest.fixture(scope="session")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """The package as registered with `CHOSEN`."""
    return register_with(CHOSEN, tmp_path_factory.mktemp("chosen"))


CHOSEN = {
    "IMAGE_CPU": "registry.example.com/flyte-llama:test-cpu",
    "FLYTE_LLAMA_GPU": "nvidia-h100-mega-80gb",
    "FLYTE_LLAMA_GPU_COUNT": "4",
    "FLYTE_LLAMA_NODES": "3",
    "FLYTE_LLAMA_GPU_CPU": "30",
    "FLYTE_LLAMA_GPU_MEMORY": "200Gi",
    "FLYTE_LLAMA_EVAL_CPU": "6",
    "FLYTE_LLAMA_DATA_CPU": "3",
    "FLYTE_LLAMA_DATA_MEMORY": "7Gi",
    "FLYTE_LLAMA_SPOT": "0",
    "FLYTE_LLAMA_TIMEOUT_HOURS": "1.5",
    "FLYTE_LLAMA_TRAINING_TIMEOUT_HOURS": "100",
    "FLYTE_LLAMA_TRIAL_CONCURRENCY": "2",
    "FLYTE_LLAMA_SECRET_GROUP": "hub",
    "FLYTE_LLAMA_GIT_SECRET_GROUP": "git",
    "FLYTE_LLAMA_SSH_SECRET_GROUP": "ssh",
    "FLYTE_LLAMA_GIT_HOST": "git.example.com",
    "FLYTE_LLAMA_GIT_USER": "x-token-auth",
    "FLYTE_LLAMA_TRACKER_SECRET_GROUP": "trackers",
    "FLYTE_LLAMA_TRACKER_KEYS": "wandb_api_key, mlflow_tracking_token",
    "FLYTE_LLAMA_CACHE": "s3://bucket/kept",
    "FLYTE_LLAMA_REFRESH_CONFIG": "smollm2_135m",
    "FLYTE_LLAMA_SCHEDULE": "30 4 * * sat",
    "FLYTE_LLAMA_ACTIVATE_SCHEDULE": "1",
    "FLYTE_LLAMA_NOTIFY_EMAIL": "a@example.com, b@example.com",
    "FLYTE_LLAMA_NOTIFY_SLACK": "channel@example.slack.com",
    "FLYTE_LLAMA_NOTIFY_PAGERDUTY": "team@example.pagerduty.com",
}


def test_every_pod_reads_the_settings_of_registration(registered: Registered, chosen: Registered):
    elsewhere = {"FLYTE_LLAMA_CACHE": "s3://image/cache", "FLYTE_LLAMA_NODES": "9"}
    at_registration = {"image_cpu", "activate_schedule", "schedule", "refresh_config"}
    at_registration |= {"notify_email", "notify_slack", "notify_pagerduty"}
    for package, environment in ((registered, {}), (chosen, CHOSEN)):
        settings = read_settings(environment).model_dump(exclude=at_registration)
        for spec in package.tasks.values():
            pod = read_settings(elsewhere | dict(spec.template.container.env))
            assert pod.model_dump(exclude=at_registration) == settings


def test_the_settings_decide_what_pods_ask_for(chosen: Registered):
    asked = {}
    for name, spec in chosen.tasks.items():
        template = spec.template
        requests = {entry.name: entry.value for entry in template.container.resources.requests}
        hours = template.metadata.timeout.total_seconds() / 3600
        asked[name] = (requests[CPU], requests[MEMORY], requests.get(GPU), template.metadata.interruptible, hours)
    assert asked["fine_tune"] == asked["try_point"] == ("30", "200Gi", "4", False, 100)
    assert asked["evaluate"] == ("6", "50Gi", "1", False, 1.5)
    assert asked["build_corpus"] == ("3", "7Gi", None, None, 1.5)
    assert asked["read_source"] == ("1500m", "3584Mi", None, None, 1.5)
    accelerators = {spec.template.extended_resources.gpu_accelerator.device for spec in with_gpus(chosen)}
    assert accelerators == {"nvidia-h100-mega-80gb"}


def test_every_task_without_gpus_has_the_image_for_them_and_all_others_have_the_one_with_cuda(chosen: Registered):
    images = {re.sub("_[0-9a-f]{32}.*", "", name): spec.template.container.image for name, spec in chosen.tasks.items()}
    tag = "registry.example.com/flyte-llama:test"
    assert images == {name: tag if gpu else f"{tag}-cpu" for name, (_, gpu, *_) in TASKS.items()}


def with_gpus(package: Registered) -> list[TaskSpec]:
    return [spec for spec in package.tasks.values() if spec.template.extended_resources]


def test_no_accelerator_means_any_node_with_gpus(tmp_path: Path):
    for spec in with_gpus(register_with({"FLYTE_LLAMA_GPU": ""}, tmp_path)):
        assert not spec.template.extended_resources.HasField("gpu_accelerator")
        assert spec.template.extended_resources.shared_memory.mount_path == "/dev/shm"  # noqa: S108  # a mount path


def test_training_pods_live_on_for_the_grace_period(tmp_path: Path):
    tasks = register_with({"FLYTE_LLAMA_GRACE_SECONDS": "120"}, tmp_path).tasks
    for name in ("fine_tune", "fine_tune_on_nodes", "try_point"):
        pod = tasks[name].template.k8s_pod.pod_spec
        (container,) = pod["containers"]
        assert pod["terminationGracePeriodSeconds"] == 120
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert container["resources"]["limits"]["gpu"] == "8"
        assert {"name": "FLYTE_LLAMA_GPU_COUNT", "value": "8"} in container["env"]
    assert tasks["evaluate"].template.container is not None


@pytest.mark.parametrize(("package", "expected"), [("registered", 1), ("chosen", 2)])
def test_trials_run_as_many_at_a_time_as_the_setting_says(request: pytest.FixtureRequest, package: str, expected: int):
    workflows = request.getfixturevalue(package).workflows
    for workflow, task in (("sweep", "try_point"), ("tune_batch_size", "try_batch_size")):
        nodes = [node.array_node for node in workflows[workflow].to_flyte_idl().template.nodes]
        (node,) = [node for node in nodes if task in node.node.task_node.reference_id.name]
        assert node.parallelism == expected


def test_training_on_several_nodes_is_a_job_of_the_training_operator(chosen: Registered):
    spec = chosen.tasks["fine_tune_on_nodes"].template
    job = ParseDict(spec.custom, DistributedPyTorchTrainingTask())
    elastic = job.elastic_config
    assert spec.type == "pytorch"
    assert (job.worker_replicas.replicas, elastic.min_replicas, elastic.max_replicas) == (3, 3, 3)
    assert (elastic.nproc_per_node, elastic.max_restarts) == (4, 0)
    nodes = chosen.workflows["train_flyte_llama"].template.nodes
    trained = [node.task_node.reference_id.name for node in nodes if "fine_tune" in str(node.task_node)]
    assert trained == ["flyte_llama.tasks.training.fine_tune_on_nodes"]


def test_there_is_a_launch_plan_for_each_shipped_configuration_and_the_refresh(registered: Registered):
    names = {path.stem for path in (ROOT / "configs").glob("*.yaml")} | {
        "weekly_refresh",
        *(f"workflows.{name}" for name in WORKFLOWS),
    }
    assert set(registered.launch_plans) == {f"flyte_llama.{name}" for name in names}


def test_the_refresh_runs_weekly_skips_while_one_runs_and_needs_no_input(registered: Registered):
    plan = registered.launch_plans["flyte_llama.weekly_refresh"].spec.to_flyte_idl()
    assert plan.entity_metadata.schedule.cron_schedule.schedule == "0 6 * * 1"
    assert (plan.concurrency_policy.max, plan.concurrency_policy.behavior) == (1, ConcurrencyLimitBehavior.SKIP)
    assert not [name for name, parameter in plan.default_inputs.parameters.items() if parameter.required]


def test_the_settings_choose_what_the_refresh_runs_when_and_who_hears_of_it(registered: Registered, chosen: Registered):
    plan = chosen.launch_plans["flyte_llama.weekly_refresh"].spec.to_flyte_idl()
    other = chosen.launch_plans["flyte_llama.smollm2_135m"].spec.to_flyte_idl()
    assert plan.entity_metadata.schedule.cron_schedule.schedule == "30 4 * * sat"
    assert plan.default_inputs == other.default_inputs
    for each in (plan, other):
        told = {note.WhichOneof("type"): note for note in each.entity_metadata.notifications}
        assert list(told["email"].email.recipients_email) == ["a@example.com", "b@example.com"]
        assert list(told["slack"].slack.recipients_email) == ["channel@example.slack.com"]
        assert list(told["pager_duty"].pager_duty.recipients_email) == ["team@example.pagerduty.com"]
        ends = {WorkflowExecution.SUCCEEDED, *FAILURES}
        assert set(told["email"].phases) == set(told["slack"].phases) == ends
        assert set(told["pager_duty"].phases) == FAILURES
    assert not registered.launch_plans["flyte_llama.weekly_refresh"].spec.entity_metadata.notifications


def test_every_workflow_has_a_failure_node_that_gets_the_error(registered: Registered):
    for name in WORKFLOWS:
        template = registered.workflows[name].template
        bound = {binding.var for binding in template.failure_node.inputs}
        assert bound == {*template.interface.inputs, "err"}


def test_no_secret_is_requested_and_no_plan_activated_by_default(registered: Registered):
    from flyte_llama.launch_plans import weekly_refresh

    assert not any(spec.template.security_context for spec in registered.tasks.values())
    assert not weekly_refresh.should_auto_activate


def test_no_deck_has_flytes_tabs_of_inputs_and_outputs_which_escape_nothing(registered: Registered):
    from flytekit.core.base_task import PythonTask
    from flytekit.core.context_manager import FlyteEntities

    tasks = [entity for entity in FlyteEntities.entities if isinstance(entity, PythonTask)]
    with_deck = [task for task in tasks if task.name.startswith("flyte_llama.") and not task.disable_deck]
    assert {task.name.rpartition(".")[2] for task in with_deck} >= {"build_corpus", "fine_tune", "report"}
    assert not any(task.deck_fields for task in with_deck)


def test_secrets_go_to_the_tasks_that_need_them(chosen: Registered):
    secrets = {
        (re.sub("_[0-9a-f]{32}.*", "", name), secret.group, secret.key, secret.env_var)
        for name, spec in chosen.tasks.items()
        if spec.template.security_context
        for secret in spec.template.security_context.secrets
    }
    git = ["map_read_source", "pin_sources", "read_source"]
    hub = ["start_run", "pin_model", "pin_published", "prepare_base", "prepare_published", "map_prepare_published"]
    hub += ["fine_tune", "fine_tune_on_nodes", "evaluate", "map_evaluate", "publish"]
    hub += ["prepare_completing", "complete_shard", "map_complete_shard"]
    hub += ["try_batch_size", "map_try_batch_size", "try_point", "map_try_point"]
    reporting = ["start_run", "fine_tune", "fine_tune_on_nodes", "try_point", "map_try_point", "report"]
    expected = {(name, "git", "git_token", "FLYTE_LLAMA_GIT_TOKEN") for name in git}
    for key, variable in (("ssh_key", "FLYTE_LLAMA_SSH_KEY"), ("known_hosts", "FLYTE_LLAMA_SSH_KNOWN_HOSTS")):
        expected |= {(name, "ssh", key, variable) for name in git}
    expected |= {(name, "hub", "hf_token", "HF_TOKEN") for name in hub}
    for key in ("wandb_api_key", "mlflow_tracking_token"):
        expected |= {(name, "trackers", key, key.upper()) for name in reporting}
    assert secrets == expected


def test_the_key_of_ssh_is_mounted_as_a_file(chosen: Registered):
    mounts = {
        secret.key: secret.mount_requirement for secret in chosen.tasks["pin_sources"].template.security_context.secrets
    }
    file, variable = Secret.MountType.FILE, Secret.MountType.ENV_VAR
    assert mounts == {"git_token": variable, "ssh_key": file, "known_hosts": file}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("FLYTE_LLAMA_SPOT", "maybe", "is neither 1 nor 0. Set one of them."),
        ("FLYTE_LLAMA_REFRESH_CONFIG", "mine", "configs/mine.yaml does not exist or cannot be used. Usable ones: code"),
    ],
)
def test_a_bad_setting_ends_registration_with_one_message_and_exit_code_2(
    name: str, value: str, problem: str, tmp_path: Path
):
    pyflyte, package = Path(sys.executable).with_name("pyflyte"), tmp_path / "package.tgz"
    command = [pyflyte, "--pkgs", "flyte_llama", "package", "--image", "r/x:1", "--output", str(package)]
    environment = {**os.environ, name: value, "COLUMNS": "300"}  # the width of the frame around the message
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert f"{name} = {value!r}: {problem}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not package.exists()


def test_every_node_lists_the_nodes_before_it_in_the_same_order_each_time(registered: Registered):
    # Flyte takes another order for other content, and refuses it under the same version.
    for workflow in registered.workflows.values():
        for node in workflow.template.nodes:
            assert node.upstream_node_ids == sorted(node.upstream_node_ids)


def test_the_settings_count_also_if_others_have_wrapped_the_registration(monkeypatch: pytest.MonkeyPatch):
    seen: list[dict[str, str]] = []

    def register_script(remote: None, entity: SimpleNamespace, *, envs: dict[str, str]) -> None:
        seen.append(envs)

    @functools.wraps(register_script)
    def wrapper(*arguments: Any, **options: Any) -> None:
        register_script(*arguments, **options)

    monkeypatch.setattr(FlyteRemote, "register_script", wrapper)
    count_settings()
    wrapped = FlyteRemote.register_script
    count_settings()
    assert FlyteRemote.register_script is wrapped
    wrapped(None, SimpleNamespace(name="flyte_llama.workflows.train_flyte_llama"))
    assert [list(envs) for envs in seen] == [[DIGEST]]


@pytest.mark.slow
def test_pyflyte_packages_without_a_cluster(tmp_path: Path):
    pyflyte, package = Path(sys.executable).with_name("pyflyte"), tmp_path / "package.tgz"
    command = [pyflyte, "--pkgs", "flyte_llama", "package", "--image", "r/x:1", "--output", str(package)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "flyte_llama.weekly_refresh" in done.stdout
    assert "flyte_llama.tasks.training.fine_tune" in done.stdout
