"""Functions run on hostile input, many at once: requests in, outcomes out, in order.

What is covered: the run's process has limits (`Limits`), reads files of the interpreter and of installed packages
alone, writes its scratch folder alone, has no network, no processes of its own, no signals, no environment of ours, and
is ended with all it made. What is not: faults of the kernel, what can be learned from timing, and what the hostile code
tells in the function's name; so check what is told, and judge it where the code is not. Linux on x86_64 and aarch64
with Landlock (5.13 and later); nowhere else is anything run.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flyte_llama.errors import EvaluationError
from flyte_llama.progress import track
from flyte_llama.sandbox.limits import Limits, Outcome
from flyte_llama.sandbox.probe import why_not
from flyte_llama.sandbox.template import paths
from flyte_llama.sandbox.watching import remove

_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    # A process that is forked must have one thread.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
DEFAULT_LIMITS = Limits()
_PROGRAM = "from flyte_llama.sandbox.template import main; main()"


class Sandbox:
    """Some template processes, for as long as the context lasts."""

    def __init__(
        self, function: str, *, preload: Sequence[str] = (), limits: Limits = DEFAULT_LIMITS, workers: int | None = None
    ) -> None:
        """A sandbox for one function.

        Args:
            function: `package.module:name`, a generator: a JSON value → JSON values, each told as soon as it is known.
            preload: Modules that are imported once, before the forks.
            workers: Runs at a time; None is as many as there are cores.
        """
        self._setup = {"function": function, "preload": list(preload), "limits": limits._asdict()}
        self._size = workers or os.cpu_count() or 1
        self._free: queue.Queue[_Template] = queue.Queue()

    def __enter__(self) -> Sandbox:
        """Raises EvaluationError where this machine cannot confine: nothing is ever run unconfined."""
        if reason := why_not():
            raise EvaluationError(reason)
        self._folder = tempfile.mkdtemp(prefix="flyte-llama-sandbox-")
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        remove(self._folder)

    def renew(self) -> None:
        """Go on with other processes, so that what was the same by theirs is so no more; not while something runs."""
        self._end()
        self._start()

    def run(self, requests: Sequence[Any], *, what: str) -> list[Outcome]:
        """One outcome a request, in their order.

        Args:
            what: What is said of it while it goes on.
        """
        with ThreadPoolExecutor(self._size) as pool:
            return list(track(pool.map(self._one, requests), what=what, total=len(requests)))

    def _one(self, request: Any) -> Outcome:
        template = self._free.get()
        try:
            return Outcome(**template.ask(request))
        except (OSError, ValueError, RecursionError):
            template.end()
            template = self._template()
            return Outcome("crashed", [], "the process that watches over runs ended")
        finally:
            self._free.put(template)

    def _start(self) -> None:
        for template in [self._template() for _ in range(self._size)]:
            self._free.put(template)

    def _end(self) -> None:
        while not self._free.empty():
            self._free.get().end()

    def _template(self) -> _Template:
        return _Template(self._setup, self._folder)


class _Template:
    """One of the processes of `template.py`, seen from outside."""

    def __init__(self, setup: dict[str, Any], folder: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter on a program of ours
            [sys.executable, "-s", "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths()), "TMPDIR": folder},
            cwd="/",
            text=True,
        )
        self._function, self._is_ready = setup["function"], False
        self._say(setup)

    def ask(self, request: Any) -> dict[str, Any]:
        """The outcome's fields.

        Raises:
            EvaluationError: if the function cannot be imported there.
            OSError, ValueError: if the process has ended.
        """
        if not self._is_ready:
            if self._heard() != "ready\n":
                raise EvaluationError(f"{self._function}: cannot be imported where it is to run confined.")
            self._is_ready = True
        self._say(request)
        told: dict[str, Any] = json.loads(self._heard())
        return told

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _say(self, value: Any) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()

    def _heard(self) -> str:
        return self._process.stdout.readline() if self._process.stdout is not None else ""
