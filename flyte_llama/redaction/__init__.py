"""Text with secrets and, if asked for, people's addresses replaced by placeholders of the same length.

    redact(text, people=True) → Redacted(text, counts, private_key)

Pure functions on text: no file is read, nothing is logged, and no value that was found leaves this room.
"""

from flyte_llama.redaction.redact import Redacted, redact

__all__ = ["Redacted", "redact"]
