"""Run a task from its serialised spec as a pod would: the container's command, with the placeholders filled in.

As in the image, it runs as uid 1000 with a home folder that cannot be written. Nothing of the test's environment
reaches it: it has the image's variables, the spec's own and Flyte's. As on Kubernetes, a task that fails writes
error.pb and exits with code 0.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flyteidl.core import errors_pb2, literals_pb2
from flytekit.models.task import TaskSpec

ROOT = Path(__file__).parents[2]
USER = 1000
# As root, the test gives the pod's processes another user, who may read all files as the image's user may. He may write
# only where he owns: in the pod's folder.
AS_USER = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    *(f"--{kind}=-all,+dac_read_search" for kind in ("bounding-set", "inh-caps", "ambient-caps")),
)


@dataclass
class Pod:
    """One attempt at a task. Its output goes to `folder/log`."""

    folder: Path
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def workers(self) -> list[int]:
        """The ids of the processes that train."""
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        return [int(pid) for pid, command in commands.items() if b"spawn_main" in command]

    def end(self) -> None:
        """Kill the process and all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def error(self) -> errors_pb2.ContainerError | None:
        file = self.folder / "out" / "error.pb"
        return errors_pb2.ErrorDocument.FromString(file.read_bytes()).error if file.exists() else None

    def outputs(self) -> literals_pb2.LiteralMap | None:
        file = self.folder / "out" / "outputs.pb"
        return literals_pb2.LiteralMap.FromString(file.read_bytes()) if file.exists() else None


def start_pod(
    spec: TaskSpec,
    inputs: literals_pb2.LiteralMap,
    folder: Path,
    *,
    index: int | None = None,
    previous: Path | None = None,
    cluster: Mapping[str, str] | None = None,
) -> Pod:
    """Start one attempt; its checkpoints go to `folder/checkpoint`.

    Args:
        index: For a map task, the index of its item.
        previous: The folder of the previous attempt.
        cluster: Further variables that a cluster sets: those of an operator, a secret, or the store's address.
    """
    for name in ("out", "raw", "tmp"):
        (folder / name).mkdir(parents=True)
    (folder / "inputs.pb").write_bytes(inputs.SerializeToString())
    give_to_pods(folder)
    values = {
        "{{.input}}": folder / "inputs.pb",
        "{{.outputPrefix}}": folder / "out",
        "{{.rawOutputDataPrefix}}": folder / "raw",
        "{{.checkpointOutputPrefix}}": folder / "checkpoint",
        "{{.prevCheckpointPrefix}}": previous / "checkpoint" if previous else '""',
    }
    arguments, variables = _container(spec)
    command = [str(values.get(argument, argument)) for argument in arguments]
    environment = _image_variables(folder) | variables | _flyte_variables(spec) | dict(cluster or {})
    if index is not None:
        environment |= {"BATCH_JOB_ARRAY_INDEX_VAR_NAME": "INDEX", "INDEX": str(index)}
    if os.getuid() == 0:
        command = [*AS_USER, *command]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    return Pod(folder, process)


def run_in_pod(
    spec: TaskSpec,
    inputs: literals_pb2.LiteralMap,
    folder: Path,
    index: int | None = None,
    previous: Path | None = None,
    cluster: Mapping[str, str] | None = None,
) -> literals_pb2.LiteralMap:
    """Run the task to its end, and return its outputs."""
    pod = start_pod(spec, inputs, folder, index=index, previous=previous, cluster=cluster)
    try:
        returned = pod.process.wait(timeout=900)
    finally:
        pod.end()
    error, outputs = pod.error(), pod.outputs()
    assert error is None, error
    assert returned == 0, pod.log()[-3000:]
    assert outputs is not None
    return outputs


def give_to_pods(folder: Path) -> None:
    """Let the user of pods own a folder of the test: a bucket that they write to, or a repository that git reads."""
    if os.getuid() != 0:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
    # Git asks by access(2), which ignores the capability to read all files, so the way to the folder must be open.
    for parent in folder.parents:
        if parent.is_relative_to(tempfile.gettempdir()):
            parent.chmod(parent.stat().st_mode | 0o011)


def _container(spec: TaskSpec) -> tuple[list[str], dict[str, str]]:
    """The command and the variables of a task, which has a container, or a pod with one."""
    if spec.template.container is not None:
        return list(spec.template.container.args), dict(spec.template.container.env)
    (container,) = spec.template.k8s_pod.pod_spec["containers"]
    return list(container["args"]), {variable["name"]: variable["value"] for variable in container["env"]}


def _image_variables(folder: Path) -> dict[str, str]:
    """What the Dockerfile sets, with this checkout and this Python in place of the image's."""
    git = shutil.which("git")
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(Path(str(git)).parent), "/usr/bin", "/bin"]),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "HF_HOME": str(folder / "tmp/huggingface"),
        "HOME": "/proc/cannot-be-written",
        # The pod's own /tmp, so that it is removed with the test's folder.
        "TMPDIR": str(folder / "tmp"),
        "GIT_CONFIG_SYSTEM": os.devnull,
    }


def _flyte_variables(spec: TaskSpec) -> dict[str, str]:
    """What Flyte's propeller sets in every container."""
    task = spec.template.id
    return {
        "FLYTE_INTERNAL_EXECUTION_WORKFLOW": "project:domain:flyte_llama.workflows.train_flyte_llama",
        "FLYTE_INTERNAL_EXECUTION_ID": "test",
        "FLYTE_INTERNAL_EXECUTION_PROJECT": "project",
        "FLYTE_INTERNAL_EXECUTION_DOMAIN": "domain",
        "FLYTE_ATTEMPT_NUMBER": "0",
        "FLYTE_INTERNAL_TASK_PROJECT": task.project,
        "FLYTE_INTERNAL_TASK_DOMAIN": task.domain,
        "FLYTE_INTERNAL_TASK_NAME": task.name,
        "FLYTE_INTERNAL_TASK_VERSION": task.version,
    }
