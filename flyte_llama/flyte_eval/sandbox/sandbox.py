"""Runs a function on hostile input, many requests at once: requests in, outcomes out, in order.

The process of a run has limits (`Limits`). It can read only the interpreter's files and installed packages, and write
only to its scratch folder. It has no network, starts no processes, sends no signals and gets none of this process's
environment variables. Afterwards it is killed, with its threads, and its files are removed.

Not covered: faults of the kernel, timing side channels, and false values, since hostile code can yield them in the
function's name. So check the values, and judge them outside the sandbox. Needs Linux 5.13 or later with Landlock, on
x86_64 or aarch64; refuses to run anything elsewhere. `confinement_problem` tells whether this machine can.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import queue
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flyte_llama.errors import EvaluationError
from flyte_llama.flyte_eval.sandbox.limits import Limits, Outcome
from flyte_llama.flyte_eval.sandbox.seccomp import can_filter
from flyte_llama.progress import track
from flyte_llama.workspace import temporary_folder

DEFAULT_LIMITS = Limits()
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    # A process with more than one thread cannot be forked safely.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
_TEMPLATE_PROGRAM = "from flyte_llama.flyte_eval.sandbox.runner import main; main()"
# A confined process must be unable to open a socket, or a file that it could open before.
_CONFINEMENT_CHECK = """
import os, socket, sys
from flyte_llama.flyte_eval.sandbox.limits import Limits
from flyte_llama.flyte_eval.sandbox.confinement import confine
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
    sys.exit("a confined process could still open files or sockets")
"""
_ADVICE = "Use Linux 5.13 or later on x86_64 or aarch64 with Landlock and seccomp, or set flyte_eval: {source: none}."


class Sandbox:
    """A pool of template processes for one function; they live as long as the context."""

    def __init__(
        self, function: str, *, preload: Sequence[str] = (), limits: Limits = DEFAULT_LIMITS, workers: int | None = None
    ) -> None:
        """Configure the sandbox; entering the context starts the processes.

        Args:
            function: `package.module:name` of a generator that takes a JSON value and yields JSON values, each as soon
                as it is known.
            preload: Modules to import once, before the forks.
            workers: Runs at a time; None means one per core.
        """
        self._setup = {"function": function, "preload": list(preload), "limits": limits._asdict()}
        self._size = workers or os.cpu_count() or 1
        self._free: queue.Queue[_Template] = queue.Queue()

    def __enter__(self) -> Sandbox:
        """Start the template processes.

        Raises:
            EvaluationError: if this machine cannot confine a process; nothing runs unconfined.
        """
        if reason := confinement_problem():
            raise EvaluationError(reason)
        with ExitStack() as stack:
            self._folder = str(stack.enter_context(temporary_folder("sandbox")))
            stack.callback(self._end)
            self._start()
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def restart(self) -> None:
        """Replace all processes, so that later runs share no state with earlier ones; call it between runs only."""
        self._end()
        self._start()

    def run(self, requests: Sequence[Any], *, what: str) -> list[Outcome]:
        """Return one outcome per request, in order.

        Args:
            what: The label of the progress bar.
        """
        with ThreadPoolExecutor(self._size) as pool:
            return list(track(pool.map(self._run_one, requests), what=what, total=len(requests)))

    def _run_one(self, request: Any) -> Outcome:
        template = self._free.get()
        try:
            return Outcome(**template.run(request))
        except (OSError, ValueError, RecursionError):
            # The template has ended, or its answer cannot be parsed: replace it.
            template.end()
            template = self._start_template()
            return Outcome("crashed", [], "the watcher process ended")
        finally:
            self._free.put(template)

    def _start(self) -> None:
        for template in [self._start_template() for _ in range(self._size)]:
            self._free.put(template)

    def _end(self) -> None:
        while not self._free.empty():
            self._free.get().end()

    def _start_template(self) -> _Template:
        return _Template(self._setup, self._folder)


@functools.cache
def confinement_problem() -> str | None:
    """Return None if this machine can confine a process, else a message with the reason and the remedy."""
    if sys.platform != "linux" or not can_filter():
        return f"model-written code cannot be confined on {platform.system()} {platform.machine()}. {_ADVICE}"
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with temporary_folder("confinement") as folder:
        inside, outside = folder / "inside", folder / "outside"
        inside.mkdir()
        outside.touch()
        program = [sys.executable, "-s", "-P", "-c", _CONFINEMENT_CHECK, str(inside), str(outside)]
        done = subprocess.run(program, env=environment, capture_output=True, text=True)  # noqa: S603  # the constant program
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or ["the check failed without a message"]
    return f"model-written code cannot be confined here: {lines[-1]}. {_ADVICE}"


class _Template:
    """The parent's side of one template process, see `runner`."""

    def __init__(self, setup: dict[str, Any], folder: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, on the constant program
            [sys.executable, "-s", "-P", "-c", _TEMPLATE_PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(_module_paths()), "TMPDIR": folder},
            cwd="/",
            text=True,
        )
        self._function, self._is_ready = setup["function"], False
        self._send(setup)

    def run(self, request: Any) -> dict[str, Any]:
        """Return the fields of the request's `Outcome`.

        Raises:
            EvaluationError: if the function cannot be imported in the template process.
            OSError, ValueError: if the process has ended.
        """
        if not self._is_ready:
            if self._receive() != "ready\n":
                raise EvaluationError(f"{self._function} cannot be imported in the sandbox's process: check the name.")
            self._is_ready = True
        self._send(request)
        fields: dict[str, Any] = json.loads(self._receive())
        return fields

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, value: Any) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()

    def _receive(self) -> str:
        return self._process.stdout.readline() if self._process.stdout is not None else ""


def _module_paths() -> list[str]:
    """The module search path of this process, as absolute paths."""
    return [str(Path(path or ".").resolve()) for path in sys.path]
