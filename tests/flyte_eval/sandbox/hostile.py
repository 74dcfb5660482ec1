"""Attacks that generated code might try, and a few honest functions; each returns its results.

`request` names one of them, `attack` and `yield_first` run it in the sandbox. An attack that exceeds a limit on files
stays above it and waits: a watcher that comes late on a busy machine must still find it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import inspect
import mmap
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FOR_EVER_S = 100_000
"""Far above every time limit of a test."""


def request(name: str, **arguments: Any) -> dict[str, Any]:
    """Return the request to call a function of this module.

    A misspelt name or argument raises here, in the test. In the sandbox it would look like an attack that crashed.
    """
    inspect.signature(globals()[name]).bind(**arguments)
    return {"name": name, "arguments": arguments}


def attack(request: dict[str, Any]) -> Iterator[Any]:
    """Yield the result of the function called `name`."""
    yield globals()[request["name"]](**request["arguments"])


def yield_first(request: dict[str, Any]) -> Iterator[Any]:
    """Yield a number, then attack."""
    yield 1
    yield from attack(request)


def double(n: int) -> int:
    return 2 * n


def environment() -> dict[str, str]:
    return dict(os.environ)


def _try(action: Any) -> str:
    """The name of the exception that an action raises, or `could: …` if it succeeds."""
    try:
        return f"could: {action()}"
    except BaseException as error:
        return type(error).__name__


def network() -> list[str]:
    return [
        _try(lambda: socket.create_connection(("127.0.0.1", 22), timeout=1)),
        _try(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        _try(lambda: socket.socket(socket.AF_UNIX)),
        _try(lambda: socket.getaddrinfo("example.com", 80)),
    ]


def pairs_of_sockets() -> str:
    first, second = socket.socketpair()
    first.send(b"hello")
    return second.recv(5).decode()


def processes() -> list[str]:
    return [
        _try(os.fork),
        _try(lambda: subprocess.run(["/bin/true"], check=True)),
        _try(lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"])),  # noqa: S606  # the sandbox refuses it
        _try(lambda: os.posix_spawn("/bin/true", ["true"], {})),
    ]


def signals() -> list[str]:
    parent = os.getppid()
    return [_try(lambda: os.kill(parent, signal.SIGKILL)), _try(lambda: os.killpg(0, signal.SIGTERM))]


def files(outside: str) -> list[str]:
    folder = Path(outside)
    return [
        _try(lambda: (folder / "new").write_text("x")),
        _try(lambda: (folder / "secret").read_text()),
        _try(lambda: (folder / "secret").unlink()),
        _try(lambda: (folder / "secret").rename("mine")),
        _try(lambda: (folder / "secret").chmod(0o777)),
        _try(lambda: os.symlink(folder / "secret", "link") or Path("link").read_text()),
        _try(lambda: os.link(folder / "secret", "hard")),
        _try(lambda: os.truncate(folder / "secret", 0)),
        _try(lambda: list(folder.iterdir())),
        _try(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
        _try(lambda: Path(f"/proc/{os.getppid()}/mem").open("r+b")),
    ]


def other_files_attributes(file: str) -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)

    def call(syscall: int, *arguments: Any) -> str:
        result = libc.syscall(ctypes.c_long(syscall), *arguments)
        return "could" if result >= 0 else OSError(ctypes.get_errno(), "").__class__.__name__

    path, name = file.encode(), b"user.evil"
    value = (ctypes.c_uint64 * 2)(ctypes.addressof(ctypes.create_string_buffer(b"x")), 1)
    return [
        # setxattrat and file_setattr, which are newer than the filter's list
        call(463, -100, path, 0, name, ctypes.byref(value), ctypes.c_long(16)),
        call(469, -100, path, ctypes.create_string_buffer(24), ctypes.c_long(24), 0),
        _try(lambda: os.setxattr(file, "user.evil", b"x")),
        _try(lambda: os.removexattr(file, "user.good")),
    ]


def truncate(file: str) -> list[str]:
    return [_try(lambda: os.truncate(file, 0)), _try(lambda: os.open(file, os.O_RDONLY | os.O_TRUNC))]


def datagrams(address: str) -> list[str]:
    return [
        _try(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"escaped", address)),
        _try(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)),
    ]


def scheduling() -> list[str]:
    return [_try(lambda: os.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0)))]


def owners_of_signals() -> list[str]:
    reading, _ = os.pipe()
    libc = ctypes.CDLL(None, use_errno=True)
    return [
        _try(lambda: fcntl.fcntl(reading, fcntl.F_SETOWN, os.getppid())),
        _try(lambda: fcntl.fcntl(reading, fcntl.F_SETSIG, signal.SIGKILL)),
        "PermissionError" if libc.prctl(1, 0) < 0 else "could",
    ]


def search_memory(word: str) -> list[bool]:
    """True if memory holds the word, as this request does; then True if it holds the word without its hyphen.

    Searches every readable page in each megabyte that contains a Python object.
    """
    libc = ctypes.CDLL(None)
    reading, writing = os.pipe()
    matches = [False, False]
    first, second = (half.encode() for half in word.split("-"))
    for megabyte in {id(each) >> 20 for each in [word, *gc.get_objects()]}:
        for page in range(megabyte << 20, (megabyte + 1) << 20, 4096):
            # Through a pipe: the kernel refuses a page that cannot be read, and reading it directly would crash.
            if libc.write(writing, ctypes.c_void_p(page), ctypes.c_size_t(4096)) == 4096:
                memory = os.read(reading, 4096)
                for match in re.finditer(first, memory):
                    following = memory[match.end() : match.end() + len(second)]
                    matches = [matches[0] or following[:1] == b"-", matches[1] or following == second]
    return matches


def unreadable_folder() -> str:
    os.mkdir("d", 0o300)
    Path("d/x").touch()
    return "made"


def silent() -> None:
    os.close(3)
    time.sleep(FOR_EVER_S)


def read(file: str) -> str:
    return _try(lambda: Path(file).read_text())


def own_files() -> list[str]:
    Path("deep").mkdir()
    Path("deep/file").write_text("mine")
    return [Path("deep/file").read_text(), os.getcwd()]


def too_large_a_file() -> None:
    with Path("large").open("wb") as file:
        for _ in range(100):
            file.write(bytes(1 << 20))


def many_files(files: int) -> None:
    for index in range(files):
        Path(f"{index}").touch()
    time.sleep(FOR_EVER_S)


def much_disk(files: int) -> None:
    for index in range(files):
        Path(f"{index}").write_bytes(bytes(10 << 20))
    time.sleep(FOR_EVER_S)


def deleted_files(files: int, keep: str) -> None:
    """Delete files of 10 MiB, and hold them open, or by a mapping of one page alone."""
    libc = ctypes.CDLL(None)
    for index in range(files):
        path = Path(f"{index}")
        path.write_bytes(bytes(10 << 20))
        descriptor = os.open(path, os.O_RDWR)
        if keep == "mapped":
            # Python's own mmap keeps the file open
            libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_SHARED, descriptor, ctypes.c_long(0))
            os.close(descriptor)
        path.unlink()
    time.sleep(FOR_EVER_S)


def deleted_files_of_a_thread(files: int, keep: str) -> None:
    """The same in a thread, after the main thread has ended."""
    threading.Timer(0.3, deleted_files, (files, keep)).start()
    number = 93 if platform.machine() == "aarch64" else 60
    ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(0))


def released_files(files: int) -> str:
    for index in range(files):
        path = Path(f"{index}")
        path.write_bytes(bytes(10 << 20))
        path.unlink()
        # the watcher checks in between
        time.sleep(0.03)
    return "done"


def count_threads() -> list[Any]:
    """The number of threads that can run at a time, and the error of the next."""
    event, threads = threading.Event(), []
    try:
        while len(threads) < 1000:
            threads.append(threading.Thread(target=event.wait))
            threads[-1].start()
        error = "none"
    except RuntimeError as caught:
        error = str(caught)
    event.set()
    for thread in threads[:-1]:
        thread.join()
    return [len(threads), error]


def pool_of_threads() -> int:
    with ThreadPoolExecutor(50) as pool:
        return sum(pool.map(double, range(200)))


def steal_output() -> str:
    """Try to read the output before the watcher does; then answer honestly."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            os.read(os.open("/proc/self/fd/3", os.O_RDONLY | os.O_NONBLOCK), 100)
    return "answered"


def deep_folders(levels: int, wait_s: float) -> str:
    for _ in range(levels):
        os.mkdir("d")
        os.chdir("d")
    time.sleep(wait_s)
    return "made"


def loop() -> None:
    while True:
        with contextlib.suppress(BaseException):
            while True:
                pass


def sleep() -> None:
    for signal_number in range(1, 65):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(signal_number, signal.SIG_IGN)
    time.sleep(FOR_EVER_S)


def much_memory() -> int:
    return len(bytearray(100 << 30))


def flood() -> str:
    for _ in range(1000):
        print("x" * 100_000)
        sys.stderr.write("x" * 100_000)
    return "x" * (5 << 20)


def exit_early() -> None:
    os._exit(0)


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def recursion() -> Any:
    return recursion()


def raise_exit() -> None:
    raise SystemExit(7)


def garbage() -> None:
    for descriptor in range(20):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"garbage\n")
    os._exit(0)


def raise_limits() -> list[str]:
    import resource

    return [
        _try(lambda: resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))),
        _try(lambda: os.sched_setaffinity(0, {0})),
        _try(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
    ]
