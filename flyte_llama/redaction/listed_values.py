"""Further secrets of a list, of which only the first has a name before it.

    API_KEYS = ["…", "…"]    api_keys:\\n  - …\\n  - …    TOKENS=…,…    os.environ.get("TOKEN", "…") or "…"

The values of a list are of one kind, so a further one counts only if it is random, and about as long as the one before.
"""

from __future__ import annotations

import re

from flyte_llama.redaction.detector import Span
from flyte_llama.redaction.values import is_code, is_random, is_token

_COMMENT = r"(?:[ \t]*(?:#|//)[^\n]{0,80})?"
_NEXT_QUOTED = re.compile(
    r"""\\{0,2}["'`]\){0,2}\s{0,4}(?:[,;:]|or\b|\|\||\?\?|else\b|if\b[^\n"'`]{1,40}\belse\b)?"""
    rf"""{_COMMENT}\s{{0,40}}[bru]?\\{{0,2}}["'`](?P<value>[^\s"'`\\<>]{{8,4096}})(?=\\{{0,2}}["'`])"""
)
# An item of YAML, with or without quotes.
_NEXT_ITEM = re.compile(
    rf"""["']?{_COMMENT}[ \t]*\r?\n[ \t]{{0,40}}-[ \t]{{1,4}}["']?(?P<value>[^\s"'`\\<>,]{{8,4096}})"""
    r"""(?=["']?[ \t]*(?:\#|\r?\n|\Z))"""
)
_NEXT_PLAIN = re.compile(
    r"""(?:[,;|]\s{0,4}|[ \t]{1,4})(?P<value>[\w+/.~-]{8,4096}={0,2})(?=[,;|\s"'`)\]]|\Z)""", re.ASCII
)


def find_listed_values(text: str, begin: int, end: int) -> list[Span]:
    """The spans of the values that follow this secret in its list, in order."""
    spans: list[Span] = []
    while following := _find_next(text, begin, end):
        begin, end = following
        spans.append(following)
    return spans


def _find_next(text: str, begin: int, end: int) -> Span | None:
    length = end - begin
    for pattern in (_NEXT_QUOTED, _NEXT_ITEM, _NEXT_PLAIN):
        match = pattern.match(text, end)
        if not match:
            continue
        value = match["value"]
        is_similar = abs(len(value) - length) <= length // 4
        if is_similar and is_random(value) and is_token(value) and not is_code(text, *match.span("value")):
            return match.span("value")
    return None
