"""Private keys in PEM armour: RSA, EC, OpenSSH, PGP, encrypted or not, and inside a JSON's or a program's string.

A header alone is no key, nor is one with an ellipsis or words for a body: lines of base64 must follow it at once.
"""

from __future__ import annotations

import re

from flyte_llama.redaction.detector import Span

_LITERAL = b"_____begin "
# Between two lines of a body: white space, or how a program's string or a comment goes on.
_BETWEEN = r"""(?:\\[nrt]|[\s"'`,#*\\]|\+(?=\s))"""
_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    # Headers inside the armour, such as `Proc-Type: 4,ENCRYPTED` (RFC 1421) and `Version: GnuPG v2` (RFC 9580).
    rf"(?:{_BETWEEN}*+[A-Za-z][A-Za-z-]{{2,24}}: [^\n\\]{{1,200}}(?:\n|\\[nr])){{0,10}}+"
    rf"(?P<body>(?:{_BETWEEN}++=?[A-Za-z0-9+/]++={{0,2}})++)"
)
_LINE = re.compile(r"(?:(?<=\\[nrt])|(?<![A-Za-z0-9+/\\]))[A-Za-z0-9+/]+", re.ASCII)
# Armour is cut into lines of 64 characters and more; the smallest key, Ed25519 in PKCS #8, is one of them.
_MIN_LINE = 60
_MIN_DISTINCT = 20


def find_private_keys(text: str, folded: bytes) -> list[list[Span]]:
    """The lines of each key's body, by key; `folded` is the text's view, folded."""
    keys = []
    at = folded.find(_LITERAL)
    while at >= 0:
        key = _KEY.match(text, at)
        if key:
            lines = [line.span() for line in _LINE.finditer(text, *key.span("body"))]
            if any(_is_base64(text[begin:end]) for begin, end in lines):
                keys.append(lines)
        at = folded.find(_LITERAL, at + len(_LITERAL))
    return keys


def _is_base64(line: str) -> bool:
    return len(line) >= _MIN_LINE and len(set(line)) >= _MIN_DISTINCT
