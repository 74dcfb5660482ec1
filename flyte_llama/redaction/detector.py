"""What finds one kind of secret, and the cheap tests that keep it from running where there is none.

A regular expression over whole files is too slow for a corpus. Here bytes are searched for a literal, which C does at
over 1 GB/s, and an expression is matched only where the literal stands. Literals of tokens are not even searched for
in the whole text, but in its long words: a token is at least 20 letters or digits on end, as a tenth of source text is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Span = tuple[int, int]

_LONG = 20
# One class for all that a token is made of, one for the rest: a long word is then found as a run of one byte.
_CLASSES = bytes(
    ord("t") if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "_-") else ord(" ") for byte in range(256)
)
_FOLDED = bytes(range(256)).lower().replace(b"-", b"_")
_LONG_WORD = b"t" * _LONG
# UTF-8 bytes → a cross of as many bytes; punctuation all, which is no part of a name or a password that is real.
_MASKS = {2: "\u00d7", 3: "\u203b", 4: "\U0001f7a8"}


@dataclass(frozen=True)
class Detector:
    name: str
    literals: tuple[bytes, ...]
    """Each match of the pattern begins with one of them."""

    pattern: re.Pattern[str]
    """Its group `value` is what is masked; what stands before and after it stays."""

    is_real: Callable[[re.Match[str]], bool]
    """Whether a match can be a secret, not the placeholder of one."""

    def find(self, text: str, view: bytes) -> list[Span]:
        """Where secrets stand in the text, in order and apart; `view` is its view, folded if the literals are."""
        found = set[Span]()
        for literal in self.literals:
            at = view.find(literal)
            while at >= 0:
                match = self.pattern.match(text, at)
                if match and self.is_real(match):
                    found.add(match.span("value"))
                at = view.find(literal, at + len(literal))
        return apart(found)


class Table:
    """Detectors, and which of them are worth running. A literal that several share is looked for once."""

    def __init__(self, *detectors: Detector) -> None:
        self._detectors = detectors
        self._numbers: dict[bytes, list[int]] = {}
        for number, detector in enumerate(detectors):
            for literal in detector.literals:
                self._numbers.setdefault(literal, []).append(number)

    def __iter__(self) -> Iterator[Detector]:
        return iter(self._detectors)

    def called_for(self, gate: bytes) -> list[Detector]:
        """Those of which a literal is in `gate`, which must hold whatever they could find; in the table's order."""
        called = {number for literal, numbers in self._numbers.items() if literal in gate for number in numbers}
        return [self._detectors[number] for number in sorted(called)] if called else []


def apart(found: set[Span]) -> list[Span]:
    """The spans in order, without those that begin inside an earlier one."""
    spans: list[Span] = []
    for span in sorted(found, key=lambda span: (span[0], -span[1])):
        if not spans or span[0] >= spans[-1][1]:
            spans.append(span)
    return spans


def view_of(text: str) -> bytes:
    """One byte a character, so that offsets are the text's; `?` stands for what is not Latin-1."""
    return text.encode("latin-1", "replace")


def fold(view: bytes) -> bytes:
    """The view in lower case and with `_` for `-`, so that `Api-Key` and `API_KEY` are one."""
    return view.translate(_FOLDED)


def long_words(view: bytes) -> bytes:
    """The words of 20 characters and more, each with the five before it: some prefixes end in a dot."""
    classes = view.translate(_CLASSES) + b" "
    words, end = [], 0
    while (begin := classes.find(_LONG_WORD, end)) >= 0:
        end = classes.find(b" ", begin + _LONG)
        words.append(view[max(begin - 5, 0) : end])
    return b" ".join(words)


def mask(text: str, spans: list[Span], masked: Callable[[str], str]) -> str:
    """The text with each span replaced by its mask, which has the span's length in characters and in UTF-8 bytes."""
    pieces, end = [], 0
    for begin, stop in spans:
        value = text[begin:stop]
        pieces += [text[end:begin], masked(value) if value.isascii() else _as_wide(value, masked(value))]
        end = stop
    return "".join([*pieces, text[end:]])


def _as_wide(value: str, masked: str) -> str:
    """The mask with characters of as many bytes as those of the value."""
    return "".join(
        new if new == old else _MASKS.get(len(old.encode("utf-8", "surrogatepass")), new)
        for old, new in zip(value, masked, strict=True)
    )
