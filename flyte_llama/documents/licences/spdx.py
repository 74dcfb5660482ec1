"""SPDX licence expressions: read from a tag or a licence's name, and checked against an allow-list.

The output is an expression of SPDX ids, or "" if the input is none. This module does not read licence texts, which is
up to `texts`, nor notices in words, which is up to `words`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

# The tag, also as people misspell it: in any case, SPDX-Licence-Identifier, a blank before the colon.
_TAG = re.compile(r"\bSPDX[-_ ]Licen[cs]e[-_ ]Identifi?er[ \t]*[:=][ \t]*([^\n]+)", re.IGNORECASE)
# What ends a comment on the tag's line, and what surrounds the licence.
_AFTER_TAG = re.compile(r"\s*(?:\*+/|-->|--+\]*$|--%?>|#\}|%>|\*\)|-\}|\"\"\"|'''|\?>|#>|\\n).*$")
_PLACEHOLDER = re.compile(r"[\s\"'`]*(?:[{$]|%[sdv]\b)")
_LIMIT = re.compile(
    r"(?i)commercial|\b(?:only|except|but|not?|non|internal|clause|proprietary|confidential|with|and|plus)\b"
)
_QUOTES = " \t\r\"'`<>*#;,.|%!=~\\-"
_MAX_EXPRESSION_CHARS = 300

# Spelling → SPDX id. `_NOISE` is removed from a name before it is looked up here.
_SPELLINGS = {
    "apache": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache20": "Apache-2.0",
    "apache200": "Apache-2.0",
    "al2": "Apache-2.0",
    "al20": "Apache-2.0",
    "asl2": "Apache-2.0",
    "asl20": "Apache-2.0",
    "mit": "MIT",
    "expat": "MIT",
    "mitx11": "MIT",
    "mitexpat": "MIT",
    "mitstyle": "MIT",
    "mitopensource": "MIT",
    "mit0": "MIT-0",
    "mitnoattribution": "MIT-0",
    # The name alone does not say which BSD licence: of the two in use, this one asks for more.
    "bsd": "BSD-3-Clause",
    "newbsd": "BSD-3-Clause",
    "revisedbsd": "BSD-3-Clause",
    "modifiedbsd": "BSD-3-Clause",
    "bsd3": "BSD-3-Clause",
    "bsd3clause": "BSD-3-Clause",
    "bsd3clauses": "BSD-3-Clause",
    "bsdthreeclause": "BSD-3-Clause",
    "threeclausebsd": "BSD-3-Clause",
    "3bsd": "BSD-3-Clause",
    "bsdstyle": "BSD-3-Clause",
    "3clausebsd": "BSD-3-Clause",
    "bsd2": "BSD-2-Clause",
    "bsd2clause": "BSD-2-Clause",
    "bsd2clauses": "BSD-2-Clause",
    "bsdtwoclause": "BSD-2-Clause",
    "twoclausebsd": "BSD-2-Clause",
    "2clausebsd": "BSD-2-Clause",
    "simplifiedbsd": "BSD-2-Clause",
    "freebsd": "BSD-2-Clause",
    "isc": "ISC",
    "zlib": "Zlib",
    "zliblibpng": "Zlib",
    "boost": "BSL-1.0",
    "boost1": "BSL-1.0",
    "boost10": "BSL-1.0",
    "unlicense": "Unlicense",
    "cc010universal": "CC0-1.0",
    "cc0": "CC0-1.0",
    "psf": "PSF-2.0",
    "psf2": "PSF-2.0",
    "pythonfoundation": "PSF-2.0",
    "python": "PSF-2.0",
    "mpl2": "MPL-2.0",
    "mpl20": "MPL-2.0",
    "mozillapublic20": "MPL-2.0",
    "eclipsepublic20": "EPL-2.0",
    "eclipsepublic10": "EPL-1.0",
    "epl1": "EPL-1.0",
    "epl10": "EPL-1.0",
    "epl2": "EPL-2.0",
    "epl20": "EPL-2.0",
    "gpl2": "GPL-2.0-only",
    "gpl20": "GPL-2.0-only",
    "gpl2+": "GPL-2.0-or-later",
    "gpl20+": "GPL-2.0-or-later",
    "gpl3": "GPL-3.0-only",
    "gpl30": "GPL-3.0-only",
    "gpl3+": "GPL-3.0-or-later",
    "gpl30+": "GPL-3.0-or-later",
    "lgpl21": "LGPL-2.1-only",
    "lgpl21+": "LGPL-2.1-or-later",
    "lgpl3": "LGPL-3.0-only",
    "lgpl3+": "LGPL-3.0-or-later",
    "agpl3": "AGPL-3.0-only",
    "agpl3+": "AGPL-3.0-or-later",
    "gnugeneralpublic2": "GPL-2.0-only",
    "gnugeneralpublic2orlater": "GPL-2.0-or-later",
    "gnugeneralpublic3": "GPL-3.0-only",
    "gnugeneralpublic3orlater": "GPL-3.0-or-later",
    "gnulesserorgeneralpublic21": "LGPL-2.1-only",
    "gnulessergeneralpublic3": "LGPL-3.0-only",
    "gnulessergeneralpublic3orlater": "LGPL-3.0-or-later",
    "gnuafferogeneralpublic3": "AGPL-3.0-only",
    "gnuafferogeneralpublic3orlater": "AGPL-3.0-or-later",
}
_NOISE = re.compile(
    r"\((?:see [^)]*|[\w.+-]{1,12}(?: v?[\d.]+\+?)?(?: licen[cs]e)?)\)|"
    r"\b(the|license|licence|software|version|osi|approved)\b|v(?=\d)|[^a-z0-9+(]"
)


def tags_of(text: str) -> list[str]:
    """Return what the `SPDX-License-Identifier:` tags of a text name, as written; a tag without a value is none.

    Neither is one with a placeholder for the value, as code has that writes tags.
    """
    if "spdx" not in text.lower():
        return []
    values = [value for value in _TAG.findall(text) if not _PLACEHOLDER.match(value)]
    tags = [_AFTER_TAG.sub("", value).strip(_QUOTES)[:_MAX_EXPRESSION_CHARS] for value in values]
    return sorted({tag for tag in tags if re.search(r"\w", tag)})


def tag_spdx(tag: str) -> str:
    """Return the expression that a tag means, also in common misspellings such as `Apache 2.0`; "" for others."""
    if spdx := name_spdx(tag):
        return spdx
    # MIT/Apache-2.0, as Rust's packages once wrote it
    sides = re.split(r"\s*(?:/|\|\|?)\s*|\s+or\s+", tag, flags=re.IGNORECASE)
    if len(sides) > 1 and "(" not in tag:
        spdx_of_sides = [name_spdx(side) for side in sides]
        return " OR ".join(spdx_of_sides) if all(spdx_of_sides) else ""
    # Apache-2.0 (see LICENSE), or MIT, Copyright Acme
    name, *rest = re.split(
        r"([,;()|\u2013\u2014]|\.\s|\s-+\s|\s(?:see|copyright)\b)", tag, maxsplit=1, flags=re.IGNORECASE
    )
    return "" if _LIMIT.search("".join(rest)) else name_spdx(name)


def join_spdx(expressions: Iterable[str]) -> str:
    """Return the expression that holds if all of the expressions do."""
    distinct = sorted(set(expressions))
    return (
        distinct[0] if len(distinct) == 1 else " AND ".join(f"({spdx})" if " " in spdx else spdx for spdx in distinct)
    )


def is_permissive(spdx: str, allowed: Collection[str]) -> bool:
    """Whether an SPDX expression can be met with the `allowed` ids alone; False for "" or an invalid expression.

    One side of an OR is enough; an AND needs both sides. An exception (`WITH`) or a later version (`+`) only adds
    rights, so both are ignored.
    """
    expression = canonical_spdx(spdx)
    if not expression:
        return False
    permitted = {licence.casefold() for licence in allowed}
    without_exceptions = re.sub(r" WITH \S*[^\s)]", "", expression)
    return _meets_or(deque(re.findall(r"[()]|[^\s()]+", without_exceptions)), permitted)


def canonical_spdx(stated: str) -> str:
    """Return the expression in SPDX's canonical spelling; "" if it is not an expression of SPDX ids."""
    if len(stated) > _MAX_EXPRESSION_CHARS:
        return ""
    try:
        return canonicalize_license_expression(stated)
    except InvalidLicenseExpression:
        return ""


