"""What is found in a file's bytes, whatever repository and path they come from: the text to learn from, or why not.

Pure: the same bytes, language, kind and switch give the same verdict. So verdicts can be kept by blob id.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flyte_llama.documents.decode import decode
from flyte_llama.documents.notebook import notebook_text
from flyte_llama.licences import header_spdx
from flyte_llama.ngrams import signature
from flyte_llama.redaction import redact
from flyte_llama.rules import header_reason, output_reason, statistics_reason

NOTEBOOK = "notebook"


@dataclass(frozen=True, slots=True)
class Verdict:
    reason: str | None
    """Why the file is left out; None if it is a document."""

    text: str = ""
    """Redacted."""

    encoding: str = ""
    skipped_bytes: int = 0
    language: str = ""
    licence: str = ""
    """SPDX expression of the file's own header; empty if it has none."""

    redacted: dict[str, int] = field(default_factory=dict)
    """Detector → placeholders put in."""

    signature: bytes = b""


def judge(data: bytes, language: str, kind: str, *, redact_people: bool, is_written: bool = False) -> Verdict:
    """The verdict on a file of a language and kind known by its path.

    Args:
        is_written: That people wrote it is known: it is not asked whether it looks generated.
    """
    found = file_text(data, language)
    if isinstance(found, str):
        return Verdict(found)
    looks = None if is_written else header_reason(found.text) or output_reason(found.text, found.language)
    reason = looks or statistics_reason(found.text, kind)
    if reason:
        return Verdict(reason)
    redacted = redact(found.text, people=redact_people)
    if redacted.private_key:
        return Verdict("private_key")
    return Verdict(
        None,
        text=redacted.text,
        encoding=found.encoding,
        skipped_bytes=found.skipped_bytes,
        language=found.language,
        licence=header_spdx(found.text, of_prose=kind == "docs"),
        redacted=dict(redacted.counts),
        signature=signature(redacted.text),
    )


@dataclass(frozen=True, slots=True)
class FileText:
    """A file's text before redaction; a document is a piece of it."""

    text: str
    encoding: str
    skipped_bytes: int
    language: str


def file_text(data: bytes, language: str) -> FileText | str:
    """The text of a file, or the reason why it has none; a notebook's is its py:percent form."""
    if language != NOTEBOOK:
        decoded = decode(data, language)
        return decoded if isinstance(decoded, str) else FileText(*decoded, language)
    if not data.strip():
        return "empty"
    try:
        notebook = notebook_text(data)
    except ValueError:
        return "notebook"
    return FileText(notebook.text, NOTEBOOK, 0, notebook.language) if notebook.text.strip() else "empty"
