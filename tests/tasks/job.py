"""Run a task from its serialised spec in the pods of a PyTorchJob, which share a bucket."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flyteidl.core import errors_pb2, literals_pb2
from flytekit.models.task import TaskSpec

from tests.tasks.bucket import NAME, Bucket

ROOT = Path(__file__).parents[2]
WORKER = b"spawn_main"


@dataclass
class Job:
    """One attempt at a task on one node or several; its files are in the bucket below `name`."""

    name: str
    bucket: Bucket
    pods: list[subprocess.Popen[bytes]]
    logs: list[Path]

    def log(self, node: int = 0) -> str:
        return self.logs[node].read_text(errors="replace")

    def workers(self, node: int = 0) -> list[int]:
        """The ids of the processes that train on a node."""
        pod = str(self.pods[node].pid)
        children = subprocess.run(["pgrep", "-P", pod], capture_output=True, text=True).stdout.split()
        return [int(pid) for pid in children if WORKER in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def wait(self, node: int = 0, seconds: float = 900) -> int:
        return self.pods[node].wait(timeout=seconds)

    def wait_until(self, condition: Callable[[], object], seconds: float = 900) -> None:
        """Wait while all pods run; fails if one ends."""
        end = time.monotonic() + seconds
        while not condition():
            assert all(pod.poll() is None for pod in self.pods), "\n".join(map(self.tail, range(len(self.pods))))
            assert time.monotonic() < end, self.tail(0)
            time.sleep(0.05)

    def tail(self, node: int) -> str:
        return self.log(node)[-3000:]

    def outputs(self) -> literals_pb2.LiteralMap | None:
        content = self.bucket.objects.get(f"{self.name}/out/outputs.pb")
        return literals_pb2.LiteralMap.FromString(content) if content is not None else None

    def errors(self) -> list[errors_pb2.ContainerError]:
        """The errors of all pods, the first one first; Flyte shows that one."""
        keys = self.bucket.keys(rf"^{self.name}/out/error.*\.pb$")
        errors = [errors_pb2.ErrorDocument.FromString(self.bucket.objects[key]).error for key in keys]
        return sorted(errors, key=lambda error: error.timestamp.ToNanoseconds())


@contextmanager
def run_job(
    spec: TaskSpec,
    inputs: literals_pb2.LiteralMap,
    folder: Path,
    bucket: Bucket,
    *,
    nodes: int = 1,
    previous: str | None = None,
    **settings: str,
) -> Iterator[Job]:
    """Start the pods of an attempt, and end all of its processes after this context.

    Args:
        folder: For the logs; its name is that of the attempt.
        previous: The name of the previous attempt.
        settings: Variables of this package, without their prefix and in lower case.
    """
    folder.mkdir(parents=True)
    place = f"s3://{NAME}/{folder.name}"
    bucket.objects[f"{folder.name}/inputs.pb"] = inputs.SerializeToString()
    values = {
        "{{.input}}": f"{place}/inputs.pb",
        "{{.outputPrefix}}": f"{place}/out",
        "{{.rawOutputDataPrefix}}": f"{place}/raw",
        "{{.checkpointOutputPrefix}}": f"{place}/checkpoint",
        "{{.prevCheckpointPrefix}}": f"s3://{NAME}/{previous}/checkpoint" if previous else '""',
    }
    container = spec.template.container
    command = [values.get(argument, argument) for argument in container.args]
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),  # noqa: S108  # as in a pod
        "OMP_NUM_THREADS": "1",
        "FLYTE_INTERNAL_EXECUTION_ID": folder.name,
        **bucket.environment(),
        **container.env,
        "FLYTE_LLAMA_GPU_COUNT": "1",
        **{f"FLYTE_LLAMA_{name.upper()}": value for name, value in settings.items()},
    }
    if nodes > 1:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        environment |= {
            "FLYTE_LLAMA_NODES": str(nodes),
            "PET_RDZV_ENDPOINT": f"localhost:{port}",
            "PET_RDZV_BACKEND": "c10d",
            "PET_NNODES": f"{nodes}:{nodes}",
        }
    job = Job(folder.name, bucket, [], [folder / f"log-{node}" for node in range(nodes)])
    try:
        for node in range(nodes):
            named = environment | {"FLYTE_INTERNAL_WORKER_NAME": f"worker-{node}"}
            with job.logs[node].open("wb") as log:
                started = subprocess.Popen(
                    command, cwd=folder, env=named, stdout=log, stderr=log, start_new_session=True
                )
            job.pods.append(started)
        yield job
    finally:
        for pod in job.pods:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pod.pid, signal.SIGKILL)
            pod.wait()
