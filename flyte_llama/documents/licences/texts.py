"""Licence texts and package metadata → SPDX licence expressions.

An expression consists of SPDX ids; it is "" if the licence is not known. This is not legal advice: a licence is named
only if the whole text is accounted for. The result is "" if a known text has a rider, such as the Commons Clause or
"not for military use", is followed by another licence's terms, or mentions the GPL. Riders are recognised by their
words in English, by common words of other languages or by another script, and by their length. Names of licences are
the work of `spdx`, and notices of `words`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterator
from functools import cache

from packaging.metadata import parse_email

from flyte_llama.documents.licences.spdx import canonical_spdx, join_spdx, name_spdx, tag_spdx, tags_of

Run = tuple[str, ...]
"""`_RUN_WORDS` consecutive words of a text."""

# A text holds a licence if it has this share of the licence's runs: holders, years and appendices differ.
_MIN_SHARE = 0.75
_RUN_WORDS = 6
# Lists of authors and of the origins of files are not terms; unknown text longer than this is taken for terms.
_MAX_UNKNOWN_WORDS = 300
_MAX_CHARS = 1_000_000
_MAX_NAME_CHARS = 300
# The bare text of a GNU licence grants that version; only a notice can add "or any later version".
_GNU = {"AGPL-3.0", "GPL-2.0", "GPL-3.0", "LGPL-2.1", "LGPL-3.0"}
# Licences that differ by one clause. A text is compared with the shortest, the key; the first phrase below that occurs
# in the text then decides which licence it is.
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
# A second common wording of BSD-3-Clause's last clause, and the advertising clause, which is in no text of identify.
_CLAUSES = {
    "BSD-3-Clause": "The names of the contributors may not be used to endorse or promote products derived from this "
    "software without specific prior written permission.",
    "BSD-4-Clause": "All advertising materials mentioning features or use of this software must display the following "
    "acknowledgement: This product includes software developed by the organization.",
}
# A notice names its licence without quoting the terms.
_NOTICES = {
    "Apache-2.0": re.compile(r"licensed under the apache license version 2 0\b"),
    "MPL-2.0": re.compile(r"mozilla public license (mpl )?(v(ersion)? ?)?2 0\b"),
}
# Licences that the default allow-list excludes, recognised by their titles; the rest of their text is not checked.
_RESTRICTED = {
    "BUSL-1.1": re.compile(r"business source license (version )?1 1\b"),
    "SSPL-1.0": re.compile(r"server side public license\b"),
    "Elastic-2.0": re.compile(r"elastic license (v(ersion)? ?)?2( 0)?\b"),
}
# Python's licence comes alone, or together with its history, the licences of its former owners and the one of its
# documentation.
_PYTHON = "python software foundation license version 2 "
_PYTHON_STARTS = ("a history of the software ", "psf license agreement for python ", _PYTHON)
_PYTHON_ENDS = (
    "bound by the terms and conditions of this license agreement ",
    "shall stichting mathematisch centrum be liable ",
    "zero clause bsd license for code in the python documentation ",
)
_MAX_PYTHON_CHARS = 16_000
# "Except as otherwise noted" adds no term: in any repository a file's header takes precedence over the licence file.
_OTHERWISE = re.compile(r"\b(except|unless) (\w+ ){0,2}(otherwise|stated|noted|specified)\b")
# Words that turn unknown text into a rider.
_TERMS = re.compile(
    r"\b(commons clause|must|shall|(may|can|should) not|cannot|never|only|prohibit\w*|forbid\w*|restrict\w*|"
    r"(do|does|is|are) not (grant|permit|allow|apply|cover|extend|include|licensed|authori[sz]e)\w*|except\w*|unless|"
    r"provided that|notwithstanding|additional (terms?|conditions?|permissions?)|not (for|be|in)|no (\w+ )?use|"
    r"\w*gnu|[al]?gpl\w*|copyleft|proprietary|confidential|commercial\w*|noncommercial\w*|enterprise|evil|ethic\w*|"
    r"military|weapons?|separate (licens\w*|terms)|"
    r"(under|by|to) (the )?(\w+ ){0,5}(eula|end user license|license agreement)|royalt\w+|fees?)\b"
)
# The same in other languages: words that forbid, words that are common, of which two make no name, and other scripts.
_FORBIDS_ABROAD = re.compile(
    r"\b(verboten|untersagt|nicht|gewerblich\w*|kommerzi\w*|interdit\w*|commerciales?|prohib[ií]\w*|comercia\w*|"
    r"proibid\w*|"
    r"vietat\w*|commercial[ei]|niet|verboden|commercieel|commerci[eë]le|f[oö]rbjud\w*|kommersi\w*|forbudt|"
    r"kielletty|tilos|"
    r"zakaz\w*|zak[aá]z\w*|zabron\w*|komer[cč]\w*|interzis\w*|yasak\w*|ticar[iî]|dilarang|c[aấ]m)\b"
)
_FOREIGN = re.compile(
    r"\b(der|das|und|nur|f[uü]r|darf|d[uü]rfen|kein\w*|ohne|ist|wird|les|une?|est|pas|pour|avec|sans|sauf|el|"
    r"los|las|una|para|"
    r"sin|con|salvo|n[aã]o|sem|exceto|per|senza|gli|voor|zonder|alleen|het|een|wordt|inte|utan|f[oö]r|endast|"
    r"och|ikke|uten|"
    r"bez|nie|jest|tylko|pouze|i[cç]in|olmadan)\b"
)
_OTHER_SCRIPT = re.compile(r"[\u0370-\u1fff\u2e80-\ud7ff\uf900-\ufaff]")
_COPYRIGHT_LINE = re.compile(r"^.*(?:copyright|\(c\)|©).*$", re.IGNORECASE | re.MULTILINE)
_CHOICE = re.compile(
    r"\b(either|at your (option|choice|discretion)|your choice|choose (either|between|one)|dual licensed)\b"
)


def text_spdx(text: str) -> str:
    """The SPDX expression of a licence file's text; "" if a part of the text is not known.

    Holders, years, line breaks, comment markers, Markdown and HTML do not matter. Two licences give `A OR B` if the
    file offers a choice; otherwise, and with more than two, all of them hold: `A AND B`. A GNU text gives `-only`,
    since only a notice outside the text can add "or any later version".
    """
    # Collect the licences that the file holds as a text, a notice or a title.
    phrases = _normalise(html.unescape(re.sub(r"<[^<>]{1,300}>", " ", text[:_MAX_CHARS])))
    licences = {"PSF-2.0"} if _PYTHON in phrases else set()
    phrases = _remove_python_licence(phrases)
    words = _words(phrases)
    licences |= _match_texts(words, phrases) | {spdx for spdx, notice in _NOTICES.items() if notice.search(phrases)}
    restricted = {spdx for spdx, title in _RESTRICTED.items() if title.search(phrases)}
    if not licences and not restricted:
        return _named_spdx(text)
    # Name no licence if the words outside of those texts look like a rider, or are too many to be anything else.
    known: set[Run] = set().union(*(_known_runs(spdx) for spdx in licences))
    unknown = " ".join(_unknown_words(words, known))
    if not restricted:
        terms = _TERMS.search(_OTHERWISE.sub(" ", unknown))
        if terms or len(unknown.split()) > _MAX_UNKNOWN_WORDS or len(text) > _MAX_CHARS:
            return ""
        # A holder's name may be in any language.
        of_others = _normalise(_COPYRIGHT_LINE.sub(" ", text))
        foreign = " ".join(_unknown_words(_words(of_others), known))
        if _FORBIDS_ABROAD.search(foreign) or len(set(_FOREIGN.findall(foreign))) > 1 or _OTHER_SCRIPT.search(foreign):
            return ""
    ids = sorted(f"{spdx}-only" if spdx in _GNU else spdx for spdx in licences | restricted)
    return (" OR " if len(ids) == 2 and _CHOICE.search(unknown) else " AND ").join(ids)


def _named_spdx(text: str) -> str:
    """Return the licence of a text that is only tags or a name; "" if it has any other terms."""
    tags = tags_of(text)
    if not tags:
        return name_spdx(text) if len(text) < _MAX_NAME_CHARS else ""
    rest = re.sub(r"(?i)spdx-\S+:?[^\n]*", " ", text)
    spdx = [tag_spdx(tag) for tag in tags]
    return join_spdx(spdx) if all(spdx) and not _TERMS.search(_normalise(rest)) else ""


def cut_texts(words: str) -> tuple[set[str], str]:
    """Return the licences whose text is among normalised words, and the words that are left without those texts."""
    plain = _words(words)
    licences = _match_texts(plain, words)
    if not licences:
        return set(), words
    known: set[Run] = set().union(*(_known_runs(spdx) for spdx in licences))
    return {f"{spdx}-only" if spdx in _GNU else spdx for spdx in licences}, " ".join(_unknown_words(plain, known)) + " "


def metadata_spdx(metadata: str) -> str:
    """The SPDX expression that a Python distribution's METADATA declares; "" if it declares none or an unknown one.

    The fields are tried in this order: `License-Expression`; `License`, as an expression, a well-known name or a
    licence's text; the Trove classifiers, joined by AND. `BSD` alone is read as BSD-3-Clause.
    """
    fields, _ = parse_email(metadata)
    stated = fields.get("license_expression", "")
    if stated:
        return canonical_spdx(stated)
    stated = fields.get("license", "").removeprefix("License :: ").removeprefix("OSI Approved :: ")
    spdx = name_spdx(stated) or (text_spdx(stated) if len(stated.split()) > _RUN_WORDS else "")
    if spdx:
        return spdx
    classifiers = [line.split(" :: ")[1:] for line in fields.get("classifiers", []) if line.startswith("License :: ")]
    ids = {name_spdx(parts[-1]) for parts in classifiers if parts != ["OSI Approved"]}
    return "" if "" in ids else " AND ".join(sorted(ids))


def _remove_python_licence(phrases: str) -> str:
    if _PYTHON not in phrases:
        return phrases
    # Its years differ from file to file, so it is recognised by how it starts and ends.
    start = min(phrases.find(start) for start in _PYTHON_STARTS if start in phrases)
    end = max([start, *(phrases.rfind(end) + len(end) for end in _PYTHON_ENDS if end in phrases)])
    return phrases if end - start > _MAX_PYTHON_CHARS else phrases[:start] + phrases[end:]


def _match_texts(words: list[str], phrases: str) -> set[str]:
    """The SPDX ids of the licence texts among the words; `phrases` decides between variants."""
    runs = set(_runs(words))
    shares = {spdx: len(known & runs) / len(known) for spdx, known in _templates().items()}
    matches: set[str] = set()
    explained: set[Run] = set()
    # Licences that grew out of each other share most of their words. The one that explains the most is taken first; one
    # that shares over half of its runs with those already taken is skipped.
    for spdx in sorted(shares, key=lambda spdx: (-len(_templates()[spdx] & runs), -shares[spdx], spdx)):
        if shares[spdx] < _MIN_SHARE or 2 * len(_templates()[spdx] & explained) > len(_templates()[spdx]):
            continue
        explained |= _templates()[spdx]
        matches.add(next((other for phrase, other in _VARIANTS.get(spdx, ()) if phrase in phrases), spdx))
    return matches


@cache
def _templates() -> dict[str, frozenset[Run]]:
    """SPDX id → runs of words, for each licence to compare with; of a group of `_VARIANTS`, only its shortest."""
    variants = {other for others in _VARIANTS.values() for _, other in others}
    return {spdx: frozenset(_runs(_words(text))) for spdx, text in _licence_texts().items() if spdx not in variants}


@cache
def _known_runs(spdx: str) -> frozenset[Run]:
    """The runs that a file under the licence may hold: its text and its clauses in other wordings."""
    return frozenset(_runs(_words(_licence_texts().get(spdx, "")))) | frozenset(_runs(_words(_CLAUSES.get(spdx, ""))))


@cache
def _licence_texts() -> dict[str, str]:
    """SPDX id → normalised text."""
    # The texts of choosealicense.com, which identify ships. Its matcher is not used: it needs the package ukkonen.
    from identify.vendor.licenses import LICENSES

    texts = {spdx: _normalise(text) for spdx, text in LICENSES}
    texts["MIT-0"] = texts["MIT"].replace(_normalise(_MIT_CLAUSE), " ")
    texts["BSD-4-Clause"] = texts["BSD-3-Clause"] + _normalise(_CLAUSES["BSD-3-Clause"])
    return texts


def _normalise(text: str) -> str:
    """The text in lower case, as words with one blank after each; no punctuation."""
    return " ".join(re.findall(r"[^\W_]+", text.lower().replace("licence", "license"))) + " "


def _words(phrases: str) -> list[str]:
    # Numbers and single letters only mark list items and versions.
    return [word for word in phrases.split() if len(word) > 1 and not word.isdigit()]


def _runs(words: list[str]) -> Iterator[Run]:
    return zip(*(words[start:] for start in range(_RUN_WORDS)), strict=False)


def _unknown_words(words: list[str], known: Collection[Run]) -> Iterator[str]:
    """The words that are in none of the known runs."""
    covered = bytearray(len(words))
    for start, run in enumerate(_runs(words)):
        if run in known:
            covered[start : start + _RUN_WORDS] = b"\1" * _RUN_WORDS
    return (word for word, is_covered in zip(words, covered, strict=True) if not is_covered)
