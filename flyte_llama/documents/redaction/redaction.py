"""Redact a text.

Detectors run one after another, each on the text that the previous one left, so a token inside a URL is masked once and
counted once. A mask is as long as its value and holds no line end, so offsets, lines and byte counts do not change.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from flyte_llama.documents.redaction.detector import MASK, fold, latin1_view, long_words, mask
from flyte_llama.documents.redaction.people import find_emails, find_ip_addresses, mask_email, mask_ip_address
from flyte_llama.documents.redaction.secrets import CREDENTIALS, PROVIDERS, find_private_keys


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A redacted text, and counts of the values masked in it."""

    text: str = field(repr=False)
    """As long as the input, in characters and in UTF-8 bytes."""

    counts: dict[str, int]
    """Detector → number of matches, for detectors with at least one; never a value."""

    private_key: bool
    """Whether the text held a private key. Its body is masked, but such a file is better dropped as a whole."""


def redact(text: str, *, people: bool) -> RedactedText:
    """Mask secrets and, if `people`, e-mail addresses and public IP addresses.

    Redacting again changes nothing: masks are placeholders, and placeholders are left alone.
    """
    # Private keys first, so that no other detector finds a secret in their bodies.
    counts = Counter[str]()
    view = latin1_view(text)
    folded = fold(view)
    keys = find_private_keys(text, folded)
    if keys:
        counts["private_key"] = len(keys)
        text = mask(text, [line for lines in keys for line in lines], _mask_secret)
    # Then tokens, then secrets recognised by their context. Masks keep all offsets, so both views stay valid.
    for table, gate, searched in ((PROVIDERS, long_words(view), view), (CREDENTIALS, folded, folded)):
        for detector in table.select(gate):
            if spans := detector.find(text, searched):
                counts[detector.name] += len(spans)
                text = mask(text, spans, _mask_secret)
    if people:
        if spans := find_emails(text):
            counts["email"] = len(spans)
            text = mask(text, spans, mask_email)
        if spans := find_ip_addresses(text, view):
            counts["ip_address"] = len(spans)
            text = mask(text, spans, mask_ip_address)
    return RedactedText(text, dict(sorted(counts.items())), private_key=bool(keys))


def _mask_secret(value: str) -> str:
    return MASK * len(value)
