"""A detector for one kind of secret: how it searches, whether a match can be real, and how a value is masked.

Regular expressions over whole files are too slow for a corpus. So the bytes are searched for a literal, which C does at
over 1 GB/s, and the expression is matched only where the literal occurs:

    text        key := "ghp_…"
    literals            ghp_                 searched for in the text as Latin-1, where offsets are the same
    pattern             ghp_(?P<value>…)     matched from there on, or from `before` characters earlier
    is_real             …                    tests whether the value is random enough, and not a placeholder

A literal that several detectors share is searched for once. Whether a token's literal occurs at all is first looked up
in the long words of the text alone: a token has at least 20 letters, digits or signs of base64 in a row, and a tenth of
source text is in words of that length.

The mask, a row of x, is a placeholder too, which makes redaction idempotent. The detectors themselves are in `tokens`,
`credentials` and `commands`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

Span = tuple[int, int]

MASK = "x"
# Length in UTF-8 → a cross of that length. All are symbols or punctuation, not letters or digits, so that no detector
# takes a mask for a real name or password.
_MASKS = {2: "\u00d7", 3: "\u203b", 4: "\U0001f7a8"}

_LONG = 20
_MARGIN = 18
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else byte for byte in range(256))
# Byte → `t` if a token may contain it, else a blank: a long word then is a run of `t`, which `bytes.find` finds.
_CLASSES = bytes(
    ord("t") if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "_-+/~") else ord(" ")
    for byte in range(256)
)
_LONG_WORD = b"t" * _LONG
_ALPHANUMERIC = bytes(byte if chr(byte).isascii() and chr(byte).isalnum() else ord(" ") for byte in range(256))
_ESCAPE = re.compile(rb"\\[nrt]")
_FOLDED = bytes(range(256)).lower().replace(b"-", b"_")


@dataclass(frozen=True)
class Detector:
    """Finds one kind of secret."""

    name: str
    literals: tuple[bytes, ...]
    """Each match of the pattern begins `before` characters before one of them."""

    pattern: re.Pattern[str]
    """Only its group `value` is masked; the rest of the match stays."""

    is_real: Callable[[re.Match[str]], bool]
    """Whether a match can be a secret, and not a placeholder."""

    before: int = 0
    """Number of characters of a match before its literal."""

    positional: bool = False
    """Whether nothing but a secret stands in this position, as after `curl -u user:`."""

    find_more: Callable[[str, int, int], list[Span]] | None = None
    """Finds the secrets that follow one, given its span, as in a list."""

    def find(self, text: str, view: bytes, *, strict: bool = False) -> list[Span]:
        """The spans of the secrets in the text, in order and without overlaps.

        Args:
            view: The text's view (`latin1_view`), folded if the literals are.
            strict: Whether a positional match also counts if its value looks like a placeholder.
        """
        return self.find_at(text, (at for literal in self.literals for at in occurrences(view, literal)), strict=strict)

    def find_at(self, text: str, positions: Iterable[int], *, strict: bool = False) -> list[Span]:
        """The same, where the positions of the literals are known."""
        spans = set[Span]()
        for at in positions:
            match = self.pattern.match(text, at - self.before) if at >= self.before else None
            if match and ((strict and self.positional) or self.is_real(match)):
                spans.add(match.span("value"))
                spans.update(self.find_more(text, *match.span("value")) if self.find_more else ())
        return drop_overlaps(spans)


class DetectorTable:
    """Detectors, and the choice of those worth running. A literal that several share is searched for once."""

    def __init__(self, *detectors: Detector) -> None:
        self._detectors = detectors
        self._literals: dict[bytes, list[int]] = {}
        self._longer: dict[bytes, list[bytes]] = {}
        self._heads: dict[bytes, list[int]] = {}
        self._inside: dict[bytes, list[int]] = {}
        for index, detector in enumerate(detectors):
            for literal in detector.literals:
                self._literals.setdefault(literal, []).append(index)
                if detector.before:
                    self._inside.setdefault(literal, []).append(index)
                else:
                    head = (literal.translate(_ALPHANUMERIC).split() or [literal])[0][:3]
                    self._heads.setdefault(head, []).append(index)
        for literal in sorted(self._literals, key=len):
            shorter = next((other for other in self._longer if other in literal), literal)
            self._longer.setdefault(shorter, []).append(literal)

    def __iter__(self) -> Iterator[Detector]:
        return iter(self._detectors)

    def positions(self, view: bytes) -> list[tuple[Detector, list[int]]]:
        """The detectors with a literal in the view, in the table's order, and where their literals are."""
        # Where `pass` does not occur, `passphrase` does not either.
        found: dict[int, list[int]] = {}
        for shorter, longer in self._longer.items():
            if shorter not in view:
                continue
            hits = list(occurrences(view, shorter))
            for literal in longer:
                offset = literal.index(shorter)
                positions = [at - offset for at in hits if view.startswith(literal, max(at - offset, 0))]
                for index in self._literals[literal] if positions else ():
                    found.setdefault(index, []).extend(positions)
        return [(self._detectors[index], found[index]) for index in sorted(found)]

    def select_by_head(self, gate: bytes) -> list[Detector]:
        """The detectors with a literal in `gate` that begins a word of letters and digits, or is inside of its match.

        `gate` must contain the literal of every possible match; it may be shorter than the text. The first characters
        of each word of it are looked up, which for a hundred literals is many times faster.
        """
        if not gate:
            return []
        unescaped = _ESCAPE.sub(b"  ", gate) if b"\\" in gate else gate
        words = set(unescaped.translate(_ALPHANUMERIC).split())
        heads = {word[:3] for word in words} | {word[:2] for word in words}
        inside = [indices for literal, indices in self._inside.items() if literal in gate]
        selected = self._ordered([*inside, *(self._heads[head] for head in heads & self._heads.keys())])
        return [detector for detector in selected if any(literal in gate for literal in detector.literals)]

    def _ordered(self, selected: Iterable[list[int]]) -> list[Detector]:
        return [self._detectors[index] for index in sorted({index for indices in selected for index in indices})]


