"""What a text states about a licence: an SPDX expression, or the words of a licence that is not recognised."""

from __future__ import annotations

import re
from typing import NamedTuple

_MAX_SHOWN_CHARS = 80
_MARKERS = " \t#/*;%!<>={}()[]|_~`'\"-.+:"


class Statement(NamedTuple):
    """A licence that a text states. Both fields are empty if it states none."""

    spdx: str = ""
    """SPDX expression."""

    unknown: str = ""
    """First line of a licence that is not recognised; then `spdx` is empty."""


NOTHING = Statement()


def unrecognised(text: str) -> Statement:
    """Return the statement of a licence that is not recognised: its first line with words, without comment markers."""
    lines = (re.sub(r"\s+", " ", line).strip(_MARKERS) for line in text[:20_000].splitlines())
    first = next((line for line in lines if sum(map(str.isalpha, line)) > 2), "a text without words")
    return Statement(unknown=first if len(first) <= _MAX_SHOWN_CHARS else first[: _MAX_SHOWN_CHARS - 2].rstrip() + " …")
