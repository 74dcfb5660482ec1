"""Whether a value can be a secret: random enough, and not the placeholder that documentation puts in its place.

The mask of this room, a row of x, is such a placeholder. That is what makes redaction idempotent.
"""

from __future__ import annotations

import itertools
import re

MASK = "x"
_MASKED = MASK * 4
_SAMPLE = re.compile(r"example|your|placeholder|redacted|change_?me|xxxx|\*\*\*|\.\.\.", re.IGNORECASE)
# A value that a program fills in, in the notations of shells, templates, formats and prose.
_FILLED_IN = re.compile(r"\$\{|\{\{|\}\}|\$\(|^[$<{\[(]|[>}\])]$|%[svd(]")
_STOCK_WORDS = """
    a abc access admin an api auth bar baz change changeme db default dummy example fake flyte foo guest here hidden
    key keys me minio mongo my mysql name none null or pass passwd password placeholder postgres postgresql pw pwd
    qwerty rabbit redacted redis removed root sample secret secrets some string test testing the token tokens user
    username value x xyz y your z
"""
# Longest first and never taken back, so that no value makes the expression try twice. Up to three digits, as in foo123.
_STOCK = re.compile(
    rf"(?:{'|'.join(sorted(_STOCK_WORDS.split(), key=len, reverse=True))}|[\W_]|(?<!\d)\d{{1,3}}(?!\d))++",
    re.IGNORECASE,
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_WORDS = re.compile(r"(?:[A-Z]?[a-z]*|[A-Z]+)\d{0,4}")
_MIN_DISTINCT = 8


def is_token(value: str) -> bool:
    """Of a token with a provider's prefix, without it: not words in lower case, a row of one character or a sample."""
    is_words = value == value.lower() and not any(char.isdigit() for char in value)
    return len(set(value)) >= _MIN_DISTINCT and not is_words and _SAMPLE.search(value) is None


def is_password(value: str) -> bool:
    """Of a password where one must stand, as in a URL: whatever is neither filled in nor a stock word."""
    is_filled_in = _FILLED_IN.search(value) is not None
    return not is_filled_in and _MASKED not in value and _STOCK.fullmatch(value) is None


def is_random(value: str) -> bool:
    """Of any quoted value: what a generator of secrets makes, and not a name, a path, a UUID or words.

    In what is drawn at random the class of character (lower case, upper case, digit, other) changes after two
    characters of three in base64, after two of five in hex; in names, CamelCase among them, after one of three at most.
    """
    if len(set(value)) < _MIN_DISTINCT or _FILLED_IN.search(value) or _SAMPLE.search(value) or "://" in value:
        return False
    if _UUID.fullmatch(value) or all(_WORDS.fullmatch(word) for word in re.split(r"[^A-Za-z0-9]+", value)):
        return False
    classes = [_class_of(char) for char in value]
    kinds = len(set(classes))
    if kinds < 2 or "digit" not in classes or (kinds == 2 and len(value) < 20):
        return False
    changes = sum(one != other for one, other in itertools.pairwise(classes))
    return changes >= (0.25 if kinds == 2 else 0.4) * (len(value) - 1)


def _class_of(char: str) -> str:
    if char.isdigit():
        return "digit"
    if char.isalpha():
        return "upper" if char.isupper() else "lower"
    return "other"
