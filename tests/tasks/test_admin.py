"""Registration, runs and the schedule by the commands of `make`, against a double of flyteadmin."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
from click.testing import CliRunner
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import LAUNCH_PLAN, TASK, WORKFLOW
from flytekit.configuration.file import get_config_file

from flyte_llama.cli import doctor, main
from flyte_llama.config import load_config
from tests.tasks.admin import DOMAIN, PROJECT, Admin, serve_admin
from tests.tasks.bucket import Bucket, serve_bucket

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
REFRESH = "flyte_llama.weekly_refresh"
TRAIN = "flyte_llama.workflows.train_flyte_llama"
TRAINING = "flyte_llama.tasks.training.fine_tune"
IMAGE = "localhost:1/flyte-llama:c0ffee"
SCHEDULED = {"FLYTE_LLAMA_ACTIVATE_SCHEDULE": "1", "FLYTE_LLAMA_REFRESH_CONFIG": "smollm2_135m"}


class Cluster(NamedTuple):
    admin: Admin
    bucket: Bucket
    config_file: Path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster on which `make register` was run with `SCHEDULED`."""
    with serve_bucket() as bucket, serve_admin(bucket) as admin:
        cluster = Cluster(admin, bucket, admin.write_config(tmp_path_factory.mktemp("flyte")))
        registered = make("register", cluster, settings=SCHEDULED)
        assert registered.returncode == 0, registered.stderr
        yield cluster


