"""The filter of each architecture, read by a small interpreter of its instructions, and its call numbers."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from flyte_llama.flyte_eval.sandbox import seccomp
from flyte_llama.flyte_eval.sandbox.system_calls import ALLOWED, CONDITIONS, ERRORS

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
HEADERS = {"x86_64": ["x86_64-linux-gnu/asm/unistd_64.h", "asm/unistd_64.h"], "aarch64": ["asm-generic/unistd.h"]}
ALLOW, KILL, NOTHING = "allow", "kill", "nothing"


def decide(machine: str, number: int, *arguments: int, architecture: int | None = None) -> str:
    """What the filter does with a call: allow, kill, nothing (it only succeeds), or the name of the error."""
    column, own = ARCHITECTURES[machine]
    data = struct.pack("=IIQ6Q", number, architecture or own, 0, *arguments, *[0] * (6 - len(arguments)))
    program = seccomp._program(column, own)
    position = accumulator = 0
    while True:
        code, if_true, if_false, value = struct.unpack("HBBI", program[position])
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x54:
                accumulator &= value
            case 0x15 | 0x35:
                is_true = accumulator == value if code == 0x15 else accumulator >= value
                position += if_true if is_true else if_false
            case 0x06:
                names = {0x7FFF0000: ALLOW, 0x80000000: KILL, 0x00050000: NOTHING}
                return names.get(value) or errno.errorcode[value & 0xFFFF]


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_calls_without_a_condition_are_allowed_and_all_others_refused(machine: str):
    column = ARCHITECTURES[machine][0]
    allowed = {numbers[column] for numbers in ALLOWED.values()}
    conditional = {condition.numbers[column] for condition in CONDITIONS}
    errors = {numbers[column]: errno.errorcode[error] for numbers, error in ERRORS.values()}
    for number in range(600):
        if number not in conditional:
            expected = ALLOW if number in allowed else errors.get(number, "EPERM" if number < 453 else "ENOSYS")
            assert decide(machine, number) == expected, number
    assert not allowed & conditional - {None}


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize(
    ("call", "arguments", "decision"),
    [
        ("clone", (0x3D0F00,), ALLOW),
        ("clone", (0x7D0F00,), ALLOW),
        ("clone", (0x3D0B00,), "EPERM"),
        ("clone", (0x3D0F00 | 0x10000000,), "EPERM"),
        ("clone", (17,), "EPERM"),
        ("socketpair", (1, 1 | 0o2000000), ALLOW),
        ("socketpair", (1, 2), "EPERM"),
        ("socketpair", (2, 1), "EPERM"),
        ("openat", (0, 0, 0o1101), ALLOW),
        ("openat", (0, 0, 0o1000), "EPERM"),
        ("mmap", (0, 1, 3, 0x22), ALLOW),
        ("mmap", (0, 1, 3, 0x40022), "EPERM"),
        ("fallocate", (3, 0), ALLOW),
        ("fallocate", (3, 1), "ENOTSUP"),
        ("prlimit64", (0, 7, 0), ALLOW),
        ("prlimit64", (1, 7, 0), "EPERM"),
        ("prlimit64", (0, 7, 4096), "EPERM"),
        ("prlimit64", (0, 7, 1 << 40), "EPERM"),
        ("fcntl", (3, 1030), ALLOW),
        ("fcntl", (3, 0), ALLOW),
        ("fcntl", (3, 1031), "EPERM"),
        ("fcntl", (3, 8), "EPERM"),
        ("fcntl", (3, 5), ALLOW),
        ("fcntl", (3, 6), NOTHING),
        ("fcntl", (3, 7), NOTHING),
        ("fcntl", (3, 38), NOTHING),
        ("sendto", (3, 0, 0, 0x4000), ALLOW),
        ("sendto", (3, 0, 0, 0x4001), "EPERM"),
        ("getsockopt", (3, 1, 39), ALLOW),
        ("getsockopt", (3, 1, 17), "EPERM"),
        ("getsockopt", (3, 6, 3), "EPERM"),
        ("close_range", (3, 9, 4), ALLOW),
        ("close_range", (3, 9, 2), "EPERM"),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), "EPERM"),
        ("prctl", (15,), ALLOW),
        ("prctl", (1,), "EPERM"),
    ],
)
def test_arguments_decide(machine: str, call: str, arguments: tuple[int, ...], decision: str):
    (numbers,) = [condition.numbers for condition in CONDITIONS if condition.name == call]
    number = numbers[ARCHITECTURES[machine][0]]
    assert number is not None
    assert decide(machine, number, *arguments) == decision


def test_calls_of_another_architecture_end_the_process():
    assert decide("x86_64", 0, architecture=0x40000003) == KILL
    assert decide("x86_64", 0x40000000) == "EPERM"


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_numbers_are_the_kernels(machine: str):
    files = [path for name in HEADERS[machine] if (path := Path("/usr/include", name)).exists()]
    if not files:
        pytest.skip("the kernel's headers are not installed")
    defined = {name: int(number) for name, number in re.findall(r"__NR(?:3264)?_(\w+)\s+(\d+)", files[0].read_text())}
    column = ARCHITECTURES[machine][0]
    ours = {**ALLOWED, **{each.name: each.numbers for each in CONDITIONS}}
    ours |= {name: numbers for name, (numbers, _) in ERRORS.items()}
    listed = {name: numbers[column] for name, numbers in ours.items() if name in defined}
    assert listed == {name: defined[name] for name in listed}
    assert len(listed) > 100
