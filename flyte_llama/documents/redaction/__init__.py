"""Replace secrets and, on request, people's addresses by placeholders of the same length.

    redact(text, people=True) → RedactedText(text, counts, private_key)

Pure functions on text: they read no file, log nothing, and never return a value that they detected.
"""

from flyte_llama.documents.redaction.redaction import redact

__all__ = ["redact"]