def make(
    target: str, cluster: Cluster, *, settings: dict[str, str], root: Path = ROOT, config: str = "configs/local.yaml"
) -> subprocess.CompletedProcess[str]:
    """Run the commands that `make` would run for a target, without those that install the package."""
    variables = {
        "BIN": str(Path(sys.executable).parent),
        "COMMIT": "c0ffee",
        "REGISTRY": "localhost:1",
        "FLYTE_PROJECT": PROJECT,
        "FLYTE_DOMAIN": DOMAIN,
        "CONFIG": config,
    }
    command = ["make", "--dry-run", target, *(f"{name}={value}" for name, value in variables.items())]
    # The test's own `make` has set variables for all that it starts.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "FLYTE", "MFLAGS"))
    }
    environment = {name: value for name, value in environment.items() if name not in variables and name != "IMAGE"}
    shown = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True).stdout
    installing = ("pip install", "touch ")
    script = "\n".join(line for line in shown.splitlines() if not any(part in line for part in installing))
    environment |= settings | {
        "FLYTECTL_CONFIG": str(cluster.config_file),
        "PYTHONPATH": str(root),
        "COLUMNS": "300",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    return subprocess.run(
        ["sh", "-e", "-c", script], cwd=root, env=environment, capture_output=True, text=True, timeout=300
    )


def config_of(execution: Any) -> dict[str, Any]:
    return msgpack.unpackb(execution.closure.computed_inputs.literals["config"].scalar.binary.value)


def versions(admin: Admin, kind: int, name: str) -> list[str]:
    return [each.id.version for each in admin.find(kind, name)]


def test_a_registration_can_be_repeated_and_other_settings_are_another_version(cluster: Cluster):
    admin = cluster.admin
    before = len(admin.created)
    again = make("register", cluster, settings=SCHEDULED)
    assert (again.returncode, len(admin.created)) == (0, before), again.stderr
    other = make("register", cluster, settings={"FLYTE_LLAMA_GPU": "H100"})
    assert other.returncode == 0, other.stderr
    first, second = versions(admin, WORKFLOW, TRAIN)
    assert {first[:7], second[:7]} == {"c0ffee-"}
    devices = [each.spec.template.extended_resources.gpu_accelerator.device for each in admin.find(TASK, TRAINING)]
    assert devices == ["nvidia-a100-80gb", "nvidia-h100"]
    # registering without FLYTE_LLAMA_ACTIVATE_SCHEDULE leaves the active schedule as it is
    assert admin.active == {(PROJECT, DOMAIN, REFRESH): first}


def test_the_active_schedule_runs_its_configuration_and_skips_while_one_runs(cluster: Cluster):
    execution = cluster.admin.fire(REFRESH)
    assert execution is not None
    assert config_of(execution) == load_config(ROOT / "configs/smollm2_135m.yaml").model_dump(mode="json")
    assert execution.spec.launch_plan.version in versions(cluster.admin, LAUNCH_PLAN, REFRESH)
    assert cluster.admin.fire(REFRESH) is None
    execution.closure.phase = WorkflowExecution.SUCCEEDED
    assert cluster.admin.fire(REFRESH) is not None


def test_the_doctor_finds_what_make_registered(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "describe_checkout", lambda: "c0ffee")
    variables = {"FLYTECTL_CONFIG": str(cluster.config_file), "FLYTE_PROJECT": PROJECT, "REGISTRY": "localhost:1"}
    for name, value in {**variables, **SCHEDULED}.items():
        monkeypatch.setenv(name, value)
    get_config_file.cache_clear()
    shown = CliRunner().invoke(main, ["doctor"])
    get_config_file.cache_clear()
    assert shown.exit_code == 0, shown.output
    for line in ("ok    version", "ok    schedule", "ok    limits         Flyte took version c0ffee-", "look  image"):
        assert line in shown.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout, with a file of the user; a template and a module that is imported late are edited."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("flyte_llama", "configs", "image"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("Makefile", ".dockerignore", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    for name in ("flyte_llama/training/trainer.py", "flyte_llama/report/templates/page.html.j2"):
        (root / name).write_text((root / name).read_text() + "# edited\n")
    (root / "private.txt").write_text("a password\n")
    return root


def test_edits_arrive_and_a_changed_setting_is_another_version(cluster: Cluster, checkout: Path):
    admin, runs = cluster.admin, len(cluster.admin.executions)
    done = make("launch", cluster, settings={}, root=checkout, config="configs/code_llama_7b_lora.yaml")
    assert done.returncode == 0, done.stderr
    assert f"/console/projects/{PROJECT}/domains/{DOMAIN}/executions/" in done.stdout
    with_h100 = make("launch", cluster, settings={"FLYTE_LLAMA_GPU": "H100"}, root=checkout)
    assert with_h100.returncode == 0, with_h100.stderr

    # two runs, of the configurations that were named, on what each setting asks for
    first, second = list(admin.executions.values())[runs:]
    assert (config_of(first)["name"], config_of(second)["name"]) == ("code_llama_7b_lora", "local")
    tasks = {each.id.version: each.spec.template for each in admin.find(TASK, TRAINING)}
    of_first, of_second = (tasks[each.closure.workflow_id.version] for each in (first, second))
    assert of_first.extended_resources.gpu_accelerator.device == "nvidia-a100-80gb"
    assert of_second.extended_resources.gpu_accelerator.device == "nvidia-h100"
    assert of_first.container.image == of_second.container.image == IMAGE

    # the archive that each pod unpacks has the whole package and nothing else of the checkout
    (address,) = {argument for argument in of_first.container.args if argument.endswith(".tar.gz")}
    with tarfile.open(fileobj=io.BytesIO(cluster.bucket.objects[address.removeprefix("s3://bkt/")])) as archive:
        names = set(archive.getnames())
        for name in ("flyte_llama/training/trainer.py", "flyte_llama/report/templates/page.html.j2"):
            assert archive.extractfile(name).read().endswith(b"# edited\n")
    package = {path.relative_to(checkout) for path in (checkout / "flyte_llama").rglob("*") if path.is_file()}
    assert {str(path) for path in package if "__pycache__" not in path.parts} <= names
    assert "private.txt" not in names
    assert not [name for name in names if "__pycache__" in name]


def test_a_configuration_that_check_refuses_is_refused_before_anything_is_sent(cluster: Cluster, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("training: {epochs: 0}\n")
    called: list[str] = []
    cluster.admin.before = called.append
    done = make("launch", cluster, settings={}, config=str(tmp_path / "bad.yaml"))
    cluster.admin.before = lambda method: None
    assert (done.returncode, called) == (2, [])
    assert "training.epochs = 0" in done.stderr
    assert "Traceback" not in done.stderr
