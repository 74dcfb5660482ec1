"""Amounts of CPU and of bytes in Kubernetes' notation, such as 8, 500m and 100Gi."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("kMGTP", start=1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTP", start=1)},
}
_MEBIBYTE = 1024**2
_MIN_BYTES = 64 * _MEBIBYTE
_NUMBER = r"(\d+(?:\.\d+)?)"


def parse_bytes(text: str) -> int:
    """Return the number of bytes, such as 2**30 for 1Gi and 10**9 for 1G.

    Raises:
        ValueError: if the text is no amount of bytes, or one in which no pod could start.
    """
    match = re.fullmatch(_NUMBER + r"(\w*)", text, re.ASCII)
    if not match or match[2] not in _UNITS:
        raise ValueError("is not an amount of bytes. Write it like 400Gi")
    num_bytes = int(Fraction(match[1]) * _UNITS[match[2]])
    if num_bytes < _MIN_BYTES:
        raise ValueError("is less than 64Mi, in which no pod could start. Give the unit, as in 400Gi")
    return num_bytes


def bytes_quantity(num_bytes: int) -> str:
    """Return the largest whole number of Gi, or else of Mi, that is not more than `num_bytes`."""
    mebibytes = num_bytes // _MEBIBYTE
    return f"{mebibytes}Mi" if mebibytes % 1024 else f"{mebibytes // 1024}Gi"


def parse_millicpus(text: str) -> int:
    """Return the number of thousandths of a CPU, such as 8000 for 8 and 500 for 500m.

    Raises:
        ValueError: if the text is no number of CPUs above 0.
    """
    match = re.fullmatch(_NUMBER + "(m?)", text, re.ASCII)
    millicpus = Fraction(match[1]) * (1 if match[2] else 1000) if match else Fraction(0)
    if millicpus < 1 or millicpus.denominator != 1:
        raise ValueError("is not a number of CPUs. Write it like 8 or 500m")
    return int(millicpus)


def cpu_quantity(millicpus: int) -> str:
    """Return the number of CPUs as Kubernetes writes it: in whole CPUs, or else in thousandths."""
    return f"{millicpus}m" if millicpus % 1000 else str(millicpus // 1000)
