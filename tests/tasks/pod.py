"""Run a task from its serialised spec as a pod would: the container's command, with the placeholders filled in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flyteidl.core import errors_pb2, literals_pb2
from flytekit.models.task import TaskSpec


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
) -> Pod:
    """Start one attempt; its checkpoints go to `folder/checkpoint`.

    Args:
        index: For a map task, the index of its item.
        previous: The folder of the previous attempt.
    """
    for name in ("out", "raw"):
        (folder / name).mkdir(parents=True)
    (folder / "inputs.pb").write_bytes(inputs.SerializeToString())
    values = {
        "{{.input}}": folder / "inputs.pb",
        "{{.outputPrefix}}": folder / "out",
        "{{.rawOutputDataPrefix}}": folder / "raw",
        "{{.checkpointOutputPrefix}}": folder / "checkpoint",
        "{{.prevCheckpointPrefix}}": previous / "checkpoint" if previous else '""',
    }
    container = spec.template.container
    command = [str(values.get(argument, argument)) for argument in container.args]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        **container.env,
        "PATH": path,
        "FLYTE_INTERNAL_EXECUTION_ID": "test",
        "FLYTE_FAIL_ON_ERROR": "true",
    }
    if index is not None:
        environment |= {"BATCH_JOB_ARRAY_INDEX_VAR_NAME": "INDEX", "INDEX": str(index)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    return Pod(folder, process)


def run_in_pod(
    spec: TaskSpec,
    inputs: literals_pb2.LiteralMap,
    folder: Path,
    index: int | None = None,
    previous: Path | None = None,
) -> literals_pb2.LiteralMap:
    """Run the task to its end, and return its outputs."""
    pod = start_pod(spec, inputs, folder, index=index, previous=previous)
    try:
        returned = pod.process.wait(timeout=900)
    finally:
        pod.end()
    error, outputs = pod.error(), pod.outputs()
    assert error is None, error
    assert returned == 0, pod.log()[-3000:]
    assert outputs is not None
    return outputs
