"""How much one run may take, and how one ended.

The kernel holds the limits that it knows for a process (memory, CPU time, a file's size, open files). Threads, files
and disk are counted by the template process ten times a second, so a run can pass them for a tenth of one.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Limits(NamedTuple):
    wall_s: float = 20
    """Seconds by the clock."""

    cpu_s: int = 15
    """Seconds of CPU time, of all threads together."""

    memory_bytes: int = 4 << 30
    """Address space, which is more than what is used; libraries that the template imported count."""

    file_bytes: int = 16 << 20
    """Size of one file."""

    open_files: int = 256
    """Files open at a time. So many, deleted while open, can hold `file_bytes` each until the run ends, uncounted."""

    disk_bytes: int = 256 << 20
    """All files of the scratch folder together."""

    files: int = 4096
    """Files and folders in the scratch folder."""

    threads: int = 128
    """Threads at a time."""

    told_bytes: int = 4 << 20
    """Length of all that is told, as JSON."""


@dataclass(frozen=True)
class Outcome:
    status: Literal["done", "timeout", "crashed"]
    """timeout: too long by the clock or on the CPU; crashed: any other end before all was told."""

    told: list[Any]
    """JSON values that the function yielded until it ended. Hostile code may have told others in its name."""

    detail: str
    """For people: the signal, the limit, the exception; empty when done."""


def limit_process(limits: Limits) -> None:
    """Set the kernel's limits on this process; they cannot be raised again without privileges."""
    for kind, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        # Where both are the same the kernel kills; a signal that comes before could be caught.
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (lowest, lowest))
