"""Licence files and package metadata → SPDX licence expressions.

In goes text, out comes an expression of SPDX ids, or "" for what is not known. It does not give legal advice: it
names a licence only if the whole text is accounted for. A known text with a rider, such as the Commons Clause or
"not for military use", with another licence's terms beside it, or with a mention of the GPL, is "". Riders are known
by words of English and by their length, so a short one in another language passes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterator
from functools import cache

from packaging.metadata import parse_email

from flyte_llama.licences.spdx import expression_of, header_spdx, named_spdx

Run = tuple[str, ...]
"""Words that follow each other in a text."""

# A licence is there if this share of its runs of words is: holders, years and appendices differ.
_MIN_SHARE = 0.75
_RUN_WORDS = 6
# Lists of authors, and of which file comes from where, are not terms; a text of this length is.
_MAX_UNKNOWN_WORDS = 300
_MAX_CHARS = 1_000_000
# The bare text of a GNU licence grants that version; only a notice can add "or any later version".
_GNU = {"AGPL-3.0", "GPL-2.0", "GPL-3.0", "LGPL-2.1", "LGPL-3.0"}
# Texts that differ by a clause: the shortest is looked for, and the first phrase that occurs names the licence.
_VARIANTS: dict[str, tuple[tuple[str, str], ...]] = {
    "MIT-0": (("permission notice shall be included", "MIT"),),
    "0BSD": (("permission notice appear in all copies", "ISC"),),
    "BSD-2-Clause": (
        ("advertising materials mentioning features", "BSD-4-Clause"),
        ("licenses to any party s patent rights", "BSD-3-Clause-Clear"),
        ("endorse or promote", "BSD-3-Clause"),
    ),
}
_MIT_CLAUSE = (
    "The above copyright notice and this permission notice shall be included in all copies or substantial portions "
    "of the Software."
)
# Wordings of a clause that are as common as those of identify's texts, and a clause that these lack.
_CLAUSES = {
    "BSD-3-Clause": "The names of the contributors may not be used to endorse or promote products derived from this "
    "software without specific prior written permission.",
    "BSD-4-Clause": "All advertising materials mentioning features or use of this software must display the following "
    "acknowledgement: This product includes software developed by the organization.",
}
# A file may say under which terms it is without holding them.
_NOTICES = {
    "Apache-2.0": re.compile(r"licensed under the apache license version 2 0\b"),
    "MPL-2.0": re.compile(r"mozilla public license (mpl )?(v(ersion)? ?)?2 0\b"),
}
# Terms that no default allows, known by their own name for themselves; what else they say is not looked at.
_RESTRICTED = {
    "BUSL-1.1": re.compile(r"business source license (version )?1 1\b"),
    "SSPL-1.0": re.compile(r"server side public license\b"),
    "Elastic-2.0": re.compile(r"elastic license (v(ersion)? ?)?2( 0)?\b"),
}
# Python's licence comes alone, or with its history, those of its former owners and that of its documentation.
_PYTHON = "python software foundation license version 2 "
_PYTHON_STARTS = ("a history of the software ", "psf license agreement for python ", _PYTHON)
_PYTHON_ENDS = (
    "bound by the terms and conditions of this license agreement ",
    "shall stichting mathematisch centrum be liable ",
    "zero clause bsd license for code in the python documentation ",
)
_MAX_PYTHON_CHARS = 16_000
# "All but what says otherwise" is true of any repository: a file's own header goes before the licence file.
_OTHERWISE = re.compile(r"\b(except|unless) (\w+ ){0,2}(otherwise|stated|noted|specified)\b")
_TERMS = re.compile(
    r"\b(commons clause|must|shall|(may|can|should) not|cannot|never|only|prohibit\w*|forbid\w*|restrict\w*|"
    r"(do|does|is|are) not (grant|permit|allow|apply|cover|extend|include|licensed|authori[sz]e)\w*|except\w*|unless|"
    r"provided that|notwithstanding|additional (terms?|conditions?|permissions?)|not (for|be|in)|no (\w+ )?use|"
    r"\w*gnu|[al]?gpl\w*|copyleft|proprietary|confidential|commercial\w*|noncommercial\w*|enterprise|evil|ethic\w*|"
    r"military|weapons?|royalt\w+|fees?)\b"
)
_CHOICE = re.compile(
    r"\b(either|at your (option|choice|discretion)|your choice|choose (either|between|one)|dual licensed)\b"
)


def spdx_of(text: str) -> str:
    """The SPDX expression of a licence file's text; "" if a part of it is not known.

    Holders, years, line breaks, comment markers, Markdown and HTML do not matter. Two licences are `A OR B` if the
    file says that one may choose; otherwise, and with more than two, all hold, each for its part: `A AND B`. A GNU
    text is `-only`, since the text itself cannot say "or any later version".
    """
    phrases = _normal(html.unescape(re.sub(r"<[^<>]{1,300}>", " ", text[:_MAX_CHARS])))
    found = {"PSF-2.0"} if _PYTHON in phrases else set()
    phrases = _without_python(phrases)
    words = _words(phrases)
    found |= _texts_in(words, phrases) | {spdx for spdx, notice in _NOTICES.items() if notice.search(phrases)}
    restricted = {spdx for spdx, title in _RESTRICTED.items() if title.search(phrases)}
    if not found and not restricted:
        return header_spdx(text) or named_spdx(text)
    known: set[Run] = set().union(*(_runs_of(spdx) for spdx in found))
    unknown = " ".join(_uncovered(words, known))
    if not restricted:
        terms = _TERMS.search(_OTHERWISE.sub(" ", unknown))
        if terms or len(unknown.split()) > _MAX_UNKNOWN_WORDS or len(text) > _MAX_CHARS:
            return ""
    ids = sorted(f"{spdx}-only" if spdx in _GNU else spdx for spdx in found | restricted)
    return (" OR " if len(ids) == 2 and _CHOICE.search(unknown) else " AND ").join(ids)


def declared_spdx(metadata: str) -> str:
    """The SPDX expression that a Python distribution's METADATA declares; "" if none, or one that is not known.

    `License-Expression` decides; then `License`, as an expression, a well-known spelling or a licence's text; then
    the Trove classifiers, all of which hold. `BSD` alone is read as BSD-3-Clause.
    """
    fields, _ = parse_email(metadata)
    stated = fields.get("license_expression", "")
    if stated:
        return expression_of(stated)
    stated = fields.get("license", "").removeprefix("License :: ").removeprefix("OSI Approved :: ")
    found = named_spdx(stated) or (spdx_of(stated) if len(stated.split()) > _RUN_WORDS else "")
    if found:
        return found
    classifiers = [line.split(" :: ")[1:] for line in fields.get("classifiers", []) if line.startswith("License :: ")]
    ids = {named_spdx(parts[-1]) for parts in classifiers if parts != ["OSI Approved"]}
    return "" if "" in ids else " AND ".join(sorted(ids))


def _without_python(phrases: str) -> str:
    if _PYTHON not in phrases:
        return phrases
    # Its years differ from file to file, so that it is known by where it starts and ends.
    start = min(phrases.find(start) for start in _PYTHON_STARTS if start in phrases)
    end = max([start, *(phrases.rfind(end) + len(end) for end in _PYTHON_ENDS if end in phrases)])
    return phrases if end - start > _MAX_PYTHON_CHARS else phrases[:start] + phrases[end:]


def _texts_in(words: list[str], phrases: str) -> set[str]:
    runs = set(_runs(words))
    shares = {spdx: len(known & runs) / len(known) for spdx, known in _templates().items()}
    found: set[str] = set()
    taken: set[Run] = set()
    # Licences that grew out of each other share most of their words: the one that explains the most is meant.
    for spdx in sorted(shares, key=lambda spdx: (-len(_templates()[spdx] & runs), -shares[spdx], spdx)):
        if shares[spdx] < _MIN_SHARE or 2 * len(_templates()[spdx] & taken) > len(_templates()[spdx]):
            continue
        taken |= _templates()[spdx]
        found.add(next((other for phrase, other in _VARIANTS.get(spdx, ()) if phrase in phrases), spdx))
    return found


@cache
def _templates() -> dict[str, frozenset[Run]]:
    """The runs of words of each licence that is looked for; of those in _VARIANTS, the shortest."""
    variants = {other for others in _VARIANTS.values() for _, other in others}
    return {spdx: frozenset(_runs(_words(text))) for spdx, text in _texts().items() if spdx not in variants}


@cache
def _runs_of(spdx: str) -> frozenset[Run]:
    return frozenset(_runs(_words(_texts().get(spdx, "")))) | frozenset(_runs(_words(_CLAUSES.get(spdx, ""))))


@cache
def _texts() -> dict[str, str]:
    # The texts of choosealicense.com, which identify carries to match licences; it needs ukkonen to do so itself.
    from identify.vendor.licenses import LICENSES

    texts = {spdx: _normal(text) for spdx, text in LICENSES}
    texts["MIT-0"] = texts["MIT"].replace(_normal(_MIT_CLAUSE), " ")
    texts["BSD-4-Clause"] = texts["BSD-3-Clause"] + _normal(_CLAUSES["BSD-3-Clause"])
    return texts


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower().replace("licence", "license"))) + " "


def _words(phrases: str) -> list[str]:
    # Without numbers and single letters, which are those of lists and of versions.
    return [word for word in phrases.split() if len(word) > 1 and not word.isdigit()]


def _runs(words: list[str]) -> Iterator[Run]:
    return zip(*(words[start:] for start in range(_RUN_WORDS)), strict=False)


def _uncovered(words: list[str], known: Collection[Run]) -> Iterator[str]:
    covered = bytearray(len(words))
    for start, run in enumerate(_runs(words)):
        if run in known:
            covered[start : start + _RUN_WORDS] = b"\1" * _RUN_WORDS
    return (word for word, is_covered in zip(words, covered, strict=True) if not is_covered)