def occurrences(view: bytes, literal: bytes) -> Iterator[int]:
    """The positions of a literal in a view, without overlaps."""
    at = view.find(literal)
    while at >= 0:
        yield at
        at = view.find(literal, at + len(literal))


def latin1_view(text: str) -> bytes:
    """The text as Latin-1, one byte a character, so that offsets agree; other characters become `?`."""
    return text.encode("latin-1", "replace")


def fold(view: bytes) -> bytes:
    """The view in lower case and with `_` for `-`, so that `Api-Key` and `API_KEY` become equal."""
    return view.translate(_FOLDED)


def zero_digits(view: bytes) -> bytes:
    """The view with every digit written as 0."""
    return view.translate(_DIGITS)


def long_words(view: bytes, digits: bytes) -> tuple[bytes, list[Span]]:
    """The words of 20 or more characters that may be a token, each with the characters next to it, and their spans.

    A token holds a digit or, rarely, only letters of both cases. Some prefixes end in a dot or a colon, and are thus
    next to the word. The spans are of the words with a digit, without what is next to them. `digits` is the view with
    every digit as 0.
    """
    classes = view.translate(_CLASSES) + b" "
    words: list[bytes] = []
    spans: list[Span] = []
    end = 0
    while (begin := classes.find(_LONG_WORD, end)) >= 0:
        end = classes.find(b" ", begin + _LONG)
        if digits.find(b"0", begin, end) >= 0:
            spans.append((begin, end))
        else:
            # Without a digit: `hf_…` with letters of both cases, or an id of AWS.
            word = view[begin:end]
            if b"_" not in word and b"-" not in word:
                if end - begin != _LONG or not word.isupper():
                    continue
            elif word.islower() or word.isupper():
                continue
        words.append(view[max(begin - _MARGIN, 0) : end + _MARGIN])
    return b" ".join(words), spans


def drop_overlaps(candidates: set[Span]) -> list[Span]:
    """The spans in order; a span that begins inside an earlier one is dropped."""
    spans: list[Span] = []
    for span in sorted(candidates, key=lambda span: (span[0], -span[1])):
        if not spans or span[0] >= spans[-1][1]:
            spans.append(span)
    return spans


def mask(text: str, spans: list[Span], mask_value: Callable[[str], str]) -> str:
    """The text with each span replaced by its mask, of equal length in characters and in UTF-8 bytes.

    `mask_value` makes the mask of a value, of equal length in characters.
    """
    pieces, end = [], 0
    for begin, stop in spans:
        value = text[begin:stop]
        pieces += [
            text[end:begin],
            mask_value(value) if value.isascii() else _match_byte_lengths(value, mask_value(value)),
        ]
        end = stop
    return "".join([*pieces, text[end:]])


def _match_byte_lengths(value: str, masked: str) -> str:
    """The mask, with each masked character as long in UTF-8 as the character that it replaces."""
    return "".join(
        new if new == old else _MASKS.get(len(old.encode("utf-8", "surrogatepass")), new)
        for old, new in zip(value, masked, strict=True)
    )
