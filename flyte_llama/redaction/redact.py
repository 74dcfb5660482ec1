"""Text in, redacted text out.

Detectors run one after another, each on what the one before it left: a token inside a URL is masked once and counted
once. A mask has its value's length and holds no line end, so offsets, lines and bytes stay what they were.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from flyte_llama.redaction.credentials import CREDENTIALS
from flyte_llama.redaction.detector import fold, long_words, mask, view_of
from flyte_llama.redaction.people import find_emails, find_ip_addresses, mask_email, mask_ip_address
from flyte_llama.redaction.plausible import MASK
from flyte_llama.redaction.private_keys import find_private_keys
from flyte_llama.redaction.providers import PROVIDERS


@dataclass(frozen=True, slots=True)
class Redacted:
    text: str = field(repr=False)
    """As long as the text that came in, in characters and in UTF-8 bytes."""

    counts: dict[str, int]
    """Detector → matches, those that found none left out. Never a value."""

    private_key: bool
    """Whether a private key was in it: its body is masked, but such a file is better left out whole."""


def redact(text: str, *, people: bool) -> Redacted:
    """Mask secrets and, if `people`, e-mail addresses and public IP addresses.

    Redacting again changes nothing: masks are placeholders, and placeholders are left alone.
    """
    counts = Counter[str]()
    view = view_of(text)
    folded = fold(view)
    keys = find_private_keys(text, folded)
    if keys:
        counts["private_key"] = len(keys)
        text = mask(text, [line for lines in keys for line in lines], _mask_secret)
    for table, gate, searched in ((PROVIDERS, long_words(view), view), (CREDENTIALS, folded, folded)):
        for detector in table.called_for(gate):
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
    return Redacted(text, dict(sorted(counts.items())), private_key=bool(keys))


def _mask_secret(value: str) -> str:
    return MASK * len(value)
