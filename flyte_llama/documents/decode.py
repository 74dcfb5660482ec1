"""Bytes → text with the encoding it was in, such that encoding it gives back the bytes; or a reason why not."""

from __future__ import annotations

import codecs
import io
import tokenize
from typing import NamedTuple

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# Of a few bytes any of a hundred code pages may be guessed; these are what source code is written in.
_GUESSES = ["cp1252", "cp1251", "koi8_r", "shift_jis", "euc_jp", "euc_kr", "gb18030", "big5"]
_GUESSED_FROM_BYTES = 100_000
_LEAST_ASCII = 0.25


class Decoded(NamedTuple):
    text: str
    """Without a byte order mark."""

    encoding: str
    """Python's name of it."""

    skipped_bytes: int
    """Of the byte order mark, which the text does not begin with."""


def decode(data: bytes, language: str) -> Decoded | str:
    """The text, or `empty`, `lfs_pointer`, `binary` (a NUL byte) or `encoding` (none fits)."""
    if not data.strip():
        return "empty"
    if data.startswith(_LFS_POINTER):
        return "lfs_pointer"
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    if mark:
        decoded = _decode(data[len(mark) :], _MARKS[mark], len(mark))
        return "encoding" if decoded is None else decoded if decoded.text.strip() else "empty"
    if b"\0" in data:
        return "binary"
    return _decode(data, "utf-8", 0) or _declared(data, language) or _guessed(data) or "encoding"


def _decode(data: bytes, encoding: str, skipped_bytes: int) -> Decoded | None:
    """None too if the text would not give back these very bytes."""
    try:
        text = data.decode(encoding)
        same = text.encode(encoding) == data
    except (UnicodeError, LookupError):
        return None
    return Decoded(text, encoding, skipped_bytes) if same and "\0" not in text else None


def _declared(data: bytes, language: str) -> Decoded | None:
    """By the comment that Python asks for (PEP 263)."""
    if language != "python":
        return None
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError:
        return None
    return _decode(data, encoding, 0)


def _guessed(data: bytes) -> Decoded | None:
    from charset_normalizer import from_bytes

    # Source files are mostly ASCII in any encoding; noise is not, and some code page would fit it.
    head = data[:_GUESSED_FROM_BYTES]
    if sum(byte < 128 for byte in head) < _LEAST_ASCII * len(head):
        return None
    best = from_bytes(head, cp_isolation=_GUESSES).best()
    return _decode(data, best.encoding, 0) if best else None
