"""A table of attacks on the sandbox: each is a few lines that raise an exception if the sandbox stops them.

`python -m tests.flyte_eval.sandbox.attacks sandbox` runs all in the sandbox, and prints how each ended and what they
harmed. With `alone` it runs them without the sandbox, to show that they are real. Both run as the current user.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import importlib
import json
import os
import platform
import resource
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

from flyte_llama.flyte_eval.sandbox import Limits, Sandbox
from tests.flyte_eval.sandbox.victims import SECRET, Victims

CURRENT = -100  # AT_FDCWD
# Calls that Python does not offer: number on x86_64, number on aarch64.
_NUMBERS = {
    "msgget": (68, 186), "msgrcv": (70, 188), "msgsnd": (69, 189), "msgctl": (71, 187),
    "semget": (64, 190), "semctl": (66, 191), "semop": (65, 193), "semtimedop": (220, 192),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195),
    "mq_open": (240, 180), "mq_unlink": (241, 181),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "clone": (56, 220), "clone3": (435, 435), "unshare": (272, 97), "setns": (308, 268),
    "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "kcmp": (312, 272), "get_robust_list": (274, 100), "migrate_pages": (256, 238), "ioprio_set": (251, 30),
    "prctl": (157, 167), "personality": (135, 92), "seccomp": (317, 277), "syslog": (103, 116),
    "perf_event_open": (298, 241), "bpf": (321, 280), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_setup": (206, 0), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "inotify_init1": (294, 26), "inotify_add_watch": (254, 27), "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264), "openat2": (437, 437), "open_tree": (428, 428), "fsopen": (430, 430),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "swapon": (167, 224), "reboot": (169, 142),
    "sethostname": (170, 161), "init_module": (175, 105), "acct": (163, 89), "kexec_load": (246, 104),
    "setxattrat": (463, 463), "file_setattr": (469, 469), "mlock": (149, 228), "sync": (162, 81),
    "close_range": (436, 436), "vmsplice": (278, 75), "fallocate": (285, 47),
}  # fmt: skip


class Attack(NamedTuple):
    """A row of the table."""

    name: str
    """The kind, and what is tried; unique."""

    code: str
    """Statements that raise if the attack fails; `v` has the fields of `Victims`."""

    alone: Literal["any", "root", "never"]
    """Who can do it without the sandbox: any user, root, or nobody here (it would harm more than its victims, needs a
    special kernel, or works only if the sandbox has a hole)."""


# kind → name → code; the third field of a tuple is `alone`, else "any"
_TABLE: dict[str, dict[str, str | tuple[str, Any]]] = {
    "read files": {
        "open": "assert open(v.file).read() == SECRET",
        "reopen O_PATH": "d = os.open(v.file, os.O_PATH); assert open(f'/proc/self/fd/{d}').read() == SECRET",
        "symlink": "os.symlink(v.file, 'link'); assert open('link').read() == SECRET",
        "hard link": "os.link(v.file, 'hard'); assert open('hard').read() == SECRET",
        "rename into scratch": "os.rename(v.file, 'mine'); assert open('mine').read() == SECRET",
        "list a folder": "assert os.listdir(v.folder)",
        "chdir and open": "os.chdir(v.folder); assert open('file').read() == SECRET",
        "openat2": "call('openat2', CURRENT, v.file.encode(), bytes(24), 24)",
        "copy in the kernel": "d = os.open('c', 66); assert os.sendfile(d, os.open(v.file, 0), 0, 9)",
        "extended attribute": "assert os.getxattr(v.file, 'user.secret').decode() == SECRET",
        "names of attributes": "assert os.listxattr(v.file)",
        "file handle": "call('name_to_handle_at', CURRENT, v.file.encode(), HANDLE(), bytes(8), 0)",
        "another process's file": "assert open(f'/proc/{v.process}/fd/0').read() == SECRET",
        "another process's root": "assert open(f'/proc/{v.process}/root{v.file}').read() == SECRET",
        "another process's folder": "assert open(f'/proc/{v.process}/cwd/file').read() == SECRET",
        "another process's environment": "assert open(f'/proc/{v.process}/environ', 'rb').read()",
        "another process's command": "assert open(f'/proc/{v.process}/cmdline', 'rb').read()",
        "another process's memory": "open(f'/proc/{v.process}/mem', 'rb')",
        "the watcher's environment": "assert open(f'/proc/{os.getppid()}/environ', 'rb').read()",
        "its own environment": "assert open('/proc/self/environ', 'rb').read()",
        "its own memory map": "assert open('/proc/self/maps').read()",
        "processes": "assert os.listdir('/proc')",
        "connections": "assert open('/proc/net/tcp').read()",
        "devices": "assert os.listdir('/sys/class')",
        "users": "assert open('/etc/passwd').read()",
        "documentation in /usr/share": "assert open(v.documentation, 'rb').read()",
        "programs in /usr/bin": "assert os.listdir('/usr/bin')",
        "a package that is not imported": "assert open(v.package).read()",
        "its import": "importlib.import_module('hypothesis')",
        "its import by Python's own finder": (
            "sys.meta_path[:] = [importlib.machinery.PathFinder]; importlib.invalidate_caches(); import hypothesis"
        ),
        "the small set's file": "assert open(v.answers).read()",
        "the small set's function": (
            "from flyte_llama.flyte_eval.mining import small_set; assert small_set()[0].text"
        ),
        "other runs": ("assert os.listdir('..')", "never"),
        "the template's input": ("assert os.read(0, 1)", "never"),
        "more descriptors": "assert [os.fstat(d) for d in range(4, 1000) if exists(d)]",
        "watch a folder": "call('inotify_add_watch', call('inotify_init1', 0), v.folder.encode(), 0xfff)",
        "watch all": ("call('fanotify_init', 0, 0)", "root"),
        "shared memory folder": "assert os.listdir('/dev/shm') is not None",
    },
    "write files": {
        "new file": "open(v.folder + '/new', 'w')",
        "append": "open(v.file, 'a').write('x')",
        "truncate": "os.truncate(v.file, 0)",
        "truncate by open": "os.open(v.file, os.O_RDONLY | os.O_TRUNC)",
        "remove": "os.unlink(v.file)",
        "replace": "open('x', 'w'); os.rename('x', v.file)",
        "exchange": "open('x', 'w'); exchange(b'x', v.file.encode())",
        "folder": "os.mkdir(v.folder + '/new')",
        "pipe": "os.mkfifo(v.folder + '/new')",
        "symlink outside": "os.symlink('x', v.folder + '/new')",
        "link outside": "open('x', 'w'); os.link('x', v.folder + '/new')",
        "mode": "os.chmod(v.file, 0o777)",
        "owner": "os.chown(v.file, -1, os.getgid())",
        "times": "os.utime(v.file, (2, 2))",
        "set an attribute": "os.setxattr(v.file, 'user.evil', b'x')",
        "remove an attribute": "os.removexattr(v.file, 'user.secret')",
        "set an attribute by a new call": (
            "call('setxattrat', CURRENT, v.file.encode(), 0, b'user.evil', bytes(16), 16)",
            "never",
        ),
        "flags by a new call": ("call('file_setattr', CURRENT, v.file.encode(), bytes(24), 24, 0)", "never"),
        "lock a file of the interpreter": "fcntl.flock(open(os.__file__), fcntl.LOCK_EX)",
        "mode of a readable file": ("os.fchmod(os.open(os.__file__, 0), os.stat(os.__file__).st_mode)", "root"),
        "write a readable file": ("open(os.__file__, 'r+b')", "root"),
        "another process's priority to die": (
            "open(f'/proc/{v.process}/oom_score_adj', 'w').write('100')"
        ),
        "file in /dev/shm": "open('/dev/shm/flyte-llama-attack', 'w'); os.unlink('/dev/shm/flyte-llama-attack')",
        "all disks": "call('sync')",
        "space beyond the end": "call('fallocate', os.open('x', 66), 1, 0, 1 << 20)",
    },
    "start processes": {
        "fork": "os.fork() or os._exit(0)",
        "clone": "call('clone', 17, 0, 0, 0, 0) or os._exit(0)",
        "clone3": "call('clone3', struct.pack('8Q', 0, 0, 0, 0, 17, 0, 0, 0), 64) or os._exit(0)",
        "thread with files of its own": ("call('clone', 0x3d0b00, 0, 0, 0, 0)", "never"),
        "subprocess": "subprocess.run(['/bin/true'], check=True)",
        "spawn": "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
        "exec": ("os.execv(sys.executable, [sys.executable, '-c', ''])", "never"),
        "program in memory": "call('memfd_create', b'x', 0)",
        "secret memory": ("call('memfd_secret', 0)", "never"),
        "files of its own for a thread": "call('close_range', 900, 901, 2)",
        "session": "os.setsid()",
        "process group": "os.setpgid(0, 0)",
        "outlive the watcher": "call('prctl', 1, 0, 0, 0, 0)",
        "adopt processes": "call('prctl', 36, 1, 0, 0, 0)",
        "namespace": ("call('unshare', 0x20000)", "root"),
        "namespace of users": ("call('unshare', 0x10000000)", "never"),
        "enter a namespace": ("call('setns', os.open('/proc/self/ns/uts', 0), 0)", "root"),
    },
    "signal processes": {
        "kill": "os.kill(v.process, signal.SIGKILL)",
        "does it exist": "os.kill(v.process, 0)",
        "the watcher": ("os.kill(os.getppid(), signal.SIGKILL)", "never"),
        "everyone": ("os.kill(-1, signal.SIGKILL)", "never"),
        "its group": "os.killpg(0, 0)",
        "thread": "call('tgkill', v.process, v.process, 9)",
        "queue": "call('rt_sigqueueinfo', v.process, 15, struct.pack('iii', 15, 0, -1) + bytes(116))",
        "descriptor of a process": "call('pidfd_send_signal', call('pidfd_open', v.process, 0), 9, 0, 0)",
        "owner of a pipe": "fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, v.process)",
        "signal of a pipe": "fcntl.fcntl(os.pipe()[0], fcntl.F_SETSIG, 9)",
        "owner of a socket": "fcntl.ioctl(socket.socketpair()[0], 0x8901, struct.pack('i', v.process))",
        "lease": "fcntl.fcntl(open('x', 'w'), fcntl.F_SETLEASE, fcntl.F_WRLCK)",
    },
    "control processes": {
        "trace": "call('ptrace', 16, v.process, 0, 0)",
        "be traced": "call('ptrace', 0, 0, 0, 0)",
        "read memory": "reach('process_vm_readv', v.process, VECTOR, 1, VECTOR, 1, 0)",
        "write memory": "reach('process_vm_writev', v.process, VECTOR, 1, VECTOR, 1, 0)",
        "take a descriptor": "call('pidfd_getfd', call('pidfd_open', v.process, 0), 0, 0)",
        "compare": ("call('kcmp', os.getpid(), v.process, 1, 0, 0)", "never"),
        "advise memory": ("call('process_madvise', call('pidfd_open', v.process, 0), VECTOR, 0, 20, 0)", "root"),
        "locks": "call('get_robust_list', v.process, bytes(8), bytes(8))",
        "read limits": "resource.prlimit(v.process, resource.RLIMIT_NOFILE)",
        "set limits": "resource.prlimit(v.process, resource.RLIMIT_NOFILE, (64, 64))",
        "its own limits": "resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))",
        "CPUs": "os.sched_setaffinity(v.process, {min(os.sched_getaffinity(0))})",
        "scheduler": "os.sched_setscheduler(v.process, os.SCHED_IDLE, os.sched_param(0))",
        "priority": "os.setpriority(os.PRIO_PROCESS, v.process, 19)",
        "priority of disks": "call('ioprio_set', 1, v.process, 3 << 13)",
        "count events": ("call('perf_event_open', struct.pack('II', 1, 112) + bytes(104), 0, -1, -1, 0)", "never"),
        "page faults": ("call('userfaultfd', 1)", "never"),
    },
    "shared objects": {
        "make a queue": "call('msgget', 0x5eed, 0o1600); call('msgctl', call('msgget', 0x5eed, 0), 0, 0)",
        "read a queue": "b = BUFFER(64); call('msgrcv', v.queue, b, 50, 0, 0o4000); assert SECRET.encode() in b.raw",
        "write a queue": "call('msgsnd', v.queue, struct.pack('l4s', 1, b'evil'), 4, 0o4000)",
        "remove a queue": "call('msgctl', v.queue, 0, 0)",
        "list queues": "call('msgctl', 0, 12, BUFFER(1024))",
        "status of a queue": "call('msgctl', v.queue, 2, BUFFER(1024))",
        "make a semaphore": "call('semctl', call('semget', 0, 1, 0o1600), 0, 0)",
        "set a semaphore": "call('semctl', v.semaphore, 0, 16, 5)",
        "raise a semaphore": "call('semop', v.semaphore, struct.pack('Hhh', 0, 1, 0), 1)",
        "raise it with a time limit": "call('semtimedop', v.semaphore, struct.pack('Hhh', 0, 1, 0), 1, 0)",
        "remove a semaphore": "call('semctl', v.semaphore, 0, 0)",
        "make memory": "call('shmctl', call('shmget', 0, 4096, 0o1600), 0, 0)",
        "map memory": "call('shmat', v.memory, 0, 0)",
        "list memory": "call('shmctl', 0, 14, BUFFER(1024))",
        "remove memory": "call('shmctl', v.memory, 0, 0)",
        "open a POSIX queue": "call('mq_open', v.posix_queue[1:].encode(), 2, 0, 0)",
        "remove a POSIX queue": "call('mq_unlink', v.posix_queue[1:].encode())",
        "add a key": ("call('add_key', b'user', b'evil', b'x', 1, -3)", "never"),
        "read keys": ("call('keyctl', 0, -3, 0)", "never"),
        "lock of a file": (
            "a, b = open('x', 'w+'), open('x', 'r+'); fcntl.fcntl(a, fcntl.F_OFD_SETLK, LOCK); "
            "assert fcntl.fcntl(b, fcntl.F_OFD_GETLK, LOCK)[:2] != LOCK_FREE"
        ),
        "locked memory": "call('mlock', BUFFER(4096), 4096)",
        "pages in a pipe": "call('vmsplice', os.pipe()[1], VECTOR_OF_OWN, 1, 0)",
    },
    "use the network": {
        "TCP": "socket.create_connection(('127.0.0.1', v.port), timeout=5)",
        "UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "local": "socket.socket(socket.AF_UNIX)",
        "datagrams": "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', v.address)",
        "datagrams from a pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', v.address)",
        "packets in a pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)",
        "kernel": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
        "ciphers": ("socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)", "never"),
        "host": ("socket.socket(40, socket.SOCK_STREAM)", "never"),
        "raw": ("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "root"),
        "server": "socket.create_server(('127.0.0.1', 0))",
        "names": ("socket.getaddrinfo('example.com', 80)", "never"),
        "urgent data": "pair = socket.socketpair(); pair[0].send(b'x', socket.MSG_OOB)",
        "urgent data to the watcher": ("socket.socket(fileno=os.dup(3)).send(b'x', socket.MSG_OOB)", "never"),
        "process at the other end": "socket.socketpair()[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)",
        "send a descriptor": "pair = socket.socketpair(); socket.send_fds(pair[0], [b'x'], [0])",
        "rings": ("call('io_uring_setup', 4, BUFFER(120))", "never"),
        "old asynchronous files": "call('io_setup', 1, BUFFER(8))",
    },
    "change the machine": {
        "mount": ("call('mount', b'none', v.folder.encode(), b'tmpfs', 0, 0)", "never"),
        "unmount": ("call('umount2', b'/proc', 0)", "never"),
        "tree of mounts": ("call('open_tree', CURRENT, b'/', 0)", "never"),
        "file system": ("call('fsopen', b'tmpfs', 0)", "root"),
        "root": ("os.chroot(v.folder)", "root"),
        "root by pivot": ("call('pivot_root', b'.', b'.')", "never"),
        "swap": ("call('swapon', b'x', 0)", "never"),
        "reboot": ("call('reboot', 0xfee1dead, 672274793, 0x1234567, 0)", "never"),
        "name": ("n = os.uname().nodename.encode(); call('sethostname', n, len(n))", "never"),
        "module": ("call('init_module', b'x', 1, b'')", "never"),
        "kernel": ("call('kexec_load', 0, 0, 0, 0)", "never"),
        "accounting": ("call('acct', b'x')", "never"),
        "program in the kernel": ("call('bpf', 0, bytes(72), 72)", "never"),
        "kernel log": ("call('syslog', 10, 0, 0)", "root"),
        "personality": "call('personality', 0x0040000)",
        "another filter": "call('seccomp', 2, 0, struct.pack('I', 0x7fff0000))",
        "user": ("os.setuid(1)", "root"),
        "clock": ("import time; time.clock_settime(time.CLOCK_REALTIME, 0)", "never"),
    },
    "forge the outcome": {
        "read its own output": ("open('/proc/self/fd/3', 'rb')", "never"),
        "read the channel": ("d = socket.socket(fileno=os.dup(3)); d.setblocking(False); assert d.recv(1)", "never"),
    },
}  # fmt: skip
ATTACKS = [
    Attack(f"{kind}: {name}", *((code, "any") if isinstance(code, str) else code))
    for kind, rows in _TABLE.items()
    for name, code in rows.items()
]
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_OWN_BYTES = ctypes.create_string_buffer(8)


def _raise_error() -> None:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _call(name: str, *arguments: Any) -> int:
    """Call the kernel directly, so that no library refuses first."""
    number = _NUMBERS[name][platform.machine() == "aarch64"]
    longs = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result: int = _LIBC.syscall(ctypes.c_long(number), *longs)
    if result < 0:
        _raise_error()
    return result


def _reach(name: str, *arguments: Any) -> None:
    """Call the kernel with a wrong address: it says so only if it would let the caller at a right one."""
    try:
        _call(name, *arguments)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise


def _exchange(first: bytes, second: bytes) -> None:
    if _LIBC.renameat2(CURRENT, first, CURRENT, second, 2) < 0:
        _raise_error()


def _exists(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(os.fstat(descriptor))
    return False


def run_attack(request: dict[str, Any]) -> Iterator[str]:
    """Yield `could` if the attack's code comes to its end, else the exception."""
    modules = (fcntl, importlib, os, resource, signal, socket, struct, subprocess, sys)
    names = {
        **{module.__name__: module for module in modules},
        "v": SimpleNamespace(**request["victims"]),
        "call": _call,
        "reach": _reach,
        "exchange": _exchange,
        "exists": _exists,
        "SECRET": SECRET,
        "CURRENT": CURRENT,
        "BUFFER": ctypes.create_string_buffer,
        "HANDLE": lambda: ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136),
        # one vector: an address that nothing is at, and a length
        "VECTOR": struct.pack("QQ", 4096, 8),
        # of one byte far behind the start
        "LOCK": struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 1 << 40, 1, 0),
        "LOCK_FREE": struct.pack("h", fcntl.F_UNLCK),
        "VECTOR_OF_OWN": struct.pack("QQ", ctypes.addressof(_OWN_BYTES), 8),
    }
    try:
        exec(request["code"], names)  # noqa: S102  # the table above
        yield "could"
    except BaseException as error:
        yield "".join(traceback.format_exception_only(error)).strip()


