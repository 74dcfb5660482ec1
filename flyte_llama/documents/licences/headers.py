"""The header of a file → the licence that it states.

The header is all that stands before the first code: comments, and lines that usually come before them, such as a
shebang, `package x;`, `<?php` or an include guard. In prose it is the comments at the top, never the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from flyte_llama.documents.licences.spdx import join_spdx, name_spdx, tag_spdx, tags_of
from flyte_llama.documents.licences.statement import Statement, unrecognised
from flyte_llama.documents.licences.words import COMMENT_END, speaks_of_rights, words_statement

_HEADER_LINES = 100
_TAG_LINES = 30
"""A tag counts here even after the first code, if a comment begins with it."""
_AT_START = re.compile(r"^[ \t]*(?:[^\w\s\"'`]+|@?rem\b|dnl\b)?[ \t]*SPDX[-_ ]", re.IGNORECASE)
_MAX_HEADER_CHARS = 10_000
# The patterns of one comment. Several lines with a marker each are one comment, up to an empty line.
_LINE_MARKER = r"(?://|\#|--|;|%|!|'|\"|\.\\\"|@?rem\b|@echo\b|dnl\b|::)"
_COMMENTS = [
    r"/\*.*?(?:\*/|\Z)",
    r"<!--.*?(?:-->|\Z)",
    r"\{\{-?\s*/\*.*?\*/\s*-?\}\}|\{\#.*?\#\}|\{\{!.*?\}\}|\{%.*?%\}|<%.*?%>|@\*.*?\*@",
]
_CODE = [
    r"[rub]?(?:\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z))",
    r"--\[(?P<eq>=*)\[.*?\](?P=eq)\]|\(\*.*?\*\)|\{-.*?-\}|<\#.*?\#>|\#\|.*?\|\#|^=(?:begin|pod|"
    r"head)\b.*?^=(?:end|cut)\b",
    rf"{_LINE_MARKER}[^\n]*(?:\n[ \t]*{_LINE_MARKER}[^\n]*)*+",
    # What usually comes before the header's comment.
    r"<\?[^\n]*?(?:\?>|$)|<!doctype[^>]*>|<(?:html|head|template|script|svg)\b[^>]*>|package\s+[\w.]+\s*;?|"
    r"from __future__ import [^\n]+|pragma solidity[^\n]*|---+[ \t]*$|\*+[ \t]*$|use strict;|(?:option|"
    r"on error) [^\n]+",
]
_PROSE = [
    # reStructuredText's comments, with the lines indented under them; Markdown's, AsciiDoc's, MDX's and MyST's.
    r"\.\.(?:[ \t][^\n]*)?(?:\n(?:[ \t]+[^\n]*|[ \t]*(?=\n[ \t]+\S)))*",
    r"\[[^\]\n]*\]:[ \t]*(?:\#|<>)[^\n]*|////+\n.*?\n////+|//[^\n]*(?:\n//[^\n]*)*+|\{/\*.*?\*/\}|%[^\n]*|"
    r"---\n.*?\n---[ \t]*$",
]
_FLAGS = re.DOTALL | re.IGNORECASE | re.MULTILINE


def _comment_pattern(comments: list[str]) -> re.Pattern[str]:
    """Return the pattern of the blanks and the comment at some place; the comment is its group of that name."""
    alternatives = "|".join(f"(?:{comment})" for comment in comments)
    return re.compile(rf"\s*+(?P<comment>{alternatives})", _FLAGS)


_CODE_COMMENT, _PROSE_COMMENT = _comment_pattern([*_COMMENTS, *_CODE]), _comment_pattern([*_COMMENTS, *_PROSE])


def header_statement(text: str, *, of_prose: bool = False) -> Statement:
    """Return the licence that a file states in its first lines, by `SPDX-License-Identifier:` tags or in words.

    Several tags all hold. A tag names the licence, and words that name it again add nothing; a licence that only the
    words name holds too. A tag that is not an expression is not recognised, like words that withhold rights.
    """
    head = text[:_MAX_HEADER_CHARS]
    lines = head.split("\n", _HEADER_LINES)[:_HEADER_LINES]
    head = "\n".join(lines)
    comments = list(_comments_of(head, _PROSE_COMMENT if of_prose else _CODE_COMMENT))
    tags = tags_of("\n".join([*filter(_AT_START.match, lines[:_TAG_LINES]), *comments]))
    # Documentation of the code follows the notice in a comment of its own.
    words = words_statement(COMMENT_END.join(comment for comment in comments if speaks_of_rights(comment)))
    if not tags:
        return words
    spdx = [_spelt_out(tag_spdx(tag), words.spdx) for tag in tags]
    if not all(spdx):
        return unrecognised(next(tag for tag, expression in zip(tags, spdx, strict=True) if not expression))
    stated = join_spdx(spdx)
    if words.unknown:
        return words
    new = [part for part in re.findall(r"[^\s()]+", words.spdx) if part not in ("AND", "OR", "WITH")]
    families = {family_of(part) for part in re.findall(r"[^\s()]+", stated)}
    return Statement(join_spdx([stated, *(part for part in new if family_of(part) not in families)]))


def _spelt_out(spdx: str, stated: str) -> str:
    """Return the expression with `LicenseRef-Apache2` as Apache-2.0, if the notice states that licence in words."""
    refs = {ref: name_spdx(ref.removeprefix("LicenseRef-")) for ref in re.findall(r"LicenseRef-[\w.-]+", spdx)}
    for ref, name in refs.items():
        if name and name in re.findall(r"[^\s()]+", stated):
            spdx = spdx.replace(ref, name)
    return spdx


def _comments_of(head: str, comment: re.Pattern[str]) -> Iterator[str]:
    """Yield the comments before the first code."""
    end = 0
    while match := comment.match(head, end):
        yield match["comment"]
        end = match.end()


def family_of(spdx: str) -> str:
    """Return the part of an id that its versions share: `GPL` of `GPL-2.0-only`, and of a notice without a version."""
    family = spdx.removeprefix("LicenseRef-").split("-")[0].upper()
    return {"GNU": "GPL", "AGPL": "GPL", "LGPL": "GPL", "0BSD": "BSD"}.get(family, family)
