"""Restricts the system calls of a process with a seccomp filter, to those that `system_calls` allows.

A refused call fails, mostly with EPERM; one that is newer than the list fails with ENOSYS. A call of another
architecture, such as a 32-bit one, ends the process. The filter's format is from linux/filter.h and linux/seccomp.h.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

from flyte_llama.flyte_eval.sandbox.kernel import prctl, syscall
from flyte_llama.flyte_eval.sandbox.system_calls import (
    ALLOWED,
    CLONE,
    CONDITIONS,
    ERRORS,
    FIRST_UNKNOWN,
    IGNORED,
    Condition,
)

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP, _CAPSET = (317, 277), (126, 91)
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _ASK, _REFUSE, _KILL = 0x7FFF0000, 0x7FC00000, 0x00050000, 0x80000000
# Offsets in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
# First call number of x32, the 32-bit ABI of x86_64; aarch64 has no numbers so high.
_X32 = 0x40000000
# Machine → the column of its call numbers, and the AUDIT_ARCH constant that the kernel gives for a call.
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def can_filter() -> bool:
    """True if the call numbers of this machine's architecture are known."""
    return platform.machine() in _MACHINES


def ask_for_threads() -> int:
    """Let another process decide on each thread that this one starts; return the descriptor for its decisions.

    See `threads`. Cannot be undone. If all copies of the descriptor are closed, no thread can be started.

    Raises:
        OSError: if the kernel does not accept the filter, for example since the container has such a filter already.
    """
    clone = CLONE[_column()]
    ask = [_instruction(_LOAD, _NUMBER), _instruction(_EQUAL, clone, 0, 1), _instruction(_RETURN, _ASK)]
    return _install([*ask, _instruction(_RETURN, _ALLOW)], _NEW_LISTENER)


def refuse_system_calls() -> None:
    """Install the filter for this thread and every thread it starts; it cannot be removed.

    Raises:
        OSError: if the kernel does not accept the filter.
    """
    _install(_program(*_MACHINES[platform.machine()]), 0)


def drop_capabilities() -> None:
    """Drop all capabilities, for good; root keeps its access to files that it owns.

    Raises:
        OSError: if the kernel refuses.
    """
    version_3, own_process = 0x20080522, 0
    header = ctypes.create_string_buffer(struct.pack("Ii", version_3, own_process), 8)
    none = ctypes.create_string_buffer(24)
    syscall(_CAPSET[_column()], ctypes.addressof(header), ctypes.addressof(none))


def _column() -> int:
    return _MACHINES[platform.machine()][0]


def _install(instructions: list[bytes], flags: int) -> int:
    buffer = ctypes.create_string_buffer(b"".join(instructions), 8 * len(instructions))
    program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(buffer))
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return syscall(_SECCOMP[_column()], _SET_MODE_FILTER, flags, program)


def _program(column: int, architecture: int) -> list[bytes]:
    """The filter's instructions in classic BPF.

    Args:
        column: 0 selects the call numbers of x86_64, 1 of aarch64.
        architecture: The AUDIT_ARCH constant of the calls.
    """
    # kill on a call of another architecture, refuse all calls of x32
    instructions = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, architecture, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32, 0, 1),
        _instruction(_RETURN, _REFUSE | errno.EPERM),
        _instruction(_AT_LEAST, FIRST_UNKNOWN, 0, 1),
        _instruction(_RETURN, _REFUSE | errno.ENOSYS),
    ]
    for numbers in ALLOWED.values():
        instructions += _if_call(numbers[column], [_instruction(_RETURN, _ALLOW)])
    for ignored in IGNORED:
        instructions += _if_call(ignored.numbers[column], _ignore_arguments(ignored))
    for condition in CONDITIONS:
        instructions += _if_call(condition.numbers[column], _check_arguments(condition))
    for numbers, error in ERRORS.values():
        instructions += _if_call(numbers[column], [_instruction(_RETURN, _REFUSE | error)])
    return [*instructions, _instruction(_RETURN, _REFUSE | errno.EPERM)]


def _if_call(number: int | None, body: list[bytes]) -> list[bytes]:
    """Instructions that run `body`, which must return or load the number again, if the call has that number."""
    return [] if number is None else [_instruction(_EQUAL, number, 0, len(body)), *body]


def _check_arguments(condition: Condition) -> list[bytes]:
    instructions = []
    for half, mask, values in condition.checks:
        instructions += [_instruction(_LOAD, _ARGUMENTS + 4 * half), _instruction(_AND, mask)]
        for index, value in enumerate(values):
            # jump behind the other values and the refusal
            instructions.append(_instruction(_EQUAL, value, len(values) - index, 0))
        instructions.append(_instruction(_RETURN, _REFUSE | condition.error))
    return [*instructions, _instruction(_RETURN, _ALLOW)]


def _ignore_arguments(condition: Condition) -> list[bytes]:
    """Instructions that return success if the one checked argument has one of the values; else they go on."""
    ((half, mask, values),) = condition.checks
    instructions = [_instruction(_LOAD, _ARGUMENTS + 4 * half), _instruction(_AND, mask)]
    for index, value in enumerate(values):
        last = index == len(values) - 1
        # jump to the return behind the other values, or after the last value over it
        instructions.append(_instruction(_EQUAL, value, len(values) - index - 1, int(last)))
    return [*instructions, _instruction(_RETURN, _REFUSE), _instruction(_LOAD, _NUMBER)]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """A struct sock_filter; a jump skips `if_true` or `if_false` instructions."""
    return struct.pack("HBBI", code, if_true, if_false, value)
