"""A place to run commands in: a home, a temporary folder and an output folder that nothing else uses."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.report.hub import Hub

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RUN_LIMIT_S = 600.0
"""Ends a run that hangs; the case then fails."""

_MARK = "FAULTS_MARK"
# What a user's shell may have set, and what must not reach a run.
_HIDDEN = ("FLYTE_LLAMA_", "HF_", "HUGGING_FACE_", "WANDB_", "MLFLOW_", "GIT_", "PYTEST_", "FLYTE_", "OMP_", "MKL_")


@dataclass(frozen=True)
class Ended:
    """A run that ended: its exit code, all that it printed, and how long it took."""

    code: int
    output: str
    wall_s: float

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.output

    @property
    def last_words(self) -> str:
        """The last line; if it is in a box, as `pyflyte run` draws around an error, all lines of the box."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        if not lines or not lines[-1].startswith("╰"):
            return lines[-1] if lines else ""
        begin = max(index for index, line in enumerate(lines) if line.startswith("╭"))
        return " ".join(line.strip("│ ") for line in lines[begin + 1 : -1])


class Run:
    """A command that is running. Its output goes to a file."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path, cwd: Path) -> None:
        self.log, self.mark, self._begin = log, environment[_MARK], time.monotonic()
        self._seen: set[tuple[int, int]] = set()
        with log.open("wb") as file:
            self.process = subprocess.Popen(  # noqa: S603  # commands of this program
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=cwd,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, limit_s: float = RUN_LIMIT_S) -> Ended:
        """Wait for the end; a run that takes longer is killed, and its exit code is then 124."""
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            code = 124
        return Ended(code, self.text(), time.monotonic() - self._begin)

    def wait_until(self, reached: Callable[[], bool], limit_s: float = RUN_LIMIT_S) -> bool:
        """Wait until something is true; False if the run ends first."""
        while time.monotonic() - self._begin < limit_s:
            if reached():
                return True
            if self.process.poll() is not None:
                return reached()
            time.sleep(0.02)
        return False

    def send(self, number: signal.Signals, *, to_group: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if to_group else os.kill)(self.process.pid, number)

    def kill(self) -> None:
        """End the run and every process that it started."""
        self.send(signal.SIGKILL, to_group=True)
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()

    def processes(self) -> list[int]:
        """The live processes that the run started: those with its mark, their children, and those seen before."""
        mark = f"{_MARK}={self.mark}".encode()
        parents, marked = {}, set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(") ")[2].split()
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            if fields[0] == "Z":
                continue
            # A number is used again: with the time of its start it is unique.
            process = (int(folder.name), int(fields[19]))
            parents[process] = int(fields[1])
            if mark in environment.split(b"\0"):
                marked.add(process)
        self._seen = {process for process in parents if process in marked | self._seen}
        # The sandbox gives its processes an empty environment, so they are found as children.
        while (
            children := {process for process in parents if parents[process] in {pid for pid, _ in self._seen}}
            - self._seen
        ):
            self._seen |= children
        return sorted(number for number, _ in self._seen)

    def wait_for_processes(self, limit_s: float) -> float | None:
        """Wait until no process of the run is left, and return the seconds; None if some outlive the limit."""
        begin = time.monotonic()
        while self.processes():
            if time.monotonic() - begin > limit_s:
                return None
            time.sleep(0.1)
        return time.monotonic() - begin


class Place:
    """The folders of one run at a time, and the commands that run there."""

    def __init__(self, folder: Path, sources: Path) -> None:
        self.folder, self.sources = folder, sources
        self.home, self.temporary, self.output = folder / "home", folder / "tmp", folder / "output"
        self.kept = folder / "kept"
        self.logs = folder / "logs"
        """What the runs of a job printed, in their order."""

        self.undisturbed_s = 0.0
        """How long an undisturbed run takes."""

        self.hub = _start_hub()
        """Receives what the runs publish."""

        self.empty()

    def empty(self) -> None:
        """Begin as on a new machine, with an empty hub."""
        self.hub.shutdown()
        self.hub.server_close()
        self.hub = _start_hub()
        for path in (self.home, self.temporary, self.output):
            _remove(path)
        self.home.mkdir(parents=True)
        self.temporary.mkdir()

    def forget_logs(self) -> None:
        _remove(self.logs)

    def keep(self, name: str) -> None:
        """Keep a copy of the home and the output folder."""
        _remove(self.kept / name)
        for path in (self.home, self.output):
            if path.exists():
                shutil.copytree(path, self.kept / name / path.name, symlinks=True)

    def restore(self, name: str) -> None:
        """Go back to the copy of that name."""
        self.empty()
        shutil.copytree(self.kept / name, self.folder, symlinks=True, dirs_exist_ok=True)

    def environment(self, **changes: str | None) -> dict[str, str]:
        """The environment of a run; None removes a variable."""
        own = {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "FLYTE_LLAMA_OUTPUT": str(self.output),
            "PYTHONPATH": str(ROOT),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "HF_ENDPOINT": self.hub.url,
            "HF_TOKEN": next(iter(self.hub.accounts), "hf_unknown"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            # The hub of the place takes large files as LFS objects alone.
            "HF_HUB_DISABLE_XET": "1",
            # Wide enough for every message to be one line.
            "COLUMNS": "2000",
            # Several places share the cores.
            "OMP_NUM_THREADS": "1",
            _MARK: uuid.uuid4().hex,
        }
        inherited: dict[str, str | None] = {
            name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)
        }
        merged = {**inherited, **own, **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def start_command(
        self,
        command: Sequence[str],
        *,
        shell: str = "",
        prefix: Sequence[str] = (),
        cwd: Path = ROOT,
        **changes: str | None,
    ) -> Run:
        """Start a command.

        Args:
            shell: Shell commands that run before it, in the same process, such as `ulimit -n 64`.
            prefix: A command that starts it, such as `unshare -rm`.
            changes: Changes of the environment; None removes a variable.
        """
        in_shell = ["bash", "-c", f'{shell}\nexec "$@"', "run", *command] if shell else command
        self.logs.mkdir(exist_ok=True)
        log = self.logs / f"{len(list(self.logs.iterdir())) + 1}.log"
        return Run([*prefix, *in_shell], environment=self.environment(**changes), log=log, cwd=cwd)

    def start(self, config: Path, **options: Any) -> Run:
        """Start the workflow; the options are those of `start_command`."""
        command = ["run", "flyte_llama/workflows.py", "train_flyte_llama", "--config", str(config)]
        return self.start_command([str(BIN / "pyflyte"), *command], **options)

    def run(self, config: Path, **options: Any) -> Ended:
        """Run the workflow to its end."""
        return self.start(config, **options).wait()

    def data(self, kind: str) -> list[Path]:
        """The stored folders of a kind, oldest first."""
        folders = (path for path in self.output.glob(f"data/{kind}-*") if not path.name.endswith(".damaged"))
        return sorted(folders, key=lambda path: path.stat().st_mtime)


def _start_hub() -> Hub:
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    return hub


def _remove(path: Path) -> None:
    """Remove a folder, also one that has been made read-only."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        for folder in [path, *(inner for inner in path.rglob("*") if inner.is_dir() and not inner.is_symlink())]:
            folder.chmod(0o700)
        shutil.rmtree(path)
