"""What a process may open: Landlock, a kernel interface by which a process gives up rights to paths.

Covers opening, creating, removing, renaming and (from ABI 3 on; `seccomp` covers older kernels) truncating files.
Does not cover stat, chdir, and changes of mode, owner and times: that a file exists can be seen, and `seccomp` refuses
the changes. Numbers are those of linux/landlock.h; its documentation is docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

from flyte_llama.sandbox.kernel import prctl, syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GIVE_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _REFER = 1 << 14, 1 << 13
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
_ALL_BY_ABI = [(1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1]
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
READ = _READ_FILE | _READ_DIR
WRITE = READ | _WRITE_FILE | _TRUNCATE | _REFER | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM


def landlock_abi() -> int:
    """Version of the kernel's Landlock.

    Raises:
        OSError: if the kernel has none, or it is switched off.
    """
    return syscall(_CREATE_RULESET, None, 0, _GIVE_VERSION)


def restrict_paths(*, readable: Iterable[str], writable: Iterable[str]) -> None:
    """Allow this process, and what it forks, to read below `readable` and to write below `writable`, and no more.

    Paths that do not exist are passed over. Nothing may be executed. On kernels that can do it, TCP, abstract sockets
    of others and signals to others are refused as well, beside `seccomp`.

    Raises:
        OSError: if the kernel refuses.
    """
    abi = landlock_abi()
    handled = _ALL_BY_ABI[min(abi, len(_ALL_BY_ABI)) - 1]
    attributes = struct.pack("QQQ", handled, 3, 3)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for paths, rights in ((readable, READ), (writable, WRITE)):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not os.path.isdir(path):
            rights &= _OF_FILES
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, opened), 0)
    finally:
        os.close(opened)