def name_spdx(name: str) -> str:
    """Return the SPDX expression of an expression or a well-known name such as `The MIT License`; "" for others."""
    name = name.strip()
    return canonical_spdx(name) or _SPELLINGS.get(_NOISE.sub("", name.lower()[:_MAX_EXPRESSION_CHARS]), "")


# A parser by recursive descent of the grammar below, where AND binds more tightly than OR. Each function takes its part
# off the front of the tokens of a valid expression, and returns whether the permitted ids, in lower case, meet it.
#
#     or   = and {"OR" and}
#     and  = term {"AND" term}
#     term = "(" or ")" | id


def _meets_or(tokens: deque[str], permitted: Collection[str]) -> bool:
    is_met = _meets_and(tokens, permitted)
    while tokens and tokens[0] == "OR":
        tokens.popleft()
        # Parse first: the right side must be taken off even if the left side is met.
        is_met = _meets_and(tokens, permitted) or is_met
    return is_met


def _meets_and(tokens: deque[str], permitted: Collection[str]) -> bool:
    is_met = _meets_term(tokens, permitted)
    while tokens and tokens[0] == "AND":
        tokens.popleft()
        is_met = _meets_term(tokens, permitted) and is_met
    return is_met


def _meets_term(tokens: deque[str], permitted: Collection[str]) -> bool:
    word = tokens.popleft()
    if word != "(":
        return word.removesuffix("+").casefold() in permitted
    is_met = _meets_or(tokens, permitted)
    # the closing parenthesis
    tokens.popleft()
    return is_met
