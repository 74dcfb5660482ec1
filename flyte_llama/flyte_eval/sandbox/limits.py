"""The resources that one run may use, and the outcome of a run.

The kernel enforces the limits on memory, CPU time, file size and open files, and asks the watcher process before each
new thread. The watcher checks files and disk ten times a second, so a run can exceed these for a tenth of a second.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Limits(NamedTuple):
    """The most that one run may use."""

    wall_s: float = 20
    """Seconds by the clock."""

    cpu_s: int = 15
    """Seconds of CPU time, all threads together."""

    memory_bytes: int = 4 << 30
    """Address space, which is more than the memory in use; includes the libraries that the template imported."""

    file_bytes: int = 16 << 20
    """Size of one file."""

    open_files: int = 256
    """Files open at a time."""

    disk_bytes: int = 256 << 20
    """Disk space of all files in the scratch folder together, and of deleted files that are still open or mapped."""

    files: int = 4096
    """Files and folders in the scratch folder."""

    threads: int = 128
    """Threads at a time; starting more fails."""

    output_bytes: int = 4 << 20
    """Length of all values together, as JSON lines."""


@dataclass(frozen=True)
class Outcome:
    """How one run ended, and the values that it yielded."""

    status: Literal["done", "timeout", "crashed"]
    """timeout: too much time, or killed by the kernel for CPU time or memory; crashed: any other early end."""

    values: list[Any]
    """JSON values that the function yielded until it ended; hostile code may have added others."""

    detail: str
    """The signal, limit or exception that ended the run, for people; empty if done."""


def limit_process(limits: Limits) -> None:
    """Set the kernel's limits on this process; raising them again takes privileges."""
    for kind, limit in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        # Soft and hard limit are equal, so the kernel kills at once: the signal at a lower soft limit can be caught.
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        lowest = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (lowest, lowest))
