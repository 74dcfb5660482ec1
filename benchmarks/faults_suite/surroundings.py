"""Runs in unusual surroundings: full disks, limits, clocks, languages, owners, folders that cannot be written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from faults_suite.case import CannotRunError, Case, Job, Seen, job
from faults_suite.experiment import Outcome, describe_end, same_as, write_config
from faults_suite.place import Ended, Place

SECTION = "Surroundings"
_NAMESPACE = ("unshare", "-rm")
"""A user namespace of its own, in which file systems can be mounted."""

_DAY_S = 24 * 3600
_CLOCK = Path(__file__).with_name("clock.c")


@dataclass(frozen=True)
class Surroundings:
    """A run in unusual surroundings that gives the same, or refuses to begin."""

    name: str
    done: str
    shell: str = ""
    """Shell commands that run first, in the process that then runs the workflow."""

    variables: dict[str, str | None] = field(default_factory=dict)
    mounts: bool = False
    """Whether the shell commands mount something."""

    refused: str = ""
    """A pattern of the message; empty if the run must give the same figures and weights."""

    begins: str = "empty"
    """What the output folder holds before: `empty` or `plain`, which is a finished run."""

    needs_root: bool = False


_READ_ONLY = 'mount --bind "{0}" "{0}" && mount -o remount,ro,bind "{0}"'
SAME = (
    Surroundings("64 open files", "ulimit -n 64", "ulimit -n 64"),
    Surroundings("128 open files", "ulimit -n 128", "ulimit -n 128"),
    Surroundings("6 GB of address space", "ulimit -v 6000000", "ulimit -v 6000000"),
    Surroundings("small stack", "ulimit -s 256", "ulimit -s 256"),
    Surroundings("LANG=C", "LC_ALL=C, LANG=C", variables={"LC_ALL": "C", "LANG": "C"}),
    Surroundings(
        "no UTF-8 mode",
        "LC_ALL=POSIX without Python's UTF-8 mode",
        variables={"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ),
    Surroundings("latin-1 output", "PYTHONIOENCODING=latin-1", variables={"PYTHONIOENCODING": "latin-1"}),
    Surroundings("HOME unset", "HOME is not set", variables={"HOME": None}),
    Surroundings("TMPDIR missing", "TMPDIR names a folder that does not exist", variables={"TMPDIR": "/nonexistent"}),
    Surroundings("TMPDIR read-only", "TMPDIR is mounted read-only", _READ_ONLY.format("$TMPDIR"), mounts=True),
    Surroundings("hash seed", "PYTHONHASHSEED=4242", variables={"PYTHONHASHSEED": "4242"}),
    Surroundings("time zone", "TZ=Asia/Kathmandu", variables={"TZ": "Asia/Kathmandu"}),
    Surroundings("umask 077", "umask 077", "umask 077"),
    Surroundings("nothing special", "a second undisturbed run"),
)
REFUSED = (
    Surroundings(
        "output read-only",
        "the output folder is mounted read-only",
        'mkdir -p "$FLYTE_LLAMA_OUTPUT" && ' + _READ_ONLY.format("$FLYTE_LLAMA_OUTPUT"),
        mounts=True,
        refused="/output",
    ),
    Surroundings(
        "output read-only after a run",
        "the output folder of a finished run is mounted read-only",
        _READ_ONLY.format("$FLYTE_LLAMA_OUTPUT"),
        mounts=True,
        refused="/output",
        begins="plain",
    ),
    Surroundings("output is a file", "the output folder is a file", 'touch "$FLYTE_LLAMA_OUTPUT"', refused="/output"),
    Surroundings(
        "output below a file",
        "the output folder lies below a file",
        'touch "$TMPDIR/file"; export FLYTE_LLAMA_OUTPUT="$TMPDIR/file/output"',
        refused="file",
    ),
    Surroundings(
        "output of another user",
        "the output folder belongs to another user, and the run has no capabilities",
        'mkdir "$FLYTE_LLAMA_OUTPUT"; chown 65534:65534 "$FLYTE_LLAMA_OUTPUT"; exec setpriv --bounding-set=-all "$@"',
        needs_root=True,
        refused="/output",
    ),
    Surroundings(
        "HOME read-only", "HOME is mounted read-only", _READ_ONLY.format("$HOME"), mounts=True, refused="/home"
    ),
    Surroundings("HOME impossible", "HOME=/dev/null/home", variables={"HOME": "/dev/null/home"}, refused="/home"),
)


@dataclass(frozen=True)
class FullDisk:
    """A file system that is too small for the run, and later is not."""

    what: str
    variable: str
    size: str


DISKS = (
    FullDisk("output", "FLYTE_LLAMA_OUTPUT", "1m"),
    FullDisk("output", "FLYTE_LLAMA_OUTPUT", "4200k"),
    FullDisk("output", "FLYTE_LLAMA_OUTPUT", "4800k"),
    FullDisk("output", "FLYTE_LLAMA_OUTPUT", "5600k"),
    FullDisk("temporary folder", "TMPDIR", "40k"),
    FullDisk("temporary folder", "TMPDIR", "400k"),
    FullDisk("HOME", "HOME", "20k"),
)
# Limits that a run may not survive: it ends, and the same command without the limit gives the same.
LIMITS = ("ulimit -n 20", "ulimit -v 2500000", "ulimit -f 300", "ulimit -u 40", "ulimit -t 6")


def surroundings_jobs(references: dict[str, Outcome]) -> list[Job]:
    """Every case above, and those that need more than a shell command."""
    reference = references["plain"]
    return [
        *(_same_job(surroundings, reference) for surroundings in SAME),
        *(_refused_job(surroundings) for surroundings in REFUSED),
        *(_disk_job(disk, reference) for disk in DISKS),
        *(_limit_job(limit, reference) for limit in LIMITS),
        *_clock_jobs(reference),
    ]


def _start(place: Place, config: Path, surroundings: Surroundings) -> Ended:
    prefix = _NAMESPACE if surroundings.mounts else ()
    if prefix and not can_mount():
        raise CannotRunError("this machine does not allow user namespaces")
    return place.run(config, shell=surroundings.shell, prefix=prefix, **surroundings.variables)


def _same_job(surroundings: Surroundings, reference: Outcome) -> Job:
    def run(place: Place) -> Seen:
        place.empty()
        return same_as(place, _start(place, write_config(place, "plain"), surroundings), reference)

    case = Case(SECTION, surroundings.name, surroundings.done, "same figures and weights")
    return job(case, run, takes_s=30)


def _refused_job(surroundings: Surroundings) -> Job:
    def run(place: Place) -> Seen:
        place.empty() if surroundings.begins == "empty" else place.restore(surroundings.begins)
        if surroundings.needs_root and os.getuid() != 0:
            raise CannotRunError("only root can give a folder to another user")
        ended = _start(place, write_config(place, "plain"), surroundings)
        named = re.search(surroundings.refused, ended.output) is not None
        return Seen(describe_end(ended), ended.code == 2 and named and not ended.has_traceback)

    case = Case(SECTION, surroundings.name, surroundings.done, "one message that names it, exit 2", True, (45,))
    return job(case, run)


def _disk_job(disk: FullDisk, reference: Outcome) -> Job:
    """A run on a small file system, and the same command once the file system is larger."""

    def run(place: Place) -> Seen:
        if not can_mount():
            raise CannotRunError("this machine does not allow user namespaces")
        place.empty()
        target = f'"${disk.variable}"'
        # The file system ends with the namespace, so the output is copied out of it.
        shell = f"""mkdir -p {target}; mount -t tmpfs -o size={disk.size} none {target}
