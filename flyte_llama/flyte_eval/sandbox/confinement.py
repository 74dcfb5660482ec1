"""The restrictions that a process puts on itself before it runs code that nobody has reviewed."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable

from flyte_llama.flyte_eval.sandbox.landlock import restrict_paths
from flyte_llama.flyte_eval.sandbox.limits import Limits
from flyte_llama.flyte_eval.sandbox.packages import package_folders
from flyte_llama.flyte_eval.sandbox.seccomp import ask_for_threads, drop_capabilities, refuse_system_calls
from flyte_llama.flyte_eval.sandbox.usage import deleted_bytes

_WRITABLE = ("/dev/null",)


def confine(scratch: str, readable: Iterable[str]) -> None:
    """Restrict this process, for good, to reading the `readable` paths, and to reading and writing below `scratch`.

    It may also list the package folders: flytekit looks for the name `__init__.py` in the folder above a module.
    Modules of files that it may not read can be used only if they were imported before.

    Raises:
        OSError: if the kernel cannot restrict it.
    """
    restrict_paths(readable=readable, listable=package_folders(), writable=[*_WRITABLE, scratch])
    drop_capabilities()
    refuse_system_calls()


def try_confinement(scratch: str, outside: str) -> str:
    """Confine a new process, and return why that does not hold here; empty if it does.

    Args:
        scratch: A folder for the process.
        outside: A file elsewhere that this process can read.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, _confined_problem(scratch, outside).encode() + b"\n")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    problem = ""
    try:
        with os.fdopen(reading) as problems:
            problem = problems.readline().strip()
        # the watcher must see the files that a run holds
        deleted_bytes(child, scratch, Limits())
    except OSError as error:
        problem = problem or f"the files of a confined process cannot be seen ({error})"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return problem


def _confined_problem(scratch: str, outside: str) -> str:
    """Confine this process, and return why that fails or what the process can still do; empty if all is well."""
    try:
        ask_for_threads()
        confine(scratch, [])
    except OSError as error:
        return str(error)
    for forbidden in (socket.socket, lambda: os.open(outside, os.O_RDONLY)):
        try:
            forbidden()
        except PermissionError:
            continue
        return "a confined process could still open files or sockets"
    return ""
