"""One run of git: its environment, its time limit, its end.

git is the leader of a process group of its own, so that a timeout also ends what git started (git-remote-https, ssh,
index-pack). The user's own configuration (proxy, CA, `insteadOf`, credential helper) is honoured; git has no terminal,
so it never prompts. What git says on standard error is kept for a message, cut and made printable. Nothing here
knows what a source is.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from flyte_llama.errors import SourceError

if TYPE_CHECKING:
    import git

# What git itself drops when it enters another repository (git rev-parse --local-env-vars), but for GIT_DIR,
# which is always our own, and the user's -c settings: with those of a hook git would write to the user's repository.
_OF_ANOTHER_REPOSITORY = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DEFAULT_HASH",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
}
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TRACE_REDACT": "1",
    "LC_ALL": "C",
    "LANGUAGE": "C",
}
_CONFIG = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.bigFileThreshold=1m",
    "fetch.unpackLimit=1",
    "gc.auto=0",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "transfer.fsckObjects=true",
]
# A pack of kilobytes can unfold to an object of any size; git then says that it is out of memory, and the machine is
# not. The largest repositories in use need less.
MEMORY_LIMIT_BYTES = 2 << 30
_LIMITED = (
    f'unset {" ".join(sorted(_OF_ANOTHER_REPOSITORY))}; ulimit -S -d {MEMORY_LIMIT_BYTES >> 10} 2>/dev/null; exec "$@"'
)
_MAX_SAID_BYTES = 4000
_MAX_OUTPUT_BYTES = 256 << 20


class Ended(NamedTuple):
    status: int
    """git's exit code; the negative number of a signal that ended it."""

    said: str
    """The end of its standard error."""

    timed_out: bool


class GitProcess:
    """A running git; at the end of its context it has ended, and what it started too.

    Args:
        command: The subcommand and its arguments.
        folder: The bare repository to work in; None for none, wherever the caller stands.
        timeout_s: Seconds after which it is killed; None is no limit.
        config: Further `key=value` settings.
        environment: Further variables.
        stdin: Whether it is written to.
    """

    def __init__(
        self,
        *command: str,
        folder: Path | None = None,
        timeout_s: float | None = None,
        config: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        stdin: bool = False,
    ) -> None:
        settings = [word for setting in (*_CONFIG, *config) for word in ("-c", setting)]
        own = {"GIT_DIR": str(folder) if folder else os.devnull}
        # GitPython ends the process when this object goes, so it is kept.
        self._running = _git_command().execute(
            ["/bin/sh", "-c", _LIMITED, "sh", "git", *settings, *command],
            as_process=True,
            istream=subprocess.PIPE if stdin else subprocess.DEVNULL,
            env=_ENVIRONMENT | own | dict(environment or {}),
            start_new_session=True,
        )
        self._process = cast(subprocess.Popen[bytes], self._running.proc)
        self.stdin, self.stdout = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        self._said, self._expired = b"", False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._timer = threading.Timer(timeout_s, self._expire) if timeout_s is not None else None
        if self._timer:
            self._timer.daemon = True
            self._timer.start()

    def __enter__(self) -> GitProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it now, finished or not."""
        if self._process.poll() != 0:
            self._kill()
        self._settle()

    def finish(self) -> Ended:
        """Wait for its end, within the time limit; standard output must have been read to its end."""
        if self._process.wait():
            self._kill()
        self._settle()
        timed_out = self._expired and self._process.returncode != 0
        return Ended(self._process.returncode, printable(self._said.decode("utf-8", "replace").strip()), timed_out)

    def _settle(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._process.wait()
        # A daemon of the user's (credential-cache, ssh's master) may hold the stream open for longer.
        self._listener.join(timeout=1)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _listen(self) -> None:
        with cast(IO[bytes], self._process.stderr) as stream:
            while block := os.read(stream.fileno(), 1 << 16):
                self._said = (self._said + block)[-_MAX_SAID_BYTES:]

    def _expire(self) -> None:
        self._expired = True
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _git_command() -> git.Git:
    """GitPython's command; importing it runs git."""
    try:
        from git import Git
    except ImportError:
        raise SourceError("git is not on the PATH. Install it, or leave only package: sources.") from None
    return Git()


def run_git(
    *command: str,
    folder: Path | None = None,
    timeout_s: float | None = None,
    config: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[bytes, Ended]:
    """Run git to its end: what it wrote, and how it ended.

    Raises:
        SourceError: if it writes more than any real remote lists.
    """
    with GitProcess(*command, folder=folder, timeout_s=timeout_s, config=config, environment=environment) as process:
        output = process.stdout.read(_MAX_OUTPUT_BYTES + 1)
        if len(output) > _MAX_OUTPUT_BYTES:
            raise SourceError(f"git {command[0]}: its output does not end. This is no source repository.")
        return output, process.finish()


def records(stream: IO[bytes], *, max_bytes: int) -> Iterator[bytes]:
    """NUL-terminated records of a stream, read a block at a time.

    Raises:
        OverflowError: if the stream is longer than `max_bytes`.
    """
    rest, num_bytes = b"", 0
    # As long as what is left over, so that one endless record is not copied again for each block.
    while block := stream.read(max(1 << 16, len(rest))):
        num_bytes += len(block)
        if num_bytes > max_bytes:
            raise OverflowError(f"more than {max_bytes:,} bytes")
        *complete, rest = (rest + block).split(b"\0")
        yield from complete


def printable(text: str) -> str:
    """The text with every character that a terminal would obey, line breaks apart, written as an escape."""
    text = re.sub(r"[ \t]*[\r\n]+", "\n", text)
    return "".join(
        char if char == "\n" or char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
