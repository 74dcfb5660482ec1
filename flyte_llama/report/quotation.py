"""Text of others, such as names of repositories, models and licences, as Markdown that shows it and nothing else.

    quote_name(text)   a name in a table or a sentence: words as they are, anything else as code
    quote_code(text)   the same, always as code
    quote_text(text)   a sentence, a title or a column, which may hold such a name

Each is one line: what cannot be seen is shown as an escape. Pages need none of them: their templates escape every text.

The Hub renders HTML, links and formulas in Markdown, so a name could put a picture or a link into a model card. As
code, every reader of Markdown shows a text as it is. Only a table splits code too, at `|`, so that stands as a
reference (`&#124;`) between two pieces of code.
"""

from __future__ import annotations

import re

from flyte_llama.redaction import escape_line

# Words and figures with which no markup begins: `fine-tuned`, `not fresh`, `256 bytes to 1 KiB`, `Apache-2.0`.
_WORDS = re.compile(r"(?:[^\W_]|[ ,%()+-]|(?<=\d)\.(?=\d))*")
# With `]`, a link or the definition of one; an underscore within a word, as in `probe_bytes`, is none.
_MARKUP = re.compile(r"[#$&*<>\\^`{|}~]|(?<![^\W_])_|_(?![^\W_])|\](?=[\[(:])")
# What many readers make a link without any markup, even where it is written as references; but not `pass@1`.
_LINK = re.compile(r"((?:://|\bwww(?=\.)|@(?!\d))+)", re.IGNORECASE)
_BACKTICKS = re.compile("`+")


class Markdown(str):
    """Text that is Markdown already, which templates leave as it is."""

    __slots__ = ()


def quote_name(text: str) -> Markdown:
    """Return a name as Markdown: as it is if it consists of words and figures alone, otherwise as code."""
    return Markdown(text) if _WORDS.fullmatch(text) else quote_code(text)


def quote_code(text: str) -> Markdown:
    """Return a name as code, for any place in a line. An empty text stays empty."""
    return Markdown("&#124;".join(_make_span(piece) for piece in escape_line(text).split("|")))


def quote_text(text: str) -> Markdown:
    """Return a sentence as Markdown: what could begin markup as numeric references, what makes a link as code."""
    pieces = _LINK.split(_MARKUP.sub(lambda match: f"&#{ord(match[0])};", escape_line(text)))
    return Markdown("".join(f"`{piece}`" if index % 2 else piece for index, piece in enumerate(pieces)))


def _make_span(text: str) -> str:
    """Return a code span, fenced by more backticks than the text has in a row."""
    if not text:
        return ""
    fence = "`" * (1 + max(map(len, _BACKTICKS.findall(text)), default=0))
    # A reader drops one blank on each side if there are two.
    padding = " " * (text[0] == "`" or text[-1] == "`" or (text[0] == text[-1] == " " and not text.isspace()))
    return f"{fence}{padding}{text}{padding}{fence}"
