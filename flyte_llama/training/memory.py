"""Whether the system ended processes of this pod because its memory was full.

Linux counts them for each group of processes (cgroup), and a pod is one. A process that was killed looks the same
whoever did it, so a launcher compares the count before and after.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def out_of_memory_kills(root: Path = Path("/")) -> int | None:
    """How many processes of this group were ended so, since it exists; None if the system does not say.

    Args:
        root: The folder that holds `proc` and `sys`.
    """
    for file in _count_files(root):
        try:
            match = _KILLS.search(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if match is not None:
            return int(match[1])
    return None


def _count_files(root: Path) -> Iterator[Path]:
    """The files that may have the count, for both versions of cgroups, those of the smallest group first."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    mounts = {"": ("sys/fs/cgroup", "memory.events"), "memory": ("sys/fs/cgroup/memory", "memory.oom_control")}
    # Each line is ID:CONTROLLERS:PATH. In a container the path can be that of the host, where the mount has no folder.
    groups = [line.split(":", 2)[1:] for line in lines if line.count(":") >= 2]
    for controllers, path in [*groups, ("memory", ""), ("", "")]:
        for controller in controllers.split(","):
            if controller in mounts:
                mount, name = mounts[controller]
                yield root / mount / path.lstrip("/") / name
    for mount, name in mounts.values():
        yield root / mount / name
