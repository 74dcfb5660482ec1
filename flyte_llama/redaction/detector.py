"""A detector for one kind of secret: how it searches, whether a match can be real, and how a value is masked.

Regular expressions over whole files are too slow for a corpus. So the bytes are searched for a literal, which C does at
over 1 GB/s, and the expression is matched only where the literal occurs:

    text        key := "ghp_…"
    literals            ghp_                 searched for in the text as Latin-1, where offsets are the same
    pattern             ghp_(?P<value>…)     matched from there on, or from `before` characters earlier
    is_real             …                    tests whether the value is random enough, and not a placeholder

Whether a token's literal occurs at all is first looked up in the long words of the text alone: a token has at least 20
letters or digits in a row, and only a tenth of source text is in words of that length.

The mask, a row of x, is a placeholder too, which makes redaction idempotent. The detectors themselves are in `tokens`,
`credentials` and `commands`.
"""

from __future__ import annotations

import itertools
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
_DIGITS = b"0123456789"
# Byte → `t` if a token may contain it, else a blank: a long word then is a run of `t`, which `bytes.find` finds.
_CLASSES = bytes(
    ord("t") if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "_-") else ord(" ") for byte in range(256)
)
_LONG_WORD = b"t" * _LONG
_ALPHANUMERIC = bytes(byte if chr(byte).isascii() and chr(byte).isalnum() else ord(" ") for byte in range(256))
_ESCAPE = re.compile(rb"\\[nrt]")
_FOLDED = bytes(range(256)).lower().replace(b"-", b"_")
_MASKED = MASK * 4
_SAMPLE = re.compile(r"example|your|placeholder|redacted|change_?me|xxxx|\*\*\*|\.\.\.", re.IGNORECASE)
# A value to be filled in, in the notation of shells, templates, format strings and prose.
_FILLED_IN = re.compile(r"\$\{|\{\{|\}\}|\$\(|^[$<{\[(]|[>}\])]$|%[svd(]")
_STOCK_WORDS = """
    a abc access admin an api auth bar baz change changeme db default dummy example fake flyte foo guest here hidden
    key keys me minio mongo my mysql name none null or pass passwd password placeholder postgres postgresql pw pwd
    qwerty rabbit redacted redis removed root sample secret secrets some string test testing the token tokens user
    username value x xyz y your z
"""
# Longest word first, with a possessive `++`, so that no value makes the expression backtrack. Up to three digits may
# follow, as in foo123.
_STOCK = re.compile(
    rf"(?:{'|'.join(sorted(_STOCK_WORDS.split(), key=len, reverse=True))}|[\W_]|(?<!\d)\d{{1,3}}(?!\d))++",
    re.IGNORECASE,
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_WORDS = re.compile(r"(?:[A-Z]?[a-z]*|[A-Z]+)\d{0,4}")
_MIN_DISTINCT = 8


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

    def find(self, text: str, view: bytes, *, strict: bool = False) -> list[Span]:
        """The spans of the secrets in the text, in order and without overlaps.

        Args:
            view: The text's view (`latin1_view`), folded if the literals are.
            strict: Whether a positional match also counts if its value looks like a placeholder.
        """
        spans = set[Span]()
        for literal in self.literals:
            at = view.find(literal)
            while at >= 0:
                match = self.pattern.match(text, at - self.before) if at >= self.before else None
                if match and ((strict and self.positional) or self.is_real(match)):
                    spans.add(match.span("value"))
                at = view.find(literal, at + len(literal))
        return drop_overlaps(spans)


class DetectorTable:
    """Detectors, and the choice of those worth running. A literal that several share is searched for once.

    `gate` below must contain the literal of every possible match; it may be shorter than the text.
    """

    def __init__(self, *detectors: Detector) -> None:
        self._detectors = detectors
        self._literals: dict[bytes, list[int]] = {}
        self._heads: dict[bytes, list[int]] = {}
        self._inside: dict[bytes, list[int]] = {}
        for index, detector in enumerate(detectors):
            for literal in detector.literals:
                self._literals.setdefault(literal, []).append(index)
                if detector.before and literal.isalnum():
                    self._inside.setdefault(literal, []).append(index)
                else:
                    head = (literal.translate(_ALPHANUMERIC).split() or [literal])[0][:3]
                    self._heads.setdefault(head, []).append(index)

    def __iter__(self) -> Iterator[Detector]:
        return iter(self._detectors)

    def select(self, gate: bytes) -> list[Detector]:
        """The detectors with a literal in `gate`, in the table's order."""
        return self._ordered(indices for literal, indices in self._literals.items() if literal in gate)

    def select_by_head(self, gate: bytes) -> list[Detector]:
        """The same, and perhaps more of them, for literals that begin where a word of letters and digits begins.

        Looks up the first characters of each word of `gate`, which for a hundred literals is many times faster.
        """
        words = set(_ESCAPE.sub(b"  ", gate).translate(_ALPHANUMERIC).split())
        heads = {word[:3] for word in words} | {word[:2] for word in words}
        inside = [indices for literal, indices in self._inside.items() if literal in gate]
        return self._ordered([*inside, *(self._heads[head] for head in heads & self._heads.keys())])

    def _ordered(self, selected: Iterable[list[int]]) -> list[Detector]:
        return [self._detectors[index] for index in sorted({index for indices in selected for index in indices})]


def latin1_view(text: str) -> bytes:
    """The text as Latin-1, one byte a character, so that offsets agree; other characters become `?`."""
    return text.encode("latin-1", "replace")


def fold(view: bytes) -> bytes:
    """The view in lower case and with `_` for `-`, so that `Api-Key` and `API_KEY` become equal."""
    return view.translate(_FOLDED)


def long_words(view: bytes) -> bytes:
    """The words of 20 or more characters that hold a digit or a capital, each with the characters next to it.

    Some prefixes end in a dot or a colon, and are thus next to the word.
    """
    classes = view.translate(_CLASSES) + b" "
    words, end = [], 0
    while (begin := classes.find(_LONG_WORD, end)) >= 0:
        end = classes.find(b" ", begin + _LONG)
        word = view[begin:end]
        if word.lower() != word or word.translate(None, _DIGITS) != word:
            words.append(view[max(begin - _MARGIN, 0) : end + _MARGIN])
    return b" ".join(words)


def value_is(*checks: Callable[[str], bool]) -> Callable[[re.Match[str]], bool]:
    """Return a test of a match that passes if its value passes all checks."""
    return lambda match: all(check(match["value"]) for check in checks)


def is_token(value: str) -> bool:
    """Whether the part of a token after its provider's prefix can be real.

    It cannot if it has few distinct characters, holds neither digits nor capitals, or is marked as a sample.
    """
    is_words = value == value.lower() and not any(char.isdigit() for char in value)
    return len(set(value)) >= _MIN_DISTINCT and not is_words and _SAMPLE.search(value) is None


def is_password(value: str) -> bool:
    """Whether a value in a password's position, as in a URL, can be real: not a template, not made of stock words."""
    is_filled_in = _FILLED_IN.search(value) is not None
    return not is_filled_in and _MASKED not in value and _STOCK.fullmatch(value) is None


def is_random(value: str) -> bool:
    """Whether a value of any kind looks randomly generated, and not like a name, a path, a UUID or words.

    In random text the class of character (lower case, upper case, digit, other) changes after two of three characters
    in base64 and after two of five in hex. In names, CamelCase included, it changes after one of three at most.
    """
    if len(set(value)) < _MIN_DISTINCT or _FILLED_IN.search(value) or _SAMPLE.search(value) or "://" in value:
        return False
    if _UUID.fullmatch(value) or all(_WORDS.fullmatch(word) for word in re.split(r"[^A-Za-z0-9]+", value)):
        return False
    classes = [_class_of(char) for char in value]
    kinds = len(set(classes))
    if kinds < 2 or "digit" not in classes or (kinds == 2 and len(value) < 20):
        return False
    changes = sum(current != following for current, following in itertools.pairwise(classes))
    return changes >= (0.25 if kinds == 2 else 0.4) * (len(value) - 1)


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


def _class_of(char: str) -> str:
    if char.isdigit():
        return "digit"
    if char.isalpha():
        return "upper" if char.isupper() else "lower"
    return "other"
