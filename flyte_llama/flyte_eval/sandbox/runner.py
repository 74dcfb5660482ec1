"""The processes below a `Sandbox`: a template, which forks a watcher for each request, which forks the run.

    Sandbox           in the parent's process: sends one request at a time to a template, and reads its outcome
      └ template      imports everything that runs need, once; never reads a request or an answer
          └ watcher   enforces the limits that the kernel does not, ends the run, writes its outcome (`watcher`)
              └ run   reads the request, confines itself for good, calls the function

All share the template's standard input. The template reads its configuration from it, as one line of JSON; after that
it only waits until there is more, and the run reads the request. So no run finds data of an earlier one in its memory.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import select
import signal
import socket
import struct
import tempfile
import termios
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from flyte_llama.flyte_eval.sandbox.confinement import confine
from flyte_llama.flyte_eval.sandbox.finder import PackageFilter
from flyte_llama.flyte_eval.sandbox.interpreter import interpreter_files
from flyte_llama.flyte_eval.sandbox.kernel import prctl
from flyte_llama.flyte_eval.sandbox.limits import Limits, limit_process
from flyte_llama.flyte_eval.sandbox.packages import (
    Package,
    loaded_alone,
    loaded_packages,
    package_folders,
    readable_files,
)
from flyte_llama.flyte_eval.sandbox.seccomp import ask_for_threads
from flyte_llama.flyte_eval.sandbox.watcher import END, ERROR, PR_SET_PDEATHSIG, VALUE, send_listener, watch_run

LOADED = b"loaded: "
"""The template's answer starts with it, before the names, if hidden packages are in its memory."""

_OUTPUT = 3
"""The run's descriptor of its socket."""


def main() -> None:
    """Serve requests until the input ends, or a watcher fails."""
    # move standard output to another descriptor, so that the function cannot print into the answers
    answers = os.dup(1)
    _redirect_to_null(1)
    setup = json.loads(_read_line(0))
    prepared = _Preparation.prepare(setup)
    # Python loads what a .pth file names before this module
    if loaded := loaded_alone(setup["hidden"], prepared.packages):
        _write_all(answers, LOADED + " ".join(sorted(loaded)).encode() + b"\n")
        return
    _write_all(answers, b"ready\n")

    # fork a watcher for each request
    while _wait_for_request():
        watcher = os.fork()
        if watcher == 0:
            status = 1
            try:
                outcome = watch_run(prepared.serve_request, prepared.limits)
                _write_all(answers, json.dumps(outcome).encode() + b"\n")
                status = 0
            finally:
                os._exit(status)
        if os.waitpid(watcher, 0)[1]:
            return


@dataclass(frozen=True)
class _Preparation:
    """What the template has prepared for all runs."""

    function: Callable[[Any], Iterable[Any]]
    imports: Callable[[Any], Iterable[str]] | None
    limits: Limits
    filter: PackageFilter
    packages: dict[str, Package]
    hidden: frozenset[str]
    readable: set[str]
    """What every run may read: the interpreter's files, and the packages that are in memory."""

    @classmethod
    def prepare(cls, setup: dict[str, Any]) -> _Preparation:
        """Import the modules for all runs, and find the files that these may read."""
        packages = {key: Package(*fields) for key, fields in setup["packages"].items()}

        # hide packages before their importers are imported: a module that was never loaded is nowhere in memory
        hidden = frozenset(setup["hidden"])
        denied = [os.path.join(packages[key].folder, file) for key in hidden for file in packages[key].files]
        package_filter = PackageFilter(package_folders(), denied=denied)
        package_filter.install()
        for preloaded in setup["preload"]:
            importlib.import_module(preloaded)
        function, imports = _load(setup["function"]), _load(setup["imports"]) if setup["imports"] else None
        package_filter.keep_names()

        # a loaded module may import more of its package, and of those that it requires
        loaded = loaded_packages(packages)
        readable = readable_files(setup["preload"], packages, hidden, loaded).union(interpreter_files())
        return cls(function, imports, Limits(**setup["limits"]), package_filter, packages, hidden, readable)

    def serve_request(self, scratch: str, channel: socket.socket) -> NoReturn:
        """Read the request and write the function's values, in the process of the run; never returns."""
        try:
            # die with the watcher; if it ended before prctl, its end of the channel is closed, and sending fails
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.dup2(channel.detach(), _OUTPUT)
            request = json.loads(_read_line(0))
            send_listener(_OUTPUT, ask_for_threads())

            # leave the watcher's session, and keep no descriptor but the channel to it
            os.setsid()
            for descriptor in (0, 1, 2):
                _redirect_to_null(descriptor)
            os.closerange(_OUTPUT + 1, os.sysconf("SC_OPEN_MAX"))

            # confine this process, then run the function
            os.environ.update(HOME=scratch, TMPDIR=scratch)
            tempfile.tempdir = None
            os.chdir(scratch)
            limit_process(self.limits)
            names = self.imports(request) if self.imports else ()
            readable = self.readable | readable_files(names, self.packages, self.hidden)
            self.filter.allow_only(readable)
            confine(scratch, readable)
            for value in self.function(request):
                _send(_OUTPUT, VALUE, value)
            _send(_OUTPUT, END, "")
        except BaseException as error:  # never let the run return into the template's code
            try:
                _send(_OUTPUT, ERROR, f"{type(error).__name__}: {error}"[:300])
            except BaseException:
                os._exit(1)
        finally:
            os._exit(0)


def _load(name: str) -> Any:
    """The attribute of a module named `module:attribute`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _wait_for_request() -> bool:
    """Wait for the next request without reading any of it; return False if the input has ended."""
    select.select([0], [], [])
    # FIONREAD: the number of bytes that can be read, 0 at the end of the input
    return struct.unpack("i", fcntl.ioctl(0, termios.FIONREAD, bytes(4)))[0] > 0


def _send(writing: int, kind: str, value: Any) -> None:
    _write_all(writing, json.dumps([kind, value]).encode() + b"\n")


def _read_line(descriptor: int) -> bytes:
    """Read one line; the writer may send the next only after this one is answered.

    Raises:
        EOFError: if the input ends first.
    """
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(descriptor, 1 << 20)
        if not part:
            raise EOFError("the input has ended")
        line += part
    return line


def _write_all(descriptor: int, line: bytes) -> None:
    """Write all bytes to a file descriptor."""
    while line:
        line = line[os.write(descriptor, line) :]


def _redirect_to_null(descriptor: int) -> None:
    """Redirect a file descriptor to /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)
