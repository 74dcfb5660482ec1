"""Whether this machine can confine a process: tried once, in a process that is then thrown away."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from flyte_llama.sandbox.seccomp import can_filter

# A process that was confined must not open a socket, nor a file that it could open before.
_PROGRAM = """
import os, socket, sys
from flyte_llama.sandbox.limits import Limits
from flyte_llama.sandbox.confinement import confine
folder, file = sys.argv[1:]
try:
    confine(folder, Limits())
except OSError as error:
    sys.exit(f"{error}")
for forbidden in (socket.socket, lambda: open(file)):
    try:
        forbidden()
    except PermissionError:
        continue
    sys.exit("what was forbidden could be done")
"""
_ADVICE = "Use Linux 5.13 or later on x86_64 or aarch64 with Landlock and seccomp, or set flyte_eval: {source: none}."


@functools.cache
def why_not() -> str | None:
    """None if it can; else what is missing, and what to do, in a message."""
    if sys.platform != "linux" or not can_filter():
        return f"code that a model wrote cannot be confined on {platform.system()} {platform.machine()}. {_ADVICE}"
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with tempfile.TemporaryDirectory() as name:
        inside, outside = Path(name) / "inside", Path(name) / "outside"
        inside.mkdir()
        outside.touch()
        program = [sys.executable, "-s", "-P", "-c", _PROGRAM, str(inside), str(outside)]
        done = subprocess.run(program, env=environment, capture_output=True, text=True)  # noqa: S603  # our own program
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines() or ["it said nothing"]
    return f"code that a model wrote cannot be confined here: {said[-1]}. {_ADVICE}"
