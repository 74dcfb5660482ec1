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
import tokenize
from dataclasses import dataclass, field
from typing import NamedTuple

from flyte_llama.documents.generated import header_reason, output_reason, statistics_reason
from flyte_llama.documents.licences import header_spdx
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
_GUESSES = ["cp1252", "cp1251", "koi8_r", "shift_jis", "euc_jp", "euc_kr", "gb18030", "big5"]
_GUESS_HEAD_BYTES = 100_000
_MIN_ASCII_SHARE = 0.25


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
    generated = None if is_written else header_reason(file.text) or output_reason(file.text, file.language)
    reason = generated or statistics_reason(file.text, kind)
    if reason:
        return FilteredText(reason)
    redacted = redact(file.text, people=redact_people)
    if redacted.private_key:
        return FilteredText("private_key")
    return FilteredText(
        None,
        text=redacted.text,
        encoding=file.encoding,
        skipped_bytes=file.skipped_bytes,
        language=file.language,
        licence=header_spdx(file.text, of_prose=kind == "docs"),
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
    from charset_normalizer import from_bytes

    # Source files are mostly ASCII in any encoding. Random bytes are not, yet some code page would fit them.
    head = data[:_GUESS_HEAD_BYTES]
    if sum(byte < 128 for byte in head) < _MIN_ASCII_SHARE * len(head):
        return None
    best = from_bytes(head, cp_isolation=_GUESSES).best()
    return _decode(data, best.encoding, 0) if best else None
