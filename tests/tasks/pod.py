"""Run one attempt at a task from its serialised spec: its container's command in a pod or in several, over a bucket.

Inputs, outputs, raw data and checkpoints are in the bucket. As in the image, a pod runs as uid 1000 with a home folder
that cannot be written. Nothing of the test's environment reaches it: it has the image's variables, the spec's own,
Flyte's, and what the cluster sets. As on Kubernetes, a task that fails writes error.pb and exits with code 0.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flyteidl.core import errors_pb2, literals_pb2
from flytekit.models.task import TaskSpec

from tests.tasks.bucket import NAME, Bucket

ROOT = Path(__file__).parents[2]
USER = 1000
# As root, the test gives the pod's processes another user, who may read all files as the image's user may. He may write
# only where he owns: in the pod's folder.
AS_USER = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    *(f"--{kind}=-all,+dac_read_search" for kind in ("bounding-set", "inh-caps", "ambient-caps")),
)


@dataclass
class Attempt:
    """One attempt at a task, in one pod or several. Its files are in the bucket below `place`."""

    place: str
    bucket: Bucket
    pods: list[subprocess.Popen[bytes]]
    logs: list[Path]

    def log(self, node: int = 0) -> str:
        return self.logs[node].read_text(errors="replace")

    def workers(self, node: int = 0) -> list[int]:
        """The ids of the processes that train on a node."""
        pod = str(self.pods[node].pid)
        children = subprocess.run(["pgrep", "-P", pod], capture_output=True, text=True).stdout.split()
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        return [int(pid) for pid, command in commands.items() if b"spawn_main" in command]

    def wait(self, node: int = 0, seconds: float = 900) -> int:
        return self.pods[node].wait(timeout=seconds)

    def wait_until(self, condition: Callable[[], object], seconds: float = 900) -> None:
        """Wait while all pods run; fails if one ends."""
        end = time.monotonic() + seconds
        while not condition():
            assert all(pod.poll() is None for pod in self.pods), self.tails()
            assert time.monotonic() < end, self.tails()
            time.sleep(0.02)

    def tails(self) -> str:
        return "\n".join(self.log(node)[-3000:] for node in range(len(self.pods)))

    def outputs(self) -> literals_pb2.LiteralMap | None:
        content = self.bucket.objects.get(f"{self.place}/outputs.pb")
        return literals_pb2.LiteralMap.FromString(content) if content is not None else None

    def error(self) -> errors_pb2.ContainerError | None:
        """The error, which all pods write to one file."""
        content = self.bucket.objects.get(f"{self.place}/error.pb")
        return errors_pb2.ErrorDocument.FromString(content).error if content is not None else None


@dataclass
class Cluster:
    """Where pods run: what all of them share."""

    bucket: Bucket
    folder: Path
    """For logs, and for what pods write to their disks."""

    variables: dict[str, str] = field(default_factory=dict)
    """What the cluster sets in every pod."""

    secrets: dict[str, str] = field(default_factory=dict)
    """Key of a Flyte secret → its value, which the tasks get that request it."""

    @contextmanager
    def start(
        self,
        spec: TaskSpec,
        inputs: literals_pb2.LiteralMap,
        place: str,
        *,
        inputs_key: str | None = None,
        workflow: str = "train_flyte_llama",
        number: int = 0,
        previous: str | None = None,
        index: int | None = None,
        nodes: int = 1,
        variables: Mapping[str, str] | None = None,
    ) -> Iterator[Attempt]:
        """Start the pods of an attempt, and end all of their processes after this context.

        Args:
            place: Where the attempt writes its outputs, a key in the bucket.
            inputs_key: Where its inputs are; below `place` by default.
            number: Of the attempt, from 0.
            previous: The place of the previous attempt.
            index: For a map task, the index of its item.
            nodes: More than one pod is a PyTorchJob.
            variables: Of this attempt alone.
        """
        folder, inputs_key = self.folder / place, inputs_key or f"{place}/inputs.pb"
        self.bucket.objects[inputs_key] = inputs.SerializeToString()
        values = {
            "{{.input}}": _address(inputs_key),
            "{{.outputPrefix}}": _address(place),
            "{{.rawOutputDataPrefix}}": _address(f"raw/{place}"),
            "{{.checkpointOutputPrefix}}": _address(checkpoints_of(place)),
            "{{.prevCheckpointPrefix}}": _address(checkpoints_of(previous)) if previous else '""',
        }
        arguments, own_variables = _container(spec)
        command = [values.get(argument, argument) for argument in arguments]
        environment = {
            **own_variables,
            **_flyte_variables(spec, workflow, number),
            **self._secrets_of(spec),
            **self.bucket.environment(),
            **self.variables,
            **(variables or {}),
        }
        if index is not None:
            environment |= {"BATCH_JOB_ARRAY_INDEX_VAR_NAME": "FLYTE_K8S_ARRAY_INDEX"}
            environment |= {"FLYTE_K8S_ARRAY_INDEX": str(index)}
        if nodes > 1:
            environment |= _operator_variables(nodes)
        attempt = Attempt(place, self.bucket, [], [folder / f"log-{node}" for node in range(nodes)])
        try:
            for node in range(nodes):
                disk = folder / f"disk-{node}"
                disk.mkdir(parents=True)
                give_to_pods(disk)
                named = _image_variables(disk) | environment | {"FLYTE_INTERNAL_WORKER_NAME": f"worker-{node}"}
                attempt.pods.append(_start(command, disk, named, attempt.logs[node]))
            yield attempt
        finally:
            for pod in attempt.pods:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pod.pid, signal.SIGKILL)
                pod.wait()

    def run(self, spec: TaskSpec, inputs: literals_pb2.LiteralMap, place: str) -> Attempt:
        """Run one attempt in a single pod to its end."""
        with self.start(spec, inputs, place) as attempt:
            assert attempt.wait() == 0, attempt.tails()
        return attempt

    def _secrets_of(self, spec: TaskSpec) -> dict[str, str]:
        context = spec.template.security_context
        requested = context.secrets or [] if context is not None else []
        return {secret.env_var: self.secrets[secret.key] for secret in requested if secret.key in self.secrets}


def checkpoints_of(place: str) -> str:
    """Where the attempt at this place keeps its checkpoints, a key in the bucket."""
    return f"raw/{place}/_flytecheckpoints"


def give_to_pods(folder: Path) -> None:
    """Let the user of pods own a folder of the test: a disk that they write to, or a repository that git reads."""
    if os.getuid() != 0:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
    # Git asks by access(2), which ignores the capability to read all files, so the way to the folder must be open.
    for parent in folder.parents:
        if parent.is_relative_to(tempfile.gettempdir()):
            parent.chmod(parent.stat().st_mode | 0o011)


def _address(key: str) -> str:
    return f"s3://{NAME}/{key}"


def _start(command: list[str], disk: Path, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    if os.getuid() == 0:
        command = [*AS_USER, *command]
    with log.open("wb") as out:
        return subprocess.Popen(command, cwd=disk, env=environment, stdout=out, stderr=out, start_new_session=True)


def _container(spec: TaskSpec) -> tuple[list[str], dict[str, str]]:
    """The command and the variables of a task, which has a container, or a pod with one."""
    if spec.template.container is not None:
        return list(spec.template.container.args), dict(spec.template.container.env)
    (container,) = spec.template.k8s_pod.pod_spec["containers"]
    return list(container["args"]), {variable["name"]: variable["value"] for variable in container["env"]}


def _image_variables(disk: Path) -> dict[str, str]:
    """What the Dockerfile sets, with this checkout and this Python in place of the image's."""
    git = shutil.which("git")
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(Path(str(git)).parent), "/usr/bin", "/bin"]),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "HF_HOME": str(disk / "huggingface"),
        "HOME": "/proc/cannot-be-written",
        # The pod's own /tmp, so that it is removed with the test's folder.
        "TMPDIR": str(disk),
        "GIT_CONFIG_SYSTEM": os.devnull,
        # Pods of several tests run on this machine at a time.
        "OMP_NUM_THREADS": "1",
    }


def _flyte_variables(spec: TaskSpec, workflow: str, number: int) -> dict[str, str]:
    """What Flyte's propeller sets in every container."""
    task = spec.template.id
    return {
        "FLYTE_INTERNAL_EXECUTION_WORKFLOW": f"project:domain:flyte_llama.workflows.{workflow}",
        "FLYTE_INTERNAL_EXECUTION_ID": "test",
        "FLYTE_INTERNAL_EXECUTION_PROJECT": "project",
        "FLYTE_INTERNAL_EXECUTION_DOMAIN": "domain",
        "FLYTE_ATTEMPT_NUMBER": str(number),
        "FLYTE_INTERNAL_TASK_PROJECT": task.project,
        "FLYTE_INTERNAL_TASK_DOMAIN": task.domain,
        "FLYTE_INTERNAL_TASK_NAME": task.name,
        "FLYTE_INTERNAL_TASK_VERSION": task.version,
    }


def _operator_variables(nodes: int) -> dict[str, str]:
    """What Kubeflow's operator sets in the pods of a job."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return {
        "PET_RDZV_ENDPOINT": f"localhost:{port}",
        "PET_RDZV_BACKEND": "c10d",
        "PET_NNODES": f"{nodes}:{nodes}",
    }
