"""System calls that Python has no function for, by ctypes; Linux only. A failure is an OSError."""

from __future__ import annotations

import ctypes
import functools
import os


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """The result of the call; integers are passed as longs, bytes as a pointer to them.

    Raises:
        OSError: with the kernel's errno.
    """
    return _checked(_libc().syscall(ctypes.c_long(number), *map(_argument, arguments)))


def prctl(option: int, *arguments: int | bytes) -> int:
    """prctl(2), missing arguments 0.

    Raises:
        OSError: with the kernel's errno.
    """
    padded = [*arguments, *[0] * (4 - len(arguments))]
    return _checked(_libc().prctl(ctypes.c_int(option), *map(_argument, padded)))


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _argument(value: int | bytes | None) -> ctypes.c_long | ctypes.c_char_p:
    return ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
