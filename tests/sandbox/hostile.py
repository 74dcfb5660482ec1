"""What a completion might do, as functions of a JSON value; each says what it could do."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def attack(request: dict[str, Any]) -> Iterator[Any]:
    yield globals()[request["name"]](**request.get("given", {}))


def told_first(request: dict[str, Any]) -> Iterator[Any]:
    """Tells a number, then attacks."""
    yield 1
    yield from attack(request)


def double(number: int) -> int:
    return 2 * number


def environment() -> dict[str, str]:
    return dict(os.environ)


def _tried(what: Any) -> str:
    try:
        return f"could: {what()}"
    except BaseException as error:
        return type(error).__name__


def network() -> list[str]:
    return [
        _tried(lambda: socket.create_connection(("127.0.0.1", 22), timeout=1)),
        _tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        _tried(lambda: socket.socket(socket.AF_UNIX)),
        _tried(lambda: socket.getaddrinfo("example.com", 80)),
    ]


def pairs_of_sockets() -> str:
    one, other = socket.socketpair()
    one.send(b"hello")
    return other.recv(5).decode()


def processes() -> list[str]:
    return [
        _tried(os.fork),
        _tried(lambda: subprocess.run(["/bin/true"], check=True)),
        _tried(lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"])),  # noqa: S606  # is refused
        _tried(lambda: os.posix_spawn("/bin/true", ["true"], {})),
    ]


def signals() -> list[str]:
    parent = os.getppid()
    return [_tried(lambda: os.kill(parent, signal.SIGKILL)), _tried(lambda: os.killpg(0, signal.SIGTERM))]


def files(outside: str) -> list[str]:
    folder = Path(outside)
    return [
        _tried(lambda: (folder / "new").write_text("x")),
        _tried(lambda: (folder / "secret").read_text()),
        _tried(lambda: (folder / "secret").unlink()),
        _tried(lambda: (folder / "secret").rename("mine")),
        _tried(lambda: (folder / "secret").chmod(0o777)),
        _tried(lambda: os.symlink(folder / "secret", "link") or Path("link").read_text()),
        _tried(lambda: os.link(folder / "secret", "hard")),
        _tried(lambda: os.truncate(folder / "secret", 0)),
        _tried(lambda: list(folder.iterdir())),
        _tried(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
        _tried(lambda: Path(f"/proc/{os.getppid()}/mem").open("r+b")),
    ]


def other_files_attributes(file: str) -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)

    def called(number: int, *arguments: Any) -> str:
        result = libc.syscall(ctypes.c_long(number), *arguments)
        return "could" if result >= 0 else OSError(ctypes.get_errno(), "").__class__.__name__

    path, name = file.encode(), b"user.evil"
    value = (ctypes.c_uint64 * 2)(ctypes.addressof(ctypes.create_string_buffer(b"x")), 1)
    return [
        called(463, -100, path, 0, name, ctypes.byref(value), ctypes.c_long(16)),
        called(469, -100, path, ctypes.create_string_buffer(24), ctypes.c_long(24), 0),
        _tried(lambda: os.setxattr(file, "user.evil", b"x")),
        _tried(lambda: os.removexattr(file, "user.good")),
    ]


def truncating(file: str) -> list[str]:
    return [_tried(lambda: os.truncate(file, 0)), _tried(lambda: os.open(file, os.O_RDONLY | os.O_TRUNC))]


def datagrams(address: str) -> list[str]:
    return [
        _tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"escaped", address)),
        _tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)),
    ]


def scheduling() -> list[str]:
    return [_tried(lambda: os.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0)))]


def owners_of_signals() -> list[str]:
    reading, _ = os.pipe()
    libc = ctypes.CDLL(None, use_errno=True)
    return [
        _tried(lambda: fcntl.fcntl(reading, fcntl.F_SETOWN, os.getppid())),
        _tried(lambda: fcntl.fcntl(reading, fcntl.F_SETSIG, signal.SIGKILL)),
        "PermissionError" if libc.prctl(1, 0) < 0 else "could",
    ]


def remembering(word: str) -> list[bool]:
    """Whether this process's objects hold the word, as this request does, and whether without its hyphen.

    Looks through every page that is there, in each megabyte in which an object lies.
    """
    libc, here = ctypes.CDLL(None), ctypes.create_string_buffer(1)
    found = [False, False]
    first, second = (half.encode() for half in word.split("-"))
    for megabyte in {id(own) >> 20 for own in [word, *gc.get_objects()]}:
        for page in range(megabyte << 20, (megabyte + 1) << 20, 4096):
            if libc.mincore(ctypes.c_void_p(page), ctypes.c_size_t(4096), here) == 0:
                memory = ctypes.string_at(page, 4096)
                for place in re.finditer(first, memory):
                    behind = memory[place.end() : place.end() + len(second)]
                    found = [found[0] or behind[:1] == b"-", found[1] or behind == second]
    return found


def unreadable_folder() -> str:
    os.mkdir("d", 0o300)
    Path("d/x").touch()
    return "made"


def silent() -> None:
    os.close(3)
    time.sleep(1000)


def reading(file: str) -> str:
    return _tried(lambda: Path(file).read_text())


def own_files() -> list[str]:
    Path("deep").mkdir()
    Path("deep/file").write_text("mine")
    return [Path("deep/file").read_text(), os.getcwd()]


def too_large_a_file() -> None:
    with Path("large").open("wb") as file:
        for _ in range(100):
            file.write(bytes(1 << 20))


def many_files() -> None:
    for number in range(100_000):
        Path(f"{number}").touch()


def much_disk() -> None:
    for number in range(100):
        Path(f"{number}").write_bytes(bytes(10 << 20))


def deep_folders(levels: int) -> str:
    for _ in range(levels):
        os.mkdir("d")
        os.chdir("d")
    time.sleep(0.3)
    return "made"


def forever() -> None:
    while True:
        with contextlib.suppress(BaseException):
            while True:
                pass


def asleep() -> None:
    for number in range(1, 65):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    time.sleep(1000)


def much_memory() -> int:
    return len(bytearray(100 << 30))


def many_threads() -> None:
    while True:
        threading.Thread(target=time.sleep, args=(1000,)).start()


def flood() -> str:
    for _ in range(1000):
        print("x" * 100_000)
        sys.stderr.write("x" * 100_000)
    return "x" * (5 << 20)


def gone() -> None:
    os._exit(0)


def crashed() -> None:
    ctypes.string_at(0)


def aborted() -> None:
    os.abort()


def recursion() -> Any:
    return recursion()


def raised() -> None:
    raise SystemExit(7)


def garbage() -> None:
    for number in range(20):
        with contextlib.suppress(OSError):
            os.write(number, b"garbage\n")
    os._exit(0)


def raised_limits() -> list[str]:
    import resource

    return [
        _tried(lambda: resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))),
        _tried(lambda: os.sched_setaffinity(0, {0})),
        _tried(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
    ]
