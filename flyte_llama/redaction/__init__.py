"""Find secrets and people's addresses, and replace them by placeholders of the same length.

    redact(text, people=True)  → RedactedText(text, counts, private_key)     a file of a corpus
    mask_secrets(text)         → the text as it may be shown                 a message, a log line, a ref
    contains_secret(text)      → whether a text may be stored and shown      a path, a ref, a message
    may_hold_password(text)    → the same, and stricter                      a configured value
    escape_invisible(text)     → the text with control characters as escapes a message
    escape_line(text)          → the same, and line breaks and tabs          a name in a message, a cell of a table
    mask_emails_in_path(path)  → the same path without people's addresses    a path, a ref

Pure functions on text: they read no file, log nothing, and never return a value that they detected. Imports nothing of
the package, so that every room can use them.
"""

from flyte_llama.redaction.people import mask_emails_in_path
from flyte_llama.redaction.redaction import redact
from flyte_llama.redaction.shown_text import (
    contains_secret,
    escape_invisible,
    escape_line,
    mask_secrets,
    may_hold_password,
)

__all__ = [
    "contains_secret",
    "escape_invisible",
    "escape_line",
    "mask_emails_in_path",
    "mask_secrets",
    "may_hold_password",
    "redact",
]