def run_in_sandbox() -> dict[str, Any]:
    """How each attack ended in the sandbox, and the victims' harm."""
    with (
        Victims() as victims,
        Sandbox("tests.flyte_eval.sandbox.attacks:run_attack", limits=Limits(wall_s=300), workers=2) as sandbox,
    ):
        requests = [{"code": attack.code, "victims": victims.fields()} for attack in ATTACKS]
        outcomes = sandbox.run(requests, what="attacks")
        ends = [str(outcome.values or outcome.detail) for outcome in outcomes]
        names = [attack.name for attack in ATTACKS]
        return {"ends": dict(zip(names, ends, strict=True)), "harm": victims.harm(), "user": os.getuid()}


def run_alone() -> dict[str, Any]:
    """How each attack ends without the sandbox; those that nobody can do here are left out."""
    ends = {}
    for attack in ATTACKS:
        if attack.alone == "never" or (attack.alone == "root" and os.getuid() != 0):
            continue
        with Victims() as victims:
            if "attribute" in attack.name and not victims.has_attributes:
                continue
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                os.chdir(victims.folder)
                (end,) = run_attack({"code": attack.code, "victims": victims.fields()})
                os.write(writing, end.encode())
                os._exit(0)
            os.close(writing)
            os.waitpid(child, 0)
            ends[attack.name] = os.read(reading, 10_000).decode()
            os.close(reading)
    return {"ends": ends}


if __name__ == "__main__":
    result = run_in_sandbox() if sys.argv[1] == "sandbox" else run_alone()
    json.dump(result, sys.stdout)
