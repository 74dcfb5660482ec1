"""System calls that Python does not offer, through ctypes; Linux only. A failure is an OSError."""

from __future__ import annotations

import ctypes
import functools
import os


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Call the kernel and return the result; integers are passed as longs, bytes as a pointer to them.

    Raises:
        OSError: with the kernel's errno.
    """
    return _check(_libc().syscall(ctypes.c_long(number), *map(_argument, arguments)))


def prctl(option: int, *arguments: int | bytes) -> int:
    """Call prctl(2) and return the result; missing arguments are 0.

    Raises:
        OSError: with the kernel's errno.
    """
    padded = [*arguments, *[0] * (4 - len(arguments))]
    return _check(_libc().prctl(ctypes.c_int(option), *map(_argument, padded)))


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _argument(value: int | bytes | None) -> ctypes.c_long | ctypes.c_char_p:
    return ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value)


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