"$@"; echo "first run: exit $?"
mount -o remount,size=2g {target}
"$@"; code=$?
if [ {disk.variable} = FLYTE_LLAMA_OUTPUT ]; then
  cp -a {target}/. "$OUTSIDE"
fi
exit $code"""
        outside = place.folder / "outside"
        outside.mkdir(exist_ok=True)
        ended = place.run(write_config(place, "plain"), shell=shell, prefix=_NAMESPACE, OUTSIDE=str(outside))
        if disk.variable == "FLYTE_LLAMA_OUTPUT":
            shutil.rmtree(place.output, ignore_errors=True)
            outside.rename(place.output)
        first, _, _ = ended.output.partition("first run: exit ")
        code = re.search(r"first run: exit (\d+)", ended.output)
        same = same_as(place, ended, reference)
        last = Ended(int(code[1]) if code else -1, first, 0)
        named = re.search(r"No space left|free|full", first, re.IGNORECASE) is not None or last.code == 0
        return Seen(f"{describe_end(last)}; then {same.text}", same.is_expected and named)

    case = Case(
        SECTION,
        f"full disk: {disk.what}, {disk.size}",
        f"a file system of {disk.size}, then a larger one",
        "the message names the lack of room; then the same command gives the same",
        groups=(24,),
    )
    return job(case, run, takes_s=45)


def _limit_job(limit: str, reference: Outcome) -> Job:
    def run(place: Place) -> Seen:
        place.empty()
        config = write_config(place, "plain")
        first = place.run(config, shell=limit)
        same = same_as(place, place.run(config), reference)
        return Seen(f"{describe_end(first)}; then {same.text}", same.is_expected)

    return job(
        Case(SECTION, limit, f"{limit}, then no limit", "ends or goes on; then the same command gives the same"),
        run,
        takes_s=45,
    )


def _clock_jobs(reference: Outcome) -> list[Job]:
    """Clocks that are wrong, or that jump within a run; the monotonic clock goes on, as it does on a real machine."""

    def with_clock(*shifts: str) -> Callable[[Place], Seen]:
        def run(place: Place) -> Seen:
            place.empty()
            library = _compile_clock(place.folder)
            for shift in shifts:
                ended = place.run(write_config(place, "plain"), LD_PRELOAD=str(library), CLOCK_SHIFT=shift)
                same = same_as(place, ended, reference)
                if not same.is_expected:
                    return same
            return same

        return run

    ahead, behind = 400 * _DAY_S, -11 * 365 * _DAY_S
    jumps = f"{3 * _DAY_S},{-400 * _DAY_S},{9000 * _DAY_S},0"
    table = (
        (
            "clock ahead, then behind",
            "400 days ahead, then 11 years behind on the same output",
            (f"{ahead}", f"{behind}"),
        ),
        ("clock jumps", "jumps of days and years within a run", (jumps,)),
    )
    return [
        job(Case(SECTION, name, done, "same figures and weights"), with_clock(*shifts), takes_s=35)
        for name, done, shifts in table
    ]


def can_mount() -> bool:
    """Whether this user can make a namespace and mount a file system in it."""
    done = subprocess.run([*_NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)  # noqa: S603
    return done.returncode == 0


def _compile_clock(folder: Path) -> Path:
    library = folder / "clock.so"
    if shutil.which("cc") is None:
        raise CannotRunError("there is no C compiler to make the wrong clock with")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, _CLOCK, "-ldl"], check=True)  # noqa: S603
    return library
