"""Runs a function on hostile input, many requests at once: requests in, outcomes out, in order.

The process of a run has limits (`Limits`). It can read only the files of the interpreter and of the installed packages
that it imports, and write only to its scratch folder. It has no network, starts no processes, sends no signals, shares
no memory, queues or semaphores with other processes, and gets none of this process's environment variables. Afterwards
it is killed, with its threads, and its files are removed. A package can be hidden, even from a run that imports it.

Not covered: faults of the kernel, timing side channels, whether a file elsewhere exists, signals between runs at the
same time by futexes in files that both read, and false values, since hostile code can yield them in the function's
name. So check the values, and judge them outside the sandbox. Needs Linux 5.13 or later with Landlock, on x86_64 or
aarch64; refuses to run anything elsewhere. `confinement_problem` tells whether this machine can.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import queue
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flyte_llama.errors import EvaluationError
from flyte_llama.flyte_eval.sandbox.cpus import available_cpus
from flyte_llama.flyte_eval.sandbox.limits import Limits, Outcome
from flyte_llama.flyte_eval.sandbox.packages import (
    installed_packages,
    own_packages,
    package_key,
    required_packages,
)
from flyte_llama.flyte_eval.sandbox.runner import LOADED
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
    # It loads its plugins, which may be hidden packages, before these can be hidden.
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}
_TEMPLATE_PROGRAM = "from flyte_llama.flyte_eval.sandbox.runner import main; main()"
_CONFINEMENT_CHECK = """
import sys
from flyte_llama.flyte_eval.sandbox.confinement import try_confinement
sys.exit(try_confinement(*sys.argv[1:]) or 0)
"""
_SECONDS_TO_IMPORT, _SECONDS_BEYOND_RUN = 600, 180
"""The longest waits for a template's imports, and for an outcome after the run's own time limit."""

_ADVICE = "Use Linux 5.13 or later on x86_64 or aarch64 with Landlock and seccomp, or set flyte_eval: {source: none}."


class Sandbox:
    """A pool of template processes for one function; they live as long as the context."""

    def __init__(
        self,
        function: str,
        *,
        imports: str = "",
        preload: Sequence[str] = (),
        hidden: Sequence[str] = (),
        limits: Limits = DEFAULT_LIMITS,
        workers: int | None = None,
    ) -> None:
        """Configure the sandbox; entering the context starts the processes.

        Args:
            function: `package.module:name` of a generator that takes a JSON value and yields JSON values, each as soon
                as it is known.
            imports: `package.module:name` of a function that takes the same value and returns the dotted names of the
                modules that the run may import; empty if it needs none but the preloaded ones.
            preload: Modules to import once, before the forks; every run may read their packages.
            hidden: Names of distributions that count as not installed. This package is hidden in any case.
            workers: Runs at a time; None means one per CPU that this process, or its container, may use.

        Raises:
            EvaluationError: if a preloaded module needs a hidden distribution.
        """
        for name in hidden:
            if not can_hide_package(name, preload=preload):
                raise EvaluationError(f"the sandbox cannot hide {name}, since its own functions need it.")
        packages = installed_packages()
        self._setup = {
            "function": function,
            "imports": imports,
            "preload": list(preload),
            "hidden": sorted({package_key(name) for name in hidden} & packages.keys() - own_packages(packages)),
            "packages": packages,
            "limits": limits._asdict(),
        }
        self._limits, self._size = limits, workers or available_cpus()
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
        return _Template(self._setup, self._folder, self._limits.wall_s + _SECONDS_BEYOND_RUN)


def can_hide_package(name: str, *, preload: Sequence[str]) -> bool:
    """False if a distribution is one that a preloaded module needs."""
    return package_key(name) not in required_packages(preload, installed_packages(), optional=False)


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

    def __init__(self, setup: dict[str, Any], folder: str, seconds: float) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, on the constant program
            [sys.executable, "-s", "-P", "-c", _TEMPLATE_PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(_module_paths()), "TMPDIR": folder},
            cwd="/",
            bufsize=0,
        )
        if self._process.stdin is not None:
            # a full pipe would block a write for ever
            os.set_blocking(self._process.stdin.fileno(), False)
        self._setup, self._seconds, self._is_ready = setup, seconds, False

    def run(self, request: Any) -> dict[str, Any]:
        """Return the fields of the request's `Outcome`.

        Raises:
            EvaluationError: if the function cannot be imported in the template process, or a hidden package is there.
            OSError, ValueError: if the process has ended, or does not answer in time.
        """
        if not self._is_ready:
            self._send(self._setup, _SECONDS_TO_IMPORT)
            answer = self._receive(_SECONDS_TO_IMPORT)
            if answer.startswith(LOADED):
                raise EvaluationError(
                    f"the sandbox cannot hide {answer.removeprefix(LOADED).decode().strip()}: Python imports it at its "
                    "start, by a .pth file or sitecustomize. Remove that import, or do not hold the package out."
                )
            if answer != b"ready\n":
                raise EvaluationError(
                    f"{self._setup['function']} cannot be imported in the sandbox's process: check the name."
                )
            self._is_ready = True
        self._send(request, self._seconds)
        fields: dict[str, Any] = json.loads(self._receive(self._seconds))
        return fields

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _send(self, value: Any, seconds: float) -> None:
        """Write a value as a line.

        Raises:
            OSError: if the process has ended, or does not read all of it in time.
        """
        if self._process.stdin is not None:
            line = memoryview(json.dumps(value).encode() + b"\n")
            poll, end = select.poll(), time.monotonic() + seconds
            poll.register(self._process.stdin, select.POLLOUT)
            while line:
                if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                    raise TimeoutError("the template did not read its input in time")
                line = line[self._process.stdin.write(line) or 0 :]

    def _receive(self, seconds: float) -> bytes:
        """The next line; less of it if the process ends or takes longer."""
        line = bytearray()
        if self._process.stdout is not None:
            poll, end = select.poll(), time.monotonic() + seconds
            poll.register(self._process.stdout, select.POLLIN)
            while not line.endswith(b"\n") and poll.poll(max(0.0, end - time.monotonic()) * 1000):
                if not (part := self._process.stdout.read(1 << 16)):
                    break
                line += part
        return bytes(line)


def _module_paths() -> list[str]:
    """The module search path of this process, as absolute paths."""
    return [str(Path(path or ".").resolve()) for path in sys.path]
