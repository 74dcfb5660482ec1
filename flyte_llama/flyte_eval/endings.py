"""Written code → where the body, definition or part ends that the model was asked for.

A body or definition ends at the first line that no longer belongs to it. A line inside brackets or a triple-quoted
string continues the line before it, however it is indented:

        return f(       the body of a function: an indented line
    1)                  continues that line, for its bracket is open
    x = 1               no longer belongs to the body: the answer is cut before this line

Of a part, a statement or decorator ends with its line, an argument at the comma or bracket after it, and a type also at
the colon, the equals sign or the end of its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from flyte_llama.flyte_eval.masking import BODY
from flyte_llama.flyte_eval.parts import ARGUMENT, DECORATOR, STATEMENT, TYPE

# A comment, the opening of a triple-quoted string, a single-quoted string, a bracket, a backslash at a line's end,
# and the word before the parameters of a lambda.
_TOKEN = re.compile(
    r"#[^\n]*|(?P<open>\"\"\"|''')|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|(?P<in>[(\[{])|(?P<out>[)\]}])"
    r"|(?P<on>\\\r?\n)|(?P<lambda>\blambda\b)"
)
_CLOSING = {quotes: re.compile(rf"(?:\\.|[^\\])*?{quotes}", re.DOTALL) for quotes in ('"""', "'''")}


def find_end(tier: str, text: str) -> int | None:
    """The first character after the answer to an item of this tier, or None if the answer has not ended yet."""
    return _ENDS.get(tier, end_of_definition)(text)


def end_of_body(text: str) -> int | None:
    """The first character of the first code line that is not indented, or None if the body has not ended yet."""
    for start, line in _logical_lines(text):
        if start and line[0] not in " \t#\n\r)]}":
            return start
    return None


def end_of_definition(text: str) -> int | None:
    """The first character of the second top-level statement, or None if there is only one so far.

    Decorators and comments belong to the `def` below them.
    """
    begun = False
    for start, line in _logical_lines(text):
        if line[0] in " \t#\n\r)]}":
            continue
        if begun:
            return start
        begun = not line.startswith("@")
    return None


def end_of_statement(text: str) -> int | None:
    """The first character of the line after the first one with code, or None if there is none so far."""
    begun = False
    for start, line in _logical_lines(text):
        if begun:
            return start
        begun = bool(line.strip()) and not line.lstrip().startswith("#")
    return None


def end_of_argument(text: str, signs: str = ",)]}") -> int | None:
    """The first of these characters outside the brackets, texts and lambdas that the argument itself opens, or None."""
    depth = position = lambdas = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        # the commas, equals signs and colon of a lambda's parameters are its own
        if not depth and text[position] in (")]}" if lambdas else signs):
            return position
        if not depth and text[position] == ":":
            lambdas = max(0, lambdas - 1)
        if token and token["open"]:
            closing = _CLOSING[token["open"]].match(text, token.end())
            position = closing.end() if closing else len(text)
            continue
        if token:
            depth += bool(token["in"]) - bool(token["out"])
            lambdas += bool(token["lambda"]) and not depth
        position = token.end() if token else position + 1
    return None


def end_of_type(text: str) -> int | None:
    """The same for a type: also the equals sign of a default, the colon of the `def`, and the end of a line."""
    return end_of_argument(text, ",)]}=:\n")


_ENDS: dict[str, Callable[[str], int | None]] = {
    BODY: end_of_body,
    STATEMENT: end_of_statement,
    DECORATOR: end_of_statement,
    ARGUMENT: end_of_argument,
    TYPE: end_of_type,
}
"""Tier → what finds the end of an answer; a whole definition has its own."""


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Start and text of each line, joined with the lines that continue it; the last one may be incomplete."""
    start = depth = 0
    position = 0
    while start < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end + 1
        inside = ""
        while position < end:
            token = _TOKEN.search(text, position, end)
            if not token:
                position = end
                break
            position = token.end()
            if token["in"]:
                depth += 1
            elif token["out"]:
                depth = max(0, depth - 1)
            elif token["on"]:
                end = text.find("\n", position) + 1 or len(text)
            elif token["open"]:
                closing = _CLOSING[token["open"]].match(text, position)
                if not closing:
                    inside, position = token["open"], len(text)
                    break
                position = closing.end()
                end = max(end, text.find("\n", position) + 1 or len(text))
        if not depth or inside:
            yield start, text[start:end]
            start = position
        elif position >= len(text):
            yield start, text[start:]
            return
