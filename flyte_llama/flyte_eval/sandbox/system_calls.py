"""The system calls that a run may make; all others are refused, so also those that a later kernel adds.

A run needs them for its own memory, threads and clock, for files that Landlock lets it open, and to ask about itself.
Calls that can do more than that are allowed only with some arguments (`CONDITIONS`).

Call numbers are from the kernel's tables for x86_64 and aarch64; None if an architecture does not have the call.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

Numbers = tuple[int | None, int | None]


class Condition(NamedTuple):
    """Arguments of a call must have one of some values, else the call fails."""

    name: str
    numbers: Numbers
    checks: tuple[tuple[int, int, tuple[int, ...]], ...]
    """Index of a 32-bit half of an argument (argument n has the halves 2n and 2n + 1), mask, allowed values."""

    error: int = errno.EPERM


ALLOWED: dict[str, Numbers] = {
    # read and write open files, pipes and pairs of sockets
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "preadv": (295, 69),
    "pwritev": (296, 70),
    "preadv2": (327, 286),
    "pwritev2": (328, 287),
    "sendfile": (40, 71),
    "copy_file_range": (326, 285),
    "lseek": (8, 62),
    "ftruncate": (77, 46),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "fadvise64": (221, 223),
    "close": (3, 57),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "recvfrom": (45, 207),
    "shutdown": (48, 210),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    # wait for them
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create": (213, None),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441),
    "eventfd": (284, None),
    "eventfd2": (290, 19),
    # paths, which Landlock checks
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents": (78, None),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "umask": (95, 166),
    # memory, which RLIMIT_AS limits
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "brk": (12, 214),
    "madvise": (28, 233),
    "msync": (26, 227),
    "membarrier": (324, 283),
    # threads, and the end of the process
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "set_tid_address": (218, 96),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "wait4": (61, 260),
    "waitid": (247, 95),
    "restart_syscall": (219, 128),
    # facts about the process and the machine
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getpgrp": (111, None),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "times": (100, 153),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "getrandom": (318, 278),
    # time and alarms
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "getitimer": (36, 102),
    "pause": (34, None),
    # handlers of signals
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigsuspend": (130, 133),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
}

CLONE = (56, 220)
_ALL = 0xFFFFFFFF
# VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID: the flags of a thread in libc. With
# fewer, a thread could have open files of its own, which the watcher does not count. musl adds DETACHED.
_THREAD, _DETACHED = 0x3D0F00, 0x400000
_AF_UNIX, _SOCK_TYPE, _SOCK_STREAM = 1, 0xF, 1
# Opening for reading with O_TRUNC empties the file: Landlock before ABI 3 does not refuse it.
_ACCESS_AND_TRUNCATE = 0o1003
_OPENING = (0, 1, 2, 3, 0o1001, 0o1002, 0o1003)
_MAP_HUGETLB = 0x40000
_MSG_OOB, _SOL_SOCKET = 1, 1
CONDITIONS = (
    Condition("clone", CLONE, ((0, _ALL & ~_DETACHED, (_THREAD,)),)),
    # A datagram socket could send to any address.
    Condition("socketpair", (53, 199), ((0, _ALL, (_AF_UNIX,)), (2, _SOCK_TYPE, (_SOCK_STREAM,)))),
    # Urgent data is no data for a plain recv, which would wait for more.
    Condition("sendto", (44, 206), ((6, _MSG_OOB, (0,)),)),
    # SO_TYPE, SO_ERROR, SO_PROTOCOL, SO_DOMAIN. Others tell of the process at the other end.
    Condition("getsockopt", (55, 209), ((2, _ALL, (_SOL_SOCKET,)), (4, _ALL, (3, 4, 38, 39)))),
    # CLOSE_RANGE_CLOEXEC or nothing; CLOSE_RANGE_UNSHARE gives a thread open files of its own.
    Condition("close_range", (436, 436), ((4, _ALL, (0, 4)),)),
    Condition("open", (2, None), ((2, _ACCESS_AND_TRUNCATE, _OPENING),)),
    Condition("openat", (257, 56), ((4, _ACCESS_AND_TRUNCATE, _OPENING),)),
    # Huge pages come from a pool of the whole machine.
    Condition("mmap", (9, 222), ((6, _MAP_HUGETLB, (0,)),)),
    # Other modes take disk space beyond the file's end, which RLIMIT_FSIZE does not limit.
    Condition("fallocate", (285, 47), ((2, _ALL, (0,)),), errno.EOPNOTSUPP),
    # Only the process's own limits, and only to read them: the pointer to new ones must be null.
    Condition("prlimit64", (302, 261), ((0, _ALL, (0,)), (4, _ALL, (0,)), (5, _ALL, (0,)))),
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_OFD_GETLK, F_DUPFD_CLOEXEC, F_GETPIPE_SZ
    Condition("fcntl", (72, 25), ((2, _ALL, (0, 1, 2, 3, 4, 5, 36, 1030, 1032)),)),
    # TCGETS (isatty), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
    Condition("ioctl", (16, 29), ((2, _ALL, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),)),
    # PR_SET_NAME, PR_GET_NAME
    Condition("prctl", (157, 167), ((0, _ALL, (15, 16)),)),
)

# F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW. Locks of a file that several runs read would be signals between them. A
# run's own files need none, since a run is one process, but SQLite wants them to succeed.
IGNORED = (Condition("fcntl", (72, 25), ((2, _ALL, (6, 7, 37, 38)),)),)
"""Calls with these arguments succeed without an effect."""

# Calls that fail with another error than EPERM, since libraries then do without them.
ERRORS: dict[str, tuple[Numbers, int]] = {
    # Their flags are in memory, which a filter cannot read. libc falls back to clone and openat.
    "clone3": ((435, 435), errno.ENOSYS),
    "openat2": ((437, 437), errno.ENOSYS),
    # Extended attributes can be read without opening the file. shutil takes this error for a disk without attributes.
    "getxattr": ((191, 8), errno.EOPNOTSUPP),
    "lgetxattr": ((192, 9), errno.EOPNOTSUPP),
    "fgetxattr": ((193, 10), errno.EOPNOTSUPP),
    "listxattr": ((194, 11), errno.EOPNOTSUPP),
    "llistxattr": ((195, 12), errno.EOPNOTSUPP),
    "flistxattr": ((196, 13), errno.EOPNOTSUPP),
}
FIRST_UNKNOWN = 453
"""Calls from this number on are newer than the kernel that the list was made for, and fail with ENOSYS."""
