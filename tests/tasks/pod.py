"""Run a task from its serialised spec, as its pod would: the container's own command, placeholders filled in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flyteidl.core import errors_pb2, literals_pb2
from flytekit.models.task import TaskSpec


def run_in_pod(
    spec: TaskSpec, inputs: literals_pb2.LiteralMap, folder: Path, index: int | None = None
) -> literals_pb2.LiteralMap:
    """The task's outputs; of a mapped task, the outputs of item `index`."""
    for name in ("out", "raw"):
        (folder / name).mkdir(parents=True)
    (folder / "inputs.pb").write_bytes(inputs.SerializeToString())
    places = {
        "{{.input}}": folder / "inputs.pb",
        "{{.outputPrefix}}": folder / "out",
        "{{.rawOutputDataPrefix}}": folder / "raw",
        "{{.checkpointOutputPrefix}}": folder / "checkpoint",
        "{{.prevCheckpointPrefix}}": '""',
    }
    container = spec.template.container
    command = [str(places.get(argument, argument)) for argument in container.args]
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
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    error = folder / "out" / "error.pb"
    assert not error.exists(), errors_pb2.ErrorDocument.FromString(error.read_bytes())
    assert done.returncode == 0, done.stderr[-3000:]
    return literals_pb2.LiteralMap.FromString((folder / "out" / "outputs.pb").read_bytes())
