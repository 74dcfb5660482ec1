"""SPDX licence expressions: as a source file's header states them, as people spell them, and whether they permit.

In goes a header, a name or an expression; out comes an expression of SPDX ids, "" where there is none. It reads no
licence's text: that is `licences`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+()\- \t]+)")
# What the Free Software Foundation asks to be put at the head of each file; "or any later version" follows or not.
_GNU_NOTICE = re.compile(
    r"\bGNU\W{1,9}(?:(?:Lesser|Library|Affero)\W{1,9})?General\W{1,9}Public\W{1,9}License", re.IGNORECASE
)
GNU_NOTICE = "LicenseRef-GNU-notice"
_HEADER_LINES = 30
_MAX_HEADER_CHARS = 10_000
_MAX_EXPRESSION_CHARS = 300

# Spellings without blanks, punctuation, brackets' content and the words the, license, software, version, OSI.
_SPELLINGS = {
    "apache": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache20": "Apache-2.0",
    "asl20": "Apache-2.0",
    "mit": "MIT",
    "expat": "MIT",
    "mit0": "MIT-0",
    "mitnoattribution": "MIT-0",
    # Which BSD is meant is not said; of the two in use this asks for more.
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
_UNSAID = re.compile(r"\([^)]*\)|\b(the|license|licence|software|version|osi|approved)\b|\bv(?=\d)|[^a-z0-9+]")


def header_spdx(text: str, *, of_prose: bool = True) -> str:
    """The expression of the `SPDX-License-Identifier:` tags in a file's first lines; "" if there is none.

    Several tags all hold. One that is not a valid expression comes back as it is written, so that it is not taken
    for a file without a tag; `is_permissive` refuses it. At the head of code, but not of prose, GNU's notice is taken
    for a tag of which the version is not asked.
    """
    head = "\n".join(text[:_MAX_HEADER_CHARS].splitlines()[:_HEADER_LINES])
    stated = [found.strip(" \t-")[:_MAX_EXPRESSION_CHARS] for found in _TAG.findall(head)]
    tags = sorted({expression_of(tag) or tag for tag in stated if tag})
    if not tags and not of_prose and _GNU_NOTICE.search(head):
        tags = [GNU_NOTICE]
    return tags[0] if len(tags) == 1 else " AND ".join(f"({tag})" if " " in tag else tag for tag in tags)


def is_permissive(spdx: str, allowed: Collection[str]) -> bool:
    """Whether an SPDX expression lets one choose among `allowed` alone; False for "" and what is not an expression.

    One side of an OR is enough, an AND needs both. An exception (`WITH`) and a later version (`+`) only add rights.
    """
    expression = expression_of(spdx)
    if not expression:
        return False
    permitted = {licence.casefold() for licence in allowed}
    terms = re.sub(r" WITH \S*[^\s)]", "", expression)
    tokens = [
        token.lower() if token in ("AND", "OR", "(", ")") else str(token.removesuffix("+").casefold() in permitted)
        for token in re.findall(r"[()]|[^\s()]+", terms)
    ]
    return _value(ast.parse(" ".join(tokens), mode="eval").body)


def expression_of(stated: str) -> str:
    """In SPDX's own spelling; "" if it is not an expression of its ids."""
    if len(stated) > _MAX_EXPRESSION_CHARS:
        return ""
    try:
        return canonicalize_license_expression(stated)
    except InvalidLicenseExpression:
        return ""


def named_spdx(name: str) -> str:
    """The id for an expression or a well-known spelling, such as `apache2` or `The MIT License`; "" for others."""
    name = name.strip()
    return expression_of(name) or _SPELLINGS.get(_UNSAID.sub("", name.lower()[:_MAX_EXPRESSION_CHARS]), "")


def _value(node: ast.expr) -> bool:
    if isinstance(node, ast.BoolOp):
        return (all if isinstance(node.op, ast.And) else any)(_value(side) for side in node.values)
    return isinstance(node, ast.Constant) and node.value is True
