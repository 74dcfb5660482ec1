"""One run of git: its environment, its time limit, its end.

git leads a new process group, so that a timeout also ends the processes that git started (git-remote-https, ssh,
index-pack). If this process is killed, git ends with it, and those when they next write or hear nothing for a minute.
git reads no configuration of the user, so that none changes a result; `user_config` has the part that reaches servers.
git has no terminal, so it never prompts. The end of its standard error is kept for messages, made printable. Nothing
here knows about sources.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from flyte_llama.errors import SourceError

if TYPE_CHECKING:
    import git


# Variables that point git to another repository (git rev-parse --local-env-vars, without GIT_DIR, which is always set
# here), as inside a hook, or that change what it finds, writes or accepts (git(1)). Those by which it reaches a server
# stay: GIT_SSH_COMMAND, GIT_ASKPASS, GIT_SSL_CAINFO and the like.
_UNSET_VARIABLES = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DEFAULT_HASH",
    "GIT_DEFAULT_REF_FORMAT",
    "GIT_DIFF_OPTS",
    "GIT_EXTERNAL_DIFF",
    "GIT_GLOB_PATHSPECS",
    "GIT_GRAFT_FILE",
    "GIT_ICASE_PATHSPECS",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INDEX_VERSION",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_LITERAL_PATHSPECS",
    "GIT_NAMESPACE",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REF_PARANOIA",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_SMART_HTTP",
    "GIT_TEMPLATE_DIR",
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
_NO_CONFIGURATION = {
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "0",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_PARAMETERS": "",
    "GIT_CONFIG_SYSTEM": os.devnull,
}
_CONFIG = [
    "core.attributesFile=/dev/null",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.bigFileThreshold=1m",
    "fetch.fsckObjects=true",
    "fetch.unpackLimit=1",
    "gc.auto=0",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "transfer.fsckObjects=true",
]
# A pack of kilobytes can unfold to an object of any size. With this limit git fails for lack of memory before the
# machine does. The largest repositories in use need less.
MEMORY_LIMIT_BYTES = 2 << 30
_LIMITED = f'unset {" ".join(sorted(_UNSET_VARIABLES))}; ulimit -S -d {MEMORY_LIMIT_BYTES >> 10} 2>/dev/null; exec "$@"'
_PR_SET_PDEATHSIG = 1
_MAX_STDERR_BYTES = 4000
_MAX_OUTPUT_BYTES = 256 << 20


class GitResult(NamedTuple):
    status: int
    """git's exit code, or the negative number of the signal that ended it."""

    stderr: str
    """The end of git's standard error."""

    timed_out: bool


class GitProcess:
    """A running git; leaving its context ends it, and unless git succeeded, every process that it started.

    Args:
        command: The subcommand and its arguments.
        folder: The bare repository to work in; with None git uses none, whatever the working directory is.
        timeout_s: Seconds after which git is killed; None sets no limit.
        config: Further `key=value` settings.
        environment: Further variables.
        stdin: Whether the caller writes to git's standard input.
        stop_at: Text that ends git as soon as it stands in its standard error; empty for none.
        configured: Whether git reads the user's whole configuration.
    """

    def __init__(
        self,
        *command: str,
        folder: Path | None = None,
        timeout_s: float | None = None,
        config: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        stdin: bool = False,
        stop_at: str = "",
        configured: bool = False,
    ) -> None:
        settings = [word for setting in (*_CONFIG, *config) for word in ("-c", setting)]
        repository = {"GIT_DIR": str(folder) if folder else os.devnull}
        # Keep this object: GitPython ends the process when it is garbage-collected.
        self._running = _git_command().execute(
            ["/bin/sh", "-c", _LIMITED, "sh", "git", *settings, *command],
            as_process=True,
            istream=subprocess.PIPE if stdin else subprocess.DEVNULL,
            env=_ENVIRONMENT | ({} if configured else _NO_CONFIGURATION) | repository | dict(environment or {}),
            start_new_session=True,
            preexec_fn=functools.partial(_die_with_parent, _libc()),
        )
        self._process = cast(subprocess.Popen[bytes], self._running.proc)
        self.stdin, self.stdout = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        self._stderr, self._expired, self._stop_at = b"", False, stop_at.encode()
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
        """End git now, finished or not."""
        if self._process.poll() != 0:
            self._kill()
        self._settle()

    def finish(self) -> GitResult:
        """Wait for git to end, within the time limit; the caller must have read all of its standard output."""
        if self._process.wait():
            self._kill()
        self._settle()
        timed_out = self._expired and self._process.returncode != 0
        stderr = self._stderr.decode("utf-8", "replace").strip()
        if len(self._stderr) == _MAX_STDERR_BYTES:
            # Half a token would not be known as one.
            stderr = re.sub(r"\A\S*", "…", stderr)
        return GitResult(self._process.returncode, make_printable(stderr), timed_out)

    def _settle(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._process.wait()
        # A daemon that git started for the user (credential-cache, ssh's master) may hold the stream open for longer.
        self._listener.join(timeout=1)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _listen(self) -> None:
        with cast(IO[bytes], self._process.stderr) as stream:
            while block := os.read(stream.fileno(), 1 << 16):
                self._stderr = (self._stderr + block)[-_MAX_STDERR_BYTES:]
                if self._stop_at and self._stop_at in self._stderr:
                    self._kill()

    def _expire(self) -> None:
        self._expired = True
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def run_git(
    *command: str,
    folder: Path | None = None,
    timeout_s: float | None = None,
    config: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    stop_at: str = "",
    configured: bool = False,
) -> tuple[bytes, GitResult]:
    """Run git to its end, and return its standard output and how it ended.

    Raises:
        SourceError: if it writes more than any real remote lists.
    """
    with GitProcess(
        *command,
        folder=folder,
        timeout_s=timeout_s,
        config=config,
        environment=environment,
        stop_at=stop_at,
        configured=configured,
    ) as process:
        output = process.stdout.read(_MAX_OUTPUT_BYTES + 1)
        if len(output) > _MAX_OUTPUT_BYTES:
            raise SourceError(f"git {command[0]}: its output does not end, so this is not a source repository.")
        return output, process.finish()


def read_records(stream: IO[bytes], *, max_bytes: int) -> Iterator[bytes]:
    """Yield the NUL-terminated records of a stream, which is read a block at a time.

    Raises:
        OverflowError: if the stream is longer than `max_bytes`.
    """
    rest, num_bytes = b"", 0
    # Read as much again as is left over: an endless record is then not copied once for each small block.
    while block := stream.read(max(1 << 16, len(rest))):
        num_bytes += len(block)
        if num_bytes > max_bytes:
            raise OverflowError(f"more than {max_bytes:,} bytes")
        *complete, rest = (rest + block).split(b"\0")
        yield from complete


def make_printable(text: str) -> str:
    """Escape every character that a terminal would obey, except for line breaks."""
    text = re.sub(r"[ \t]*[\r\n]+", "\n", text)
    return "".join(
        char if char == "\n" or char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _die_with_parent(libc: ctypes.CDLL) -> None:
    """Have the system end this process, a git that starts, when the thread that started it ends, even if killed."""
    if sys.platform == "linux":
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _git_command() -> git.Git:
    """Return GitPython's command; importing GitPython runs git."""
    try:
        from git import Git
    except ImportError:
        raise SourceError("git is not on the PATH. Install it, or use only package: sources.") from None
    return Git()
