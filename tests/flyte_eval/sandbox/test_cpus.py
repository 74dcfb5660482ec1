"""The CPUs of a container: the least of its quotas, in both versions of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyte_llama.flyte_eval.sandbox.cpus import available_cpus, cpu_quota

INFINITE = float("inf")
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, INFINITE),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "400000 100000\n"}, 4),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "400000 100000\n"}, 2),
        ("0::/not/mounted\n", {"cpu.max": "300000 100000\n"}, 3),
        ("5:cpu,cpuacct:/p\n", {f"cpu,cpuacct/p/{QUOTA}": "50000", f"cpu,cpuacct/p/{PERIOD}": "100000"}, 0.5),
        ("5:cpu,cpuacct:/p\n", {f"cpu/{QUOTA}": "700000", f"cpu/{PERIOD}": "100000"}, 7),
        ("5:cpu:/\n", {f"cpu/{QUOTA}": "-1", f"cpu/{PERIOD}": "100000"}, INFINITE),
        ("4:memory:/p\n0::/\n", {"memory/p/cpu.max": "100000 100000"}, INFINITE),
        ("0::/\n", {"cpu.max": "damaged"}, INFINITE),
        ("", {}, INFINITE),
    ],
)  # fmt: skip
def test_the_least_quota_above_a_process_counts(tmp_path: Path, membership: str, files: dict[str, str], quota: float):
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "membership") == quota


def test_without_a_membership_there_is_no_quota(tmp_path: Path):
    assert cpu_quota(tmp_path, tmp_path / "missing") == INFINITE


def test_a_process_has_no_more_cpus_than_it_is_scheduled_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    assert available_cpus() == 1
