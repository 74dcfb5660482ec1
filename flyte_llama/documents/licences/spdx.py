"""SPDX licence expressions: read from a file's header or a licence's name, and checked against an allow-list.

The input is a header, a name or an expression; the output is an expression of SPDX ids, or "" if it contains none.
This module does not read licence texts: that is `texts`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+()\- \t]+)")
# The notice that the Free Software Foundation asks authors to put at the head of each file. The words "or any later
# version" may or may not follow it.
_GNU_NOTICE = re.compile(
    r"\bGNU\W{1,9}(?:(?:Lesser|Library|Affero)\W{1,9})?General\W{1,9}Public\W{1,9}License", re.IGNORECASE
)
GNU_NOTICE = "LicenseRef-GNU-notice"
_HEADER_LINES = 30
_MAX_HEADER_CHARS = 10_000
_MAX_EXPRESSION_CHARS = 300

# Spelling → SPDX id. `_NOISE` is removed from a name before it is looked up here.
_SPELLINGS = {
    "apache": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache20": "Apache-2.0",
    "asl20": "Apache-2.0",
    "mit": "MIT",
    "expat": "MIT",
    "mit0": "MIT-0",
    "mitnoattribution": "MIT-0",
    # The name alone does not say which BSD licence: of the two in use, this one asks for more.
    "bsd": "BSD-3-Clause",
    "newbsd": "BSD-3-Clause",
    "revisedbsd": "BSD-3-Clause",
    "modifiedbsd": "BSD-3-Clause",
    "bsd3": "BSD-3-Clause",
    "bsd3clause": "BSD-3-Clause",
    "3clausebsd": "BSD-3-Clause",
    "bsd2": "BSD-2-Clause",
    "bsd2clause": "BSD-2-Clause",
    "2clausebsd": "BSD-2-Clause",
    "simplifiedbsd": "BSD-2-Clause",
    "freebsd": "BSD-2-Clause",
    "isc": "ISC",
    "zlib": "Zlib",
    "zliblibpng": "Zlib",
    "boost10": "BSL-1.0",
    "unlicense": "Unlicense",
    "cc010universal": "CC0-1.0",
    "cc0": "CC0-1.0",
    "psf": "PSF-2.0",
    "psf2": "PSF-2.0",
    "pythonfoundation": "PSF-2.0",
    "mpl2": "MPL-2.0",
    "mpl20": "MPL-2.0",
    "mozillapublic20": "MPL-2.0",
    "eclipsepublic20": "EPL-2.0",
    "gpl2": "GPL-2.0-only",
    "gpl3": "GPL-3.0-only",
    "gpl3+": "GPL-3.0-or-later",
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
_NOISE = re.compile(r"\([^)]*\)|\b(the|license|licence|software|version|osi|approved)\b|\bv(?=\d)|[^a-z0-9+]")


def header_spdx(text: str, *, of_prose: bool = True) -> str:
    """Return the expression of the `SPDX-License-Identifier:` tags in a file's first lines; "" if it has no tag.

    Several tags are joined by AND. A tag that is not a valid expression is returned as written, so that the file does
    not pass for one without a tag; `is_permissive` refuses it. In code, but not in prose, GNU's notice counts as a
    tag too and returns `GNU_NOTICE`, whatever version it names.
    """
    head = "\n".join(text[:_MAX_HEADER_CHARS].splitlines()[:_HEADER_LINES])
    stated = [tag.strip(" \t-")[:_MAX_EXPRESSION_CHARS] for tag in _TAG.findall(head)]
    tags = sorted({canonical_spdx(tag) or tag for tag in stated if tag})
    if not tags and not of_prose and _GNU_NOTICE.search(head):
        tags = [GNU_NOTICE]
    return tags[0] if len(tags) == 1 else " AND ".join(f"({tag})" if " " in tag else tag for tag in tags)


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
