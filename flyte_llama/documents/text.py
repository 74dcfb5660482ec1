"""Turn the bytes of a file into the text to train on, or into the reason to drop it.

    bytes → decode_text → Decoded         text that encodes to the same bytes again
          → file_text   → FileText        the same or, for a notebook, its cells as a script
          → filter_text → FilteredText    with secrets masked; generated and minified files are dropped

Pure: the same bytes, language, kind and options give the same result, whatever the repository and the path, so results
can be cached by blob id.
"""

from __future__ import annotations

import codecs
import io
import re
import tokenize
import unicodedata
from dataclasses import dataclass, field
from typing import NamedTuple

from flyte_llama.documents.generated import header_reason, output_reason, statistics_reason
from flyte_llama.documents.licences import header_statement
from flyte_llama.documents.ngrams import signature
from flyte_llama.documents.notebook import notebook_text
from flyte_llama.redaction import redact

NOTEBOOK = "notebook"

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# A few bytes can fit any of a hundred code pages; source code is written in these.
_GUESSES = [
    *("cp1252", "cp1250", "cp1251", "koi8-r", "cp1253", "cp1254", "cp1255", "cp1256", "cp874"),
    *("cp932", "euc-jp", "gb18030", "big5", "cp949"),
]
_WESTERN = "cp1252"
_HIGH_RUN = re.compile(rb"([A-Za-z]?)([\x80-\xff]+)([A-Za-z]?)")
# Signs that people put into code, alone or beside a number: a legacy encoding of another script has them in words.
_SIGNS = frozenset("©®°±µ§«»·½¼¾£¥×÷²³¹¶ªº€…‘’“”•–—™¢¬´¨¦\xa0".encode(_WESTERN))  # noqa: RUF001  # these signs
# From À on, without six letters of Icelandic, which are Turkish ones in its encoding.
_LONE_LETTERS = frozenset(range(0xC0, 0x100)) - frozenset("ÐÝÞðýþ".encode(_WESTERN))
_MAX_LONE_LETTERS = 2
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\f\r\x1b"})
_MAX_CONTROL_SHARE = 0.01
_ASCII = bytes(range(128))
_MAX_BEYOND_SHARE = 0.98
_MIN_LETTER_SHARE = 0.7
_GUESS_HEAD_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class FilteredText:
    """The redacted text of a file, or the reason to drop it."""

    reason: str | None
    """Why the file is dropped; None if it becomes a document."""

    text: str = ""
    """Redacted."""

    encoding: str = ""
    skipped_bytes: int = 0
    language: str = ""
    licence: str = ""
    """SPDX expression in the file's header; empty if it has none."""

    unknown_licence: str = ""
    """A line of the header's licence that is not recognised, redacted; empty if it has none."""

    redacted: dict[str, int] = field(default_factory=dict)
    """Detector → number of placeholders that it put in."""

    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class FileText:
    """A file's text before redaction."""

    text: str
    encoding: str
    skipped_bytes: int
    language: str


class Decoded(NamedTuple):
    text: str
    """Without a byte order mark."""

    encoding: str
    """Python's name for it."""

    skipped_bytes: int
    """Length of the byte order mark, which is not part of the text."""


def filter_text(
    data: bytes, language: str, kind: str, *, redact_people: bool, is_written: bool = False
) -> FilteredText:
    """Return the redacted text of a file, or the reason to drop it; `language` and `kind` come from its path.

    Args:
        is_written: True if `.gitattributes` sets linguist-generated=false; skips the checks for generated files.
    """
    file = file_text(data, language)
    if isinstance(file, str):
        return FilteredText(file)
    generated = None
    if not is_written:
        generated = header_reason(file.text, file.language) or output_reason(file.text, file.language)
    reason = generated or statistics_reason(file.text, kind, file.language)
    if reason:
        return FilteredText(reason)
    redacted = redact(file.text, people=redact_people)
    if redacted.private_key:
        return FilteredText("private_key")
    stated = header_statement(file.text, of_prose=kind == "docs")
    return FilteredText(
        None,
        text=redacted.text,
        encoding=file.encoding,
        skipped_bytes=file.skipped_bytes,
        language=file.language,
        licence=stated.spdx,
        unknown_licence=redact(stated.unknown, people=True).text if stated.unknown else "",
        redacted=dict(redacted.counts),
        signature=signature(redacted.text),
    )


def file_text(data: bytes, language: str) -> FileText | str:
    """Return the text of a file (of a notebook, its py:percent form), or the reason why it has none."""
    if language != NOTEBOOK:
        decoded = decode_text(data, language)
        return decoded if isinstance(decoded, str) else FileText(*decoded, language)
    if not data.strip():
        return "empty"
    try:
        notebook = notebook_text(data)
    except ValueError:
        return "notebook"
    return FileText(notebook.text, NOTEBOOK, 0, notebook.language) if notebook.text.strip() else "empty"


def decode_text(data: bytes, language: str) -> Decoded | str:
    """Return the text, or a reason: `empty`, `lfs_pointer`, `binary` (a NUL byte) or `encoding` (none fits)."""
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
    return _decode(data, "utf-8", 0) or _decode_as_declared(data, language) or _decode_by_guess(data) or "encoding"


def _decode(data: bytes, encoding: str, skipped_bytes: int) -> Decoded | None:
    """Return the decoded text, or None if it has a NUL or would not encode to the same bytes again."""
    try:
        text = data.decode(encoding)
        same = text.encode(encoding) == data
    except (UnicodeError, LookupError):
        return None
    return Decoded(text, encoding, skipped_bytes) if same and "\0" not in text else None


def _decode_as_declared(data: bytes, language: str) -> Decoded | None:
    """Decode with the encoding that a comment in a Python file declares (PEP 263)."""
    if language != "python":
        return None
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError:
        return None
    return _decode(data, encoding, 0)


def _decode_by_guess(data: bytes) -> Decoded | None:
    """Decode with the encoding of `_GUESSES` that fits best, if any does."""
    import chardet

    # Some code page fits any bytes, but text has line ends, and hardly any control characters.
    head = data[:_GUESS_HEAD_BYTES]
    num_beyond = len(head.translate(None, _ASCII))
    num_controls = len(head) - len(head.translate(None, _CONTROLS))
    if num_beyond > _MAX_BEYOND_SHARE * len(head) or num_controls > _MAX_CONTROL_SHARE * len(head):
        return None
    if _is_western(head):
        return _decode(data, _WESTERN, 0)
    # Only these lines tell the encoding.
    lines = b"\n".join(line for line in head.split(b"\n") if not line.isascii())
    found = chardet.detect(lines, prefer_superset=True, compat_names=False, include_encodings=_GUESSES)["encoding"]
    decoded = _decode(data, found, 0) if found else None
    return decoded if decoded and _is_in_words(decoded.text) else None


def _is_in_words(text: str) -> bool:
    """Whether the characters beyond ASCII are letters and marks, with few signs between them."""
    beyond = [char for char in text[:_GUESS_HEAD_BYTES] if not char.isascii()]
    return sum(unicodedata.category(char)[0] in "LM" for char in beyond) > _MIN_LETTER_SHARE * len(beyond)


def _is_western(data: bytes) -> bool:
    """Whether all bytes beyond ASCII are lone signs, such as ° and ©, or one or two lone letters, as in a name."""
    num_letters = 0
    for before, run, after in _HIGH_RUN.findall(data):
        if len(run) > 1:
            return False
        if run[0] not in _SIGNS or (before and after):
            num_letters += 1
            if run[0] not in _LONE_LETTERS or num_letters > _MAX_LONE_LETTERS:
                return False
    return True
