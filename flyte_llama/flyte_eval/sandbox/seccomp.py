"""Restricts the system calls of a process with a seccomp filter: a refused call fails with EPERM or ENOSYS.

The filter refuses:
- sockets, except pairs of stream sockets within the process;
- new processes and programs (new threads are allowed), and signals to any process;
- reading, tracing or scheduling other processes;
- changes of modes, owners, times, flags and attributes of files, and truncation by path;
- shared memory, and memory that no limit counts;
- io_uring, which bypasses such filters;
- calls that administer the system;
- every call that is newer than this list.

Call numbers are from the kernel's tables for x86_64 and aarch64, the filter's format from linux/filter.h and
linux/seccomp.h.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

from flyte_llama.flyte_eval.sandbox.kernel import prctl, syscall

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _AND, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
# Offsets in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT, _THIRD_ARGUMENT = 0, 4, 16, 24, 32
_CLONE_THREAD = 0x10000
# First call number of x32, the 32-bit ABI of x86_64; aarch64 has no numbers so high.
_X32 = 0x40000000

# Call → its number on x86_64 and on aarch64; None if an architecture does not have it.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "move_pages": (279, 239),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "truncate": (76, 45),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "userfaultfd": (323, 282),
    "io_setup": (206, 0),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "seccomp": (317, 277),
    "personality": (135, 92),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "acct": (163, 89),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
}
_CLONE, _CLONE3, _OPENAT2, _PRLIMIT = (56, 220), (435, 435), (437, 437), (302, 261)
_OPEN, _OPENAT, _SOCKETPAIR = (2, None), (257, 56), (53, 199)
_FIRST_UNKNOWN = 453
_ACCESS_AND_TRUNCATE, _TRUNCATE_UNOPENED = 0o1003, 0o1000
_AF_UNIX, _SOCK_TYPE, _SOCK_STREAM = 1, 0xF, 1
# Call → its argument that holds a command, and the commands to refuse. They set who receives a file's signals, leases
# and notifications, the flags of files, and the signal at a parent's death.
_REFUSED_COMMANDS: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {
    (72, 25): (
        _SECOND_ARGUMENT,
        (8, 10, 15, 1024, 1026),
    ),  # fcntl: F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY
    # ioctl: FIOSETOWN, SIOCSPGRP, FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, FS_IOC_ENABLE_VERITY
    (16, 29): (_SECOND_ARGUMENT, (0x8901, 0x8902, 0x40086602, 0x401C5820, 0x40806685)),
    (157, 167): (_FIRST_ARGUMENT, (1,)),  # prctl: PR_SET_PDEATHSIG
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def can_filter() -> bool:
    """True if the call numbers of this machine's architecture are known."""
    return platform.machine() in _MACHINES


def refuse_system_calls() -> None:
    """Install the filter for this thread and every thread it starts; it cannot be removed.

    Raises:
        OSError: if the kernel does not accept the filter.
    """
    filters = b"".join(_program(*_MACHINES[platform.machine()]))
    buffer = ctypes.create_string_buffer(filters, len(filters))
    program = struct.pack("HxxxxxxP", len(filters) // 8, ctypes.addressof(buffer))
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_SET_SECCOMP, _MODE_FILTER, program)


def _program(column: int, architecture: int) -> list[bytes]:
    """The filter's instructions in classic BPF.

    Args:
        column: 0 selects the call numbers of x86_64, 1 of aarch64.
        architecture: The AUDIT_ARCH constant that the kernel gives for a call.
    """
    refuse = _REFUSE | errno.EPERM
    # kill on a call of another architecture, refuse all calls of x32
    instructions = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, architecture, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32, 0, 1),
        _instruction(_RETURN, refuse),
    ]
    for numbers in _REFUSED.values():
        if (call := numbers[column]) is not None:
            instructions += [_instruction(_EQUAL, call, 0, 1), _instruction(_RETURN, refuse)]
    # A filter cannot read the flags of clone3 and openat2, which are in memory. With ENOSYS, glibc falls back to clone
    # and openat, which have their flags in arguments.
    for numbers in (_CLONE3, _OPENAT2):
        instructions += [_instruction(_EQUAL, numbers[column], 0, 1), _instruction(_RETURN, _REFUSE | errno.ENOSYS)]
    # calls newer than this list
    instructions += [_instruction(_AT_LEAST, _FIRST_UNKNOWN, 0, 1), _instruction(_RETURN, _REFUSE | errno.ENOSYS)]
    # clone may start threads only
    instructions += [
        _instruction(_EQUAL, _CLONE[column], 0, 4),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_ANY_BIT, _CLONE_THREAD, 1, 0),
        _instruction(_RETURN, refuse),
        _instruction(_RETURN, _ALLOW),
    ]
    # socketpair may make stream sockets only: a datagram socket could send to any address.
    instructions += [
        _instruction(_EQUAL, _SOCKETPAIR[column], 0, 7),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_EQUAL, _AF_UNIX, 0, 3),
        _instruction(_LOAD, _SECOND_ARGUMENT),
        _instruction(_AND, _SOCK_TYPE),
        _instruction(_EQUAL, _SOCK_STREAM, 1, 0),
        _instruction(_RETURN, refuse),
        _instruction(_RETURN, _ALLOW),
    ]
    # Opening for reading with O_TRUNC: Landlock before ABI 3 does not refuse it.
    for numbers, flags in ((_OPEN, _SECOND_ARGUMENT), (_OPENAT, _THIRD_ARGUMENT)):
        if (call := numbers[column]) is not None:
            instructions += [
                _instruction(_EQUAL, call, 0, 5),
                _instruction(_LOAD, flags),
                _instruction(_AND, _ACCESS_AND_TRUNCATE),
                _instruction(_EQUAL, _TRUNCATE_UNOPENED, 0, 1),
                _instruction(_RETURN, refuse),
                _instruction(_RETURN, _ALLOW),
            ]
    # commands of fcntl, ioctl and prctl
    for numbers, (argument, commands) in _REFUSED_COMMANDS.items():
        instructions += [_instruction(_EQUAL, numbers[column], 0, 2 * len(commands) + 2), _instruction(_LOAD, argument)]
        for command in commands:
            instructions += [_instruction(_EQUAL, command, 0, 1), _instruction(_RETURN, refuse)]
        instructions += [_instruction(_RETURN, _ALLOW)]
    # prlimit may read limits but not set them: its pointer to new limits must be null.
    instructions += [
        _instruction(_EQUAL, _PRLIMIT[column], 0, 5),
        _instruction(_LOAD, _THIRD_ARGUMENT),
        _instruction(_EQUAL, 0, 0, 2),
        _instruction(_LOAD, _THIRD_ARGUMENT + 4),
        _instruction(_EQUAL, 0, 1, 0),
        _instruction(_RETURN, refuse),
    ]
    return [*instructions, _instruction(_RETURN, _ALLOW)]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """A struct sock_filter; a jump skips `if_true` or `if_false` instructions."""
    return struct.pack("HBBI", code, if_true, if_false, value)


def drop_capabilities() -> None:
    """Drop all capabilities of root, for good; it keeps its access to files that it owns.

    Raises:
        OSError: if the kernel refuses.
    """
    version_3, own_process = 0x20080522, 0
    header = ctypes.create_string_buffer(struct.pack("Ii", version_3, own_process), 8)
    none = ctypes.create_string_buffer(24)
    syscall({"x86_64": 126, "aarch64": 91}[platform.machine()], ctypes.addressof(header), ctypes.addressof(none))
