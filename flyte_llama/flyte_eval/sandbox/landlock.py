"""Restricts the paths that a process may open, with Landlock: a kernel interface to give up rights for good.

Covers opening, creating, removing, renaming and, from ABI 3 on, truncating files (`seccomp` covers truncation on older
kernels). Does not cover stat and chdir, so a process can see that a file exists. Does not cover changes of mode, owner
and times: `seccomp` refuses these. The numbers are from linux/landlock.h, which is documented at
docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable

from flyte_llama.flyte_eval.sandbox.kernel import prctl, syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GIVE_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _REFER = 1 << 14, 1 << 13
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
# All rights that each ABI handles, from ABI 1 on.
_ALL_BY_ABI = [(1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1]
_FILE_RIGHTS = _WRITE_FILE | _READ_FILE | _TRUNCATE
READ = _READ_FILE | _READ_DIR
WRITE = READ | _WRITE_FILE | _TRUNCATE | _REFER | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM


def landlock_abi() -> int:
    """The version of the kernel's Landlock interface.

    Raises:
        OSError: if the kernel has no Landlock, or it is switched off.
    """
    return syscall(_CREATE_RULESET, None, 0, _GIVE_VERSION)


def restrict_paths(*, readable: Iterable[str], listable: Iterable[str], writable: Iterable[str]) -> None:
    """Allow this process and its children to open what the arguments name, and no more.

    Paths that do not exist are skipped. No file may be executed. On newer kernels, TCP (ABI 4) and the abstract sockets
    and signals of other processes (ABI 6) are refused as well, in addition to `seccomp`.

    Args:
        readable: Files to read, and folders to read and list with all below them.
        listable: Folders to list with all below them; their files cannot be read.
        writable: Files and folders to read and write, with all below them.

    Raises:
        OSError: if the kernel refuses.
    """
    abi = landlock_abi()
    handled = _ALL_BY_ABI[min(abi, len(_ALL_BY_ABI)) - 1]
    # handled_access_fs, handled_access_net (bind, connect), scoped (abstract sockets, signals)
    attributes = struct.pack("QQQ", handled, 3, 3)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for paths, rights in ((readable, READ), (listable, _READ_DIR), (writable, WRITE)):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Add a rule for a path; skip a path that cannot be opened."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        # the kernel rejects a rule that gives a plain file rights of folders
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)
