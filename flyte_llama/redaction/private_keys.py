"""Private keys: in armour (RSA, EC, OpenSSH, SSH2, PGP), in files of PuTTY, and encoded.

Encrypted or not; also inside a string or a comment of source code. Encoded are: armour in base64, over many lines, once
or twice; armour in hex; DER in base64, in hex or as an array of bytes; a JSON Web Key.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from flyte_llama.redaction.detector import Span, occurrences

# Between two lines of a body: white space, or the characters that continue a string, a comment or a line of XML.
_BETWEEN = (
    r"""(?:\\{1,4}[nrt]|[\s"'`,#*\\]|[+.&_;](?=\s)|<br\s?/?>|&\#(?:1[03]|x[AaDd]);|%0[AaDd]|"""
    r"vb(?:CrLf|Lf|NewLine))"
)
_BEGIN = re.compile(r"----(?:-| )BEGIN (?:[A-Z0-9]+ ){0,4}\Z")
_KEY = re.compile(
    r"PRIVATE KEY(?: BLOCK)?(?:-| )----"
    # Headers inside the armour, such as `Proc-Type: 4,ENCRYPTED` (RFC 1421) and `Version: GnuPG v2` (RFC 9580).
    rf"(?:{_BETWEEN}*+[A-Za-z][A-Za-z-]{{2,24}}: [^\n\\]{{1,200}}(?:\n|\\[nr])){{0,10}}+"
    rf"(?P<body>(?:{_BETWEEN}++=?[A-Za-z0-9+/]++={{0,2}})++)"
)
_PUTTY_KEY = re.compile(rf"Private-Lines: \d{{1,4}}(?P<body>(?:{_BETWEEN}++[A-Za-z0-9+/]++={{0,2}}(?!:))++)")
_LINE = re.compile(r"(?:(?<=\\[nrt])|(?<=%0[AaDd])|(?<![A-Za-z0-9+/\\]))[A-Za-z0-9+/]+", re.ASCII)
# Full lines of armour have at least 64 characters; the smallest key, Ed25519 in PKCS #8, fills one.
_MIN_LINE_CHARS = 60
_MIN_LINE_DISTINCT = 20


def _base64_fragments(inside: bytes) -> list[bytes]:
    """What every base64 text holds that encodes these bytes somewhere: one for each of the three alignments."""
    fragments = []
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + inside + b"\0" * 3)
        fragments.append(encoded[(offset * 8 + 5) // 6 : (offset + len(inside)) * 8 // 6])
    return fragments


_LABEL = b"PRIVATE KEY"
_ONCE = _base64_fragments(_LABEL)
_ENCODED = (*_ONCE, *(twice for once in _ONCE for twice in _base64_fragments(once)), _LABEL.hex().encode())
# How keys in DER begin (RFC 5208, 5958, 8017, 5915, 7292) and OpenSSH's own format, in base64.
_DER = re.compile(
    r"(?<![A-Za-z0-9+/])(?:MII[A-Za-z0-9+/]{3}IB(?:ADANBgkqhkiG9w0BAQEFAASC|AAK[BC]|AzCC)|MII[A-Za-z0-9+/]{5,9}BgkqhkiG9w0BBQ0w"
    r"|MHcCAQEEI|MI(?:Gk|Hc)AgEBB[DE]|MI[GH][A-Za-z0-9+/]AgEAMB[AM]GByqGSM49AgEG|MC4CAQAwBQYDK2VwBCIEI|b3BlbnNzaC1rZXktdjE)"
)
_DER_BEGINNINGS = (b"MII", b"MHcCAQEEI", b"MIG", b"MIH", b"MC4CAQAwBQYDK2Vw", b"b3BlbnNzaC1rZXktdjE")
_DER_HEX = re.compile(
    r"(?<![A-Za-z0-9])(?:0x)?(?:3082[0-9a-f]{4}0201(?:00(?:300d06092a864886f70d010101|028[12])|033082)"
    r"|30770201010420|30(?:81)?[0-9a-f]{2}0201003(?:005|01[03])06)[0-9a-f]*",
    re.IGNORECASE,
)
_BYTES = re.compile(
    r"0x30,\s*0x(?:82,\s*0x\w\w,\s*0x\w\w,\s*0x02,\s*0x01,\s*0x00|77,\s*0x02,\s*0x01,\s*0x01,\s*0x04),(?:\s*0x\w\w,?){40,}+",
    re.IGNORECASE,
)
_BYTE = re.compile(r"0x\w\w", re.IGNORECASE)
# The private part of a JSON Web Key of RSA (RFC 7518) and of an RSAKeyValue of .NET.
_WEB_KEY = re.compile(
    r"""(?:"kty"\s*:|<Modulus>)[^{}]{0,8000}?(?:["']d["']\s*:\s*["']|<D>)(?P<value>[\w+/-]{40,2000})"""
)
_PIECE = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
# A full line, or a shorter one with nothing after it in its line.
_NEXT_PIECE = re.compile(
    rf"{_BETWEEN}{{1,80}}+(?P<value>[A-Za-z0-9+/]{{40,}}={{0,2}}|[A-Za-z0-9+/]+={{0,2}}(?=[\"'`\\<&%,;)]|\s*(?:\n|\Z)))"
    r"(?![\w:(.=])"
)
_PIECE_BEFORE = re.compile(rf"(?P<value>[A-Za-z0-9+/]{{40,}}){_BETWEEN}{{1,80}}\Z")
_MIN_BLOCK_CHARS = 88
_MIN_ENCODED_CHARS = 40


def find_private_keys(text: str, view: bytes, folded: bytes, words: bytes, spans: list[Span]) -> list[list[Span]]:
    """Return the spans of the lines of each key's body, one list a key.

    A header alone does not count as a key: lines of base64 must follow it directly, not an ellipsis or words.

    Args:
        view: The text's view (`detector.latin1_view`); `folded` is the same, folded.
        words: The text's long words, and `spans` those with a digit (`detector.long_words`).
    """
    keys = [*_find_armoured(text, folded), *_find_byte_arrays(text, folded)]
    has_data = any(stop - begin >= _MIN_ENCODED_CHARS for begin, stop in spans)
    if has_data:
        keys += _find_encoded(text, view, words)
    if has_data and (b'"kty"' in view or b"<Modulus>" in view):
        keys += [[match.span("value")] for match in _WEB_KEY.finditer(text) if _is_base64(match["value"])]
    # A key may be found in more than one form; its lines are masked once.
    merged: list[list[Span]] = []
    for lines in sorted(keys):
        if not merged or lines[0][0] >= merged[-1][-1][1]:
            merged.append(lines)
    return merged


def _find_armoured(text: str, folded: bytes) -> Iterator[list[Span]]:
    for literal, pattern in ((b"private key", _KEY), (b"private_lines: ", _PUTTY_KEY)):
        for at in occurrences(folded, literal):
            key = pattern.match(text, at)
            if key and (pattern is _PUTTY_KEY or _BEGIN.search(text[max(at - 48, 0) : at])):
                lines = [line.span() for line in _LINE.finditer(text, *key.span("body"))]
                if any(_is_base64(text[begin:end]) for begin, end in lines):
                    yield lines


def _find_encoded(text: str, view: bytes, words: bytes) -> Iterator[list[Span]]:
    end = 0
    literals = [literal for literal in (*_ENCODED, *_DER_BEGINNINGS) if literal in words]
    hits = sorted({at for literal in literals for at in occurrences(view, literal)})
    if b"30" in words and _DER_HEX.search(words.decode("latin-1")):
        hits = sorted({*hits, *(match.start() for match in _DER_HEX.finditer(text))})
    for at in hits:
        if at < end:
            continue
        is_der = view.startswith(_DER_BEGINNINGS, at)
        if is_der and not _DER.match(text, at):
            continue
        pieces = _block(text, at)
        if sum(stop - begin for begin, stop in pieces) >= _MIN_BLOCK_CHARS and "xxxx" not in text[slice(*pieces[0])]:
            end = pieces[-1][1]
            yield pieces


def _block(text: str, at: int) -> list[Span]:
    """The spans of the lines of base64 or hex around a position."""
    begin = at
    while begin and (text[begin - 1].isalnum() or text[begin - 1] in "+/"):
        begin -= 1
    piece = _PIECE.match(text, begin)
    pieces = [piece.span() if piece else (at, at)]
    # Forwards; only the last line is short.
    while next_piece := _NEXT_PIECE.match(text, pieces[-1][1]):
        is_short = len(next_piece["value"]) < _MIN_LINE_CHARS // 2
        pieces.append(next_piece.span("value"))
        if is_short:
            break
    # Backwards, if the position is not in the first line.
    while pieces[0][0] > 0:
        window = max(pieces[0][0] - 400, 0)
        before = _PIECE_BEFORE.search(text[window : pieces[0][0]])
        if not before:
            break
        pieces.insert(0, (window + before.start("value"), window + before.end("value")))
    return pieces


def _find_byte_arrays(text: str, folded: bytes) -> Iterator[list[Span]]:
    end = 0
    for at in occurrences(folded, b"0x30,"):
        array = _BYTES.match(text, at) if at >= end else None
        if array:
            end = array.end()
            yield [byte.span() for byte in _BYTE.finditer(text, *array.span())]


def _is_base64(line: str) -> bool:
    return len(line) >= _MIN_LINE_CHARS and len(set(line)) >= _MIN_LINE_DISTINCT
