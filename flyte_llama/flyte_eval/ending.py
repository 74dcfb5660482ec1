"""Where a body, or a definition, ends in what a model writes on and on: at the first line that is none of it any more.

Lines inside brackets and inside strings of three quotes belong to what began before them, however they are indented.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# A comment, a string of three quotes that ends or does not, one of one quote, a bracket, a line that goes on.
_TOKEN = re.compile(
    r"#[^\n]*|(?P<open>\"\"\"|''')|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|(?P<in>[(\[{])|(?P<out>[)\]}])"
    r"|(?P<on>\\\r?\n)"
)
_CLOSING = {quotes: re.compile(rf"(?:\\.|[^\\])*?{quotes}", re.DOTALL) for quotes in ('"""', "'''")}


def end_of_body(text: str) -> int | None:
    """The character at which the first line stands that is not indented; None if there is none."""
    for start, line in _logical_lines(text):
        if start and line[0] not in " \t#\n\r)]}":
            return start
    return None


def end_of_definition(text: str) -> int | None:
    """The character at which the second statement of the top level begins; None if there is none.

    Decorators and the `def` below them are one, and so are comments before it.
    """
    begun = False
    for start, line in _logical_lines(text):
        if line[0] in " \t#\n\r)]}":
            continue
        if begun:
            return start
        begun = not line.startswith("@")
    return None


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Start and text of each line that is not inside brackets or a string and that has an end or a first character."""
    start = depth = 0
    place = 0
    while start < len(text):
        end = text.find("\n", place)
        end = len(text) if end < 0 else end + 1
        inside = ""
        while place < end:
            found = _TOKEN.search(text, place, end)
            if not found:
                place = end
                break
            place = found.end()
            if found["in"]:
                depth += 1
            elif found["out"]:
                depth = max(0, depth - 1)
            elif found["on"]:
                end = text.find("\n", place) + 1 or len(text)
            elif found["open"]:
                closing = _CLOSING[found["open"]].match(text, place)
                if not closing:
                    inside, place = found["open"], len(text)
                    break
                place = closing.end()
                end = max(end, text.find("\n", place) + 1 or len(text))
        if not depth or inside:
            yield start, text[start:end]
            start = place
        elif place >= len(text):
            yield start, text[start:]
            return
