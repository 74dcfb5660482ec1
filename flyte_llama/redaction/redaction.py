"""Redact a text.

Detectors run one after another, each on the text that the previous one left, so a token inside a URL is masked once and
counted once. A mask is as long as its value and holds no line end, so offsets, lines and byte counts do not change.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from flyte_llama.redaction.commands import COMMANDS
from flyte_llama.redaction.credentials import CREDENTIALS
from flyte_llama.redaction.detector import MASK, DetectorTable, fold, latin1_view, long_words, mask, zero_digits
from flyte_llama.redaction.named_values import find_named_values
from flyte_llama.redaction.people import find_emails, find_ip_addresses, mask_email, mask_ip_address
from flyte_llama.redaction.private_keys import find_private_keys
from flyte_llama.redaction.tokens import PROVIDERS

# One table, so that a literal of several detectors is searched for once.
_BY_CONTEXT = DetectorTable(*CREDENTIALS, *COMMANDS)


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A redacted text, and counts of the values masked in it."""

    text: str = field(repr=False)
    """As long as the input, in characters and in UTF-8 bytes."""

    counts: dict[str, int]
    """Detector → number of matches, for detectors with at least one; never a value."""

    private_key: bool
    """Whether the text held a private key. Its body is masked, but such a file is better dropped as a whole."""


def redact(text: str, *, people: bool, strict: bool = False) -> RedactedText:
    """Mask secrets and, if `people`, e-mail addresses and public IP addresses.

    Redacting again changes nothing: masks are placeholders, and placeholders are left alone.

    Args:
        strict: Whether to mask whatever stands in a secret's position, even if it looks like a placeholder.
    """
    # Private keys first, so that no other detector finds a secret in their bodies.
    counts = Counter[str]()
    view = latin1_view(text)
    folded = fold(view)
    digits = zero_digits(view)
    words, word_spans = long_words(view, digits)
    keys = find_private_keys(text, view, folded, words, word_spans)
    if keys:
        counts["private_key"] = len(keys)
        text = mask(text, [line for lines in keys for line in lines], mask_secret)
    # Then tokens, then secrets recognised by their context. Masks keep all offsets, so both views stay valid.
    for detector in PROVIDERS.select_by_head(words):
        if spans := detector.find(text, view):
            counts[detector.name] += len(spans)
            text = mask(text, spans, mask_secret)
    for name, spans in find_named_values(text, word_spans):
        counts[name] += len(spans)
        text = mask(text, spans, mask_secret)
    for detector, positions in _BY_CONTEXT.positions(folded):
        if spans := detector.find_at(text, positions, strict=strict):
            counts[detector.name] += len(spans)
            text = mask(text, spans, mask_secret)
    if people:
        if emails := find_emails(text):
            counts["email"] = len(emails)
            text = mask(text, emails, mask_email)
        if addresses := find_ip_addresses(text, view, digits):
            counts["ip_address"] = len(addresses)
            text = mask(text, addresses, mask_ip_address)
        if emails or addresses:
            # Beside a mask of zeros, a value may look random that did not beside the letters of an address.
            again = redact(text, people=True, strict=strict)
            text = again.text
            counts.update(again.counts)
    return RedactedText(text, dict(sorted(counts.items())), private_key="private_key" in counts)


def mask_secret(value: str) -> str:
    return MASK * len(value)
