"""Code as pieces to colour: by its syntax, and by what differs from another text.

The pieces of a text joined are the text, whatever the text is; a template escapes each of them.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

_WORDS = re.compile(r"\w+|\s+|[^\w\s]")
_MOST_WORDS = 400
"""Words of a text that is compared; the time grows with their cube if they repeat."""

# Prefix of the name of Pygments's token type → class of the page's style. The first one that fits counts.
_CLASSES = {
    "Token.Comment": "c",
    "Token.Literal.String": "s",
    "Token.Literal.Number": "n",
    "Token.Keyword": "k",
    "Token.Operator.Word": "k",
    "Token.Name.Function": "f",
    "Token.Name.Class": "f",
    "Token.Name.Decorator": "f",
    "Token.Name.Builtin": "f",
    "Token.Name.Tag": "f",
    "Token.Generic.Heading": "k",
    "Token.Generic.Subheading": "k",
}
# Our language → Pygments's, where the names differ.
_LEXERS = {"notebook": "python", "go-mod": "go", "starlark": "python", "assembly": "nasm", "visual-basic": "vb.net"}


class Piece(NamedTuple):
    """A run of characters of one look."""

    text: str
    classes: str
    """Classes of the page's style, separated by blanks; empty for plain text."""


def highlight(text: str, language: str, different: Sequence[bool] = ()) -> list[Piece]:
    """Return the text as pieces.

    Args:
        language: As documents name it. One that Pygments does not know leaves the text plain.
        different: One for each character: whether it is marked as `diff`; empty marks none.
    """
    looks = _syntax(text, language)
    marks = different or [False] * len(text)
    runs = itertools.groupby(zip(text, looks, marks, strict=True), key=lambda character: character[1:])
    return [
        Piece("".join(character[0] for character in run), " ".join(filter(None, (look, "diff" * is_marked))))
        for (look, is_marked), run in runs
    ]


def find_differences(wanted: str, written: str) -> tuple[list[bool], list[bool]]:
    """Compare two whole texts word by word; return for each character of both whether the other text lacks its word.

    Blanks never count, nor do they at the end, where completions are compared without them. Both lists are empty if a
    text is too long to compare.
    """
    words = [_WORDS.findall(text) for text in (wanted, written)]
    if max(map(len, words)) > _MOST_WORDS:
        return [], []
    matcher = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False)
    marks: tuple[list[bool], list[bool]] = ([], [])
    for operation, first, last, other_first, other_last in matcher.get_opcodes():
        for side, (begin, end) in enumerate(((first, last), (other_first, other_last))):
            for word in words[side][begin:end]:
                marks[side].extend([operation != "equal" and not word.isspace()] * len(word))
    return marks


def _syntax(text: str, language: str) -> list[str]:
    """Return the class of each character by the syntax of the language."""
    looks = [""] * len(text)
    lexer = _lexer(language)
    if lexer is not None:
        # Not `get_tokens`, which changes the text: it strips blank lines and converts line ends.
        for index, kind, value in lexer.get_tokens_unprocessed(text):
            name = str(kind)
            look = next((look for prefix, look in _CLASSES.items() if name.startswith(prefix)), "")
            looks[index : index + len(value)] = [look] * len(value)
    return looks


@functools.cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(_LEXERS.get(language, language))
    except ClassNotFound:
        return None
