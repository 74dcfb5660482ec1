"""The specs sent at registration: images, resources, accelerators, secrets, retries, caches, schedules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from flytekit.models.concurrency import ConcurrencyLimitBehavior

from tests.tasks.conftest import Registered

CPU, GPU, MEMORY, STORAGE = 1, 2, 3, 5  # flyteidl.core.Resources.ResourceName
ROOT = Path(__file__).parents[2]
TASKS = {
    # name: (cpu, gpu, memory, retries, cached, interruptible)
    "start_run": ("1", None, "1Gi", 3, False, None),
    "pin_sources": ("1", None, "1Gi", 3, False, None),
    "pin_model": ("1", None, "1Gi", 3, False, None),
    "read_source": ("2", None, "4Gi", 3, True, None),
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
    "publish": ("2", None, "16Gi", 1, False, None),
    "batch_sizes": ("1", None, "1Gi", 1, False, None),
    "try_batch_size": ("64", "8", "800Gi", 1, True, True),
    "choose_batch_size": ("1", None, "1Gi", 1, False, None),
    "sweep_configs": ("1", None, "1Gi", 1, False, None),
    "try_point": ("64", "8", "800Gi", 3, True, True),
    "choose_point": ("1", None, "1Gi", 1, False, None),
    "map_read_source": ("2", None, "4Gi", 3, True, None),
    "map_try_batch_size": ("64", "8", "800Gi", 1, True, True),
    "map_try_point": ("64", "8", "800Gi", 3, True, True),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_asks_for_what_it_needs(registered: Registered, name: str):
    cpu, gpu, memory, retries, cached, interruptible = TASKS[name]
    template = next(spec.template for full, spec in registered.tasks.items() if full.startswith(name))
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


NODES = """
from flyteidl.plugins.kubeflow.pytorch_pb2 import DistributedPyTorchTrainingTask
from google.protobuf.json_format import ParseDict
from tests.tasks.conftest import serialise_package
registered = serialise_package()
spec = registered.tasks["fine_tune_on_nodes"].template
job = ParseDict(spec.custom, DistributedPyTorchTrainingTask())
print(spec.type, job.worker_replicas.replicas, job.elastic_config.min_replicas, job.elastic_config.max_replicas)
print(job.elastic_config.nproc_per_node, job.elastic_config.max_restarts, spec.container.env["FLYTE_LLAMA_NODES"])
nodes = registered.workflows["train_flyte_llama"].template.nodes
print([node.task_node.reference_id.name.split(".")[-1] for node in nodes if "fine_tune" in str(node.task_node)])
"""


def test_training_on_several_nodes_is_a_job_of_the_training_operator():
    environment = {**os.environ, "FLYTE_LLAMA_NODES": "3", "FLYTE_LLAMA_GPU_COUNT": "4", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", NODES]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-3:] == ["pytorch 3 3 3", "4 0 3", "['fine_tune_on_nodes']"]


def test_there_is_a_launch_plan_for_each_shipped_configuration_and_the_refresh(registered: Registered):
    names = {path.stem for path in (ROOT / "configs").glob("*.yaml")} | {
        "weekly_refresh",
        *(f"workflows.{name}" for name in ("train_flyte_llama", "tune_batch_size", "sweep")),
    }
    assert set(registered.launch_plans) == {f"flyte_llama.{name}" for name in names}


def test_the_refresh_runs_weekly_skips_while_one_runs_and_needs_no_input(registered: Registered):
    plan = registered.launch_plans["flyte_llama.weekly_refresh"].spec.to_flyte_idl()
    assert plan.entity_metadata.schedule.cron_schedule.schedule == "0 6 * * 1"
    assert (plan.concurrency_policy.max, plan.concurrency_policy.behavior) == (1, ConcurrencyLimitBehavior.SKIP)
    assert not [name for name, parameter in plan.default_inputs.parameters.items() if parameter.required]


def test_no_secret_is_requested_and_no_plan_activated_by_default(registered: Registered):
    from flyte_llama.workflows import weekly_refresh

    assert not any(spec.template.security_context for spec in registered.tasks.values())
    assert not weekly_refresh.should_auto_activate


def test_no_deck_has_flytes_tabs_of_inputs_and_outputs_which_escape_nothing(registered: Registered):
    from flytekit.core.base_task import PythonTask
    from flytekit.core.context_manager import FlyteEntities

    tasks = [entity for entity in FlyteEntities.entities if isinstance(entity, PythonTask)]
    with_deck = [task for task in tasks if task.name.startswith("flyte_llama.") and not task.disable_deck]
    assert {task.name.rpartition(".")[2] for task in with_deck} >= {"build_corpus", "fine_tune", "report"}
    assert not any(task.deck_fields for task in with_deck)


def test_the_environment_decides_on_gpus_secrets_and_activation():
    # The environment is read at import, so this needs a new process; it prints the serialised specs.
    program = (
        "import re\n"
        "from tests.tasks.conftest import serialise_package\n"
        "from flyte_llama.workflows import weekly_refresh\n"
        "for name, spec in sorted(serialise_package().tasks.items()):\n"
        "    context = spec.template.security_context\n"
        "    for secret in context.secrets if context else []:\n"
        "        print(re.sub('_[0-9a-f]{32}.*', '', name), secret.group, secret.key, secret.env_var)\n"
        "    if name == 'fine_tune':\n"
        "        print([r.value for r in spec.template.container.resources.requests if r.name == 2])\n"
        "        print(spec.template.extended_resources.gpu_accelerator.device)\n"
        "print(weekly_refresh.should_auto_activate)"
    )
    changes = {
        "FLYTE_LLAMA_GPU": "H200",
        "FLYTE_LLAMA_GPU_COUNT": "4",
        "FLYTE_LLAMA_SECRET_GROUP": "hub",
        "FLYTE_LLAMA_GIT_SECRET_GROUP": "git",
        "FLYTE_LLAMA_ACTIVATE_SCHEDULE": "1",
    }
    environment = {**os.environ, **changes, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == [
        "evaluate hub hf_token HF_TOKEN",
        "fine_tune hub hf_token HF_TOKEN",
        "['4']",
        "nvidia-h200",
        "fine_tune_on_nodes hub hf_token HF_TOKEN",
        "map_evaluate hub hf_token HF_TOKEN",
        "map_prepare_published hub hf_token HF_TOKEN",
        "map_read_source git git_token FLYTE_LLAMA_GIT_TOKEN",
        "map_try_batch_size hub hf_token HF_TOKEN",
        "map_try_point hub hf_token HF_TOKEN",
        "pin_model hub hf_token HF_TOKEN",
        "pin_published hub hf_token HF_TOKEN",
        "pin_sources git git_token FLYTE_LLAMA_GIT_TOKEN",
        "prepare_base hub hf_token HF_TOKEN",
        "prepare_published hub hf_token HF_TOKEN",
        "publish hub hf_token HF_TOKEN",
        "read_source git git_token FLYTE_LLAMA_GIT_TOKEN",
        "start_run hub hf_token HF_TOKEN",
        "try_batch_size hub hf_token HF_TOKEN",
        "try_point hub hf_token HF_TOKEN",
        "True",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["--pkgs", "flyte_llama", "package", "--force", "--image", "registry.example.com/x:1", "--output", "{out}"],
        [
            "register",
            "--dry-run",
            "--copy",
            "none",
            "--version",
            "v1",
            "--image",
            "registry.example.com/x:1",
            "-p",
            "p",
            "-d",
            "d",
            "flyte_llama",
        ],
    ],
    ids=["package", "register"],
)
def test_pyflyte_packages_and_registers_without_a_cluster(command: list[str], tmp_path: Path):
    arguments = [argument.format(out=tmp_path / "package.tgz") for argument in command]
    pyflyte = Path(sys.executable).with_name("pyflyte")
    done = subprocess.run([pyflyte, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "flyte_llama.weekly_refresh" in done.stdout
    assert "flyte_llama.tasks.training.fine_tune" in done.stdout
