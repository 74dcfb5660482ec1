"""How many CPUs this process may use: those it is scheduled on, and the quota of its container."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CGROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_cpus() -> int:
    """The number of CPUs of this process, at least 1; a container's quota is rounded down."""
    return max(1, int(min(len(os.sched_getaffinity(0)), cpu_quota(_CGROUPS, _MEMBERSHIP))))


def cpu_quota(cgroups: Path, membership: Path) -> float:
    """The CPU time per second of the control group with the least, among this process's and those above it.

    Infinite if none is limited. Both versions of control groups count: `cpu.max` of version 2, and `cpu.cfs_quota_us`
    of version 1.

    Args:
        cgroups: The folder where control groups are mounted, usually `/sys/fs/cgroup`.
        membership: The file that names the process's groups, as `/proc/self/cgroup` does.
    """
    quotas = [float("inf")]
    lines = membership.read_text().splitlines() if membership.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path may be the host's, while the container's own group is mounted as the top.
        for root in (cgroups, cgroups / "unified") if not controllers else (cgroups / controllers, cgroups / "cpu"):
            group = root / path.lstrip("/")
            quotas += [_group_quota(folder) for folder in [group, *group.parents] if folder.is_relative_to(root)]
    return min(quotas)


def _group_quota(folder: Path) -> float:
    """CPU time per second of one control group; infinite if it is not limited."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (folder / "cpu.max").read_text().split()
        return float("inf") if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float("inf") if int(quota) < 0 else int(quota) / int(period)
    return float("inf")
