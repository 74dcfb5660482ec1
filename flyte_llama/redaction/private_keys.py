"""Private keys in PEM armour (RSA, EC, OpenSSH, PGP) and in files of PuTTY.

Encrypted or not; also inside a string of JSON or source code.
"""

from __future__ import annotations

import re

from flyte_llama.redaction.detector import Span

# Between two lines of a body: white space, or the characters that continue a string or a comment in source code.
_BETWEEN = r"""(?:\\[nrt]|[\s"'`,#*\\]|\+(?=\s))"""
_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    # Headers inside the armour, such as `Proc-Type: 4,ENCRYPTED` (RFC 1421) and `Version: GnuPG v2` (RFC 9580).
    rf"(?:{_BETWEEN}*+[A-Za-z][A-Za-z-]{{2,24}}: [^\n\\]{{1,200}}(?:\n|\\[nr])){{0,10}}+"
    rf"(?P<body>(?:{_BETWEEN}++=?[A-Za-z0-9+/]++={{0,2}})++)"
)
_PUTTY_KEY = re.compile(rf"Private-Lines: \d{{1,4}}(?P<body>(?:{_BETWEEN}++[A-Za-z0-9+/]++={{0,2}}(?!:))++)")
# What a key begins with in the folded view → its pattern.
_KEYS = {b"_____begin ": _KEY, b"private_lines: ": _PUTTY_KEY}
_LINE = re.compile(r"(?:(?<=\\[nrt])|(?<![A-Za-z0-9+/\\]))[A-Za-z0-9+/]+", re.ASCII)
# Full lines of armour have at least 64 characters; the smallest key, Ed25519 in PKCS #8, fills one.
_MIN_LINE_CHARS = 60
_MIN_LINE_DISTINCT = 20


def find_private_keys(text: str, folded: bytes) -> list[list[Span]]:
    """Return the spans of the lines of each key's body, one list a key; `folded` is the text's folded view.

    A header alone does not count as a key: lines of base64 must follow it directly, not an ellipsis or words.
    """
    keys = []
    for literal, pattern in _KEYS.items():
        at = folded.find(literal)
        while at >= 0:
            key = pattern.match(text, at)
            if key:
                lines = [line.span() for line in _LINE.finditer(text, *key.span("body"))]
                if any(_is_base64(text[begin:end]) for begin, end in lines):
                    keys.append(lines)
            at = folded.find(literal, at + len(literal))
    return keys if len(keys) < 2 else sorted(keys)


def _is_base64(line: str) -> bool:
    return len(line) >= _MIN_LINE_CHARS and len(set(line)) >= _MIN_LINE_DISTINCT
