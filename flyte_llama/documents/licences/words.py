"""Licence notices in words, as they stand at the head of source files → what they state.

A notice names its licence (`Licensed under the MPL 2.0`), holds a permissive licence's text, or withholds rights
(`CONFIDENTIAL`). Whoever names a licence that is not known, or withholds rights, states one that is not recognised. A
line of copyright, or a reference to the licence file, states none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from flyte_llama.documents.licences.names import NO_ID, PERMISSIVE_IDS, Name, find_names
from flyte_llama.documents.licences.rights import (
    CONFIDENTIAL_LINE,
    FORBIDDEN_ABROAD,
    HARMLESS,
    OWNER,
    RIGHTS_ABROAD,
    SENTENCE,
    WITHHELD,
    WITHHELD_BY_OWNER,
)
from flyte_llama.documents.licences.spdx import name_spdx
from flyte_llama.documents.licences.statement import NOTHING, Statement, unrecognised
from flyte_llama.documents.licences.texts import cut_texts

# Words that every notice has at least one of; a text without them is not looked at any further.
_HINT = re.compile(
    r"licen[cs]|copyright|confidential|proprietary|prohibited|forbidden|eula\b|gpl\b|gplv|\b(?:mpl|epl|cddl|eupl|sspl|"
    r"busl)|trade secret|propert(?:y|ies) of|"
    r"(?-i:CC[- ]BY)|\bcc-by|\(c\)|internal use|(?:do not|not be) distribut|do not share outside|"
    r"for (?:evaluation|trial|demo|academic|research|personal) (?:use )?|verboten|untersagt|interdit|"
    r"weitergabe|internen gebrauch|usage interne|uso interno|内部使用|社外秘|"
    r"rights|redistribut|reproduc|permission|permitted|authori[sz]ed|commercial|commons|vertraulich|rechte|"
    r"droits|derechos|open source|(?:use|purposes) only|©|"
    r"direitos|diritti|版权|版權|保密|机密|著作権|저작권|авторск|права",
    re.IGNORECASE,
)
_UNDER = (
    r"(?:(?:licensed|released|distributed|redistributed|published|provided|available|offered)(?: \w+){0,3}? under|"
    r"(?:subject|governed|covered)(?: \w+){0,2}? (?:to|by|under)|use[ds]?(?: \w+){0,3} under)"
)
# "Licensed under the Acme Community License": a name between `under` and `license` that is none of these words.
_NAMED = re.compile(rf"\b{_UNDER}((?: \w+){{0,7}}?) licen(?:se|sing)\b(?! (?:server|key|check|plate|token|manager))")
_PREPOSITION = re.compile(r"\b(?:in|of|by|with|from|to|under|see|at|as|per|the file|which is|that is)\b")
_GENERIC = (
    "the a an this that these those its their your our of and or to in at by with for as is are be both either "
    "same following accompanying applicable appropriate corresponding respective relevant above below terms "
    "term conditions condition project projects repository root open source free software oss permissive "
    "original upstream main top level directory file files found full text agreement s one contributor "
    "contributors more other different any all own product default dual multiple multi single separate code "
    "package library program module provisions style kind document described stated given specified included "
    "attached compatible asf apache under license licensed defined contained set forth listed part which you "
    "can may "
)
_NO_NAME = set(_GENERIC.split())
_LABEL = re.compile(
    r"^[^\w\n]*(?:@|__)?licen[cs]e(?:__|d? under)?[ \t]*[:=][ \t]*(?P<value>[^\n]{1,200})$",
    re.IGNORECASE | re.MULTILINE,
)
# A notice of one word: the name of a copyleft licence, alone in its paragraph or after the copyright.
_ALONE = re.compile(
    r"(?:\A|\n[^\w\n]*\n|(?:copyright|\(c\)|©)[^\n]{0,100}(?:\n|[.,;:]))[^\w\n]{0,20}"
    r"(?:gnu[ \t])?(?:[al]?gpl|mpl|epl|cddl)\b[^\w\n]{0,20}(?:\n|\Z)",
    re.IGNORECASE,
)
# Before the name of a permissive licence, if the notice places the file under it.
_CONTEXT = re.compile(
    r"(?:\b(?:under|by|licensed?|of|to|as|either|or|and|identifier|governed|plus|spdx)(?: (?:the|a|an|terms|of|"
    r"and|conditions|both|"
    r"either|dual|this|license|open source|\w+ s))*|^(?: \w+){0,3}) ?$"
)
_PART = re.compile(
    r"\b(?:portions?|parts?|some|based on|derived|adapted|borrowed|copied|taken|ported|inspired|"
    r"modified) (?:\w+ ){0,14}$"
)
_VERSIONS = re.compile(
    r"either version \d(?: \d)?(?: of the license)?|(?:at your option )?any later version|at your option any later"
)
_CHOICE = re.compile(
    r"\b(?:either|at your (?:option|choice|discretion|election)|your choice|choose (?:either|between|one)|"
    r"dual(?:ly)? licensed?|"
    r"dual licensing|alternatively)\b"
)
_CHOICE_REACH = 120
_BETWEEN = re.compile(r"^(?: license)?(?: version \S+)? or (?:(?:the|a|an|under|terms|of|license|licensed|by) )*$")
_LABEL_ENDS = " \t\r\"'`*/#->,;.)(}{%"
_REFERS = {
    "see",
    "same",
    "license",
    "licence",
    "refer",
    "read",
    "under",
    "none",
    "todo",
    "copyright",
    "string",
    "str",
    "file",
}
# The line of a notice that is shown: the first that says more than whose the copyright is.
_SAYS = re.compile(
    r"licen[cs]e|confidential|proprietary|prohibited|forbidden|secret|without|may not|must not|do not (?:copy|"
    r"distribute|redistribute|disclose)|property|commercial|"
    r"unpublished|internal use|evaluation|distribut|gpl|\b[me]pl\b|cddl|"
    r"vertraulich|untersagt|verboten|interdit|prohib|禁止|不得|保密",
    re.IGNORECASE,
)
_MAX_CHARS = 10_000
COMMENT_END = "\n\f\n"
"""Between the comments of a header: whether a comment withholds rights does not depend on the others."""
_MIT_LIKE = re.compile(
    r"permission is hereby granted|permission to use copy modify|redistribution and use|freely granted"
)


def words_statement(text: str) -> Statement:
    """Return what a notice states: an expression of all the licences that it names, or that it is not recognised.

    Several licences are alternatives if the notice says so, and otherwise all hold. Of a licence that is not
    recognised, `unknown` is the line that says so.
    """
    text = text[:_MAX_CHARS]
    return _state(text) if speaks_of_rights(text) else NOTHING


def speaks_of_rights(text: str) -> bool:
    """Whether the text may hold a notice; a quick test."""
    return _HINT.search(text) is not None


@lru_cache(maxsize=4096)
def _state(text: str) -> Statement:
    """As `words_statement`: most files of a repository share their notice, so each is looked at once."""
    permissive, words = _words_of(text)

    # the licences that are named, and whether the notice places the file under the permissive ones
    names = find_names(words)
    restricted = {name.spdx for name in names if name.spdx not in PERMISSIVE_IDS}
    for name in names:
        before = words[max(0, name.start - 120) : name.start]
        if name.spdx in PERMISSIVE_IDS and _CONTEXT.search(before) and not _PART.search(before):
            permissive.add(name.spdx)
    labels = [(match["value"], name_spdx(match["value"].strip(_LABEL_ENDS))) for match in _LABEL.finditer(text)]
    permissive |= {spdx for _, spdx in labels if spdx}
    is_choice = _is_choice(words, names)

    # rights that are withheld, and names that are not known
    rest = "".join(" \N{SECTION SIGN} " if part is None else part for part in _split_at(words, names))
    is_unknown = (
        (NO_ID in restricted and not (is_choice and permissive))
        or WITHHELD.search(rest)
        or (WITHHELD_BY_OWNER.search(rest) and any(map(_withholds, text.split(COMMENT_END))))
        or CONFIDENTIAL_LINE.search(text)
        or SENTENCE.search(text)
        or (not names and _ALONE.search(text))
        or (RIGHTS_ABROAD.search(words) and FORBIDDEN_ABROAD.search(words))
        or any(_has_name(_PREPOSITION.split(match[1])[-1]) for match in _NAMED.finditer(rest))
        or any(not spdx and not names and _has_name(value) for value, spdx in labels)
    )
    if is_unknown:
        lines = [line for line in text.splitlines() if _SAYS.search(line) and "SPDX-" not in line]
        return unrecognised("\n".join([*lines, text]))
    ids = sorted((restricted | permissive) - {NO_ID, ""})
    if len(ids) == 1:
        return Statement(ids[0])
    return Statement((" OR " if is_choice else " AND ").join(f"({spdx})" if " " in spdx else spdx for spdx in ids))


def _words_of(text: str) -> tuple[set[str], str]:
    """Return the licences whose text is in a notice, and the other words without what only sounds restrictive."""
    lowered = text.lower().replace("licence", "license").replace("licencing", "licensing")
    words = " ".join(re.findall(r"[^\W_]+|\+", re.sub(r"(?m)^\s*@?(?:rem|dnl)\b", " ", lowered))) + " "
    permissive: set[str] = set()
    if _MIT_LIKE.search(words):
        permissive, words = cut_texts(words)
    return permissive, HARMLESS.sub(" ; ", words)


def _withholds(comment: str) -> bool:
    """Whether a comment that names an owner, or speaks of the file, withholds rights."""
    return OWNER.search(comment) is not None and WITHHELD_BY_OWNER.search(_words_of(comment)[1]) is not None


def _has_name(words: str) -> bool:
    """Whether the words after `under` or `License:` are the name of a licence, and no reference to one."""
    if re.search(r"https?:|www\.|[/\\]|\.(?:txt|md|rst|html)\b|\{|\$|<", words):
        return False
    plain = re.findall(r"[^\W_]*[^\W\d_][^\W_]+", words.lower())
    return 0 < len(plain) <= 8 and not _REFERS.intersection(plain) and not _NO_NAME.issuperset(plain)


def _split_at(words: str, names: list[Name]) -> Iterator[str | None]:
    """Yield the words between the names, and None for each name."""
    start = 0
    for name in names:
        yield words[start : name.start]
        yield None
        start = max(start, name.end)
    yield words[start:]


def _is_choice(words: str, names: list[Name]) -> bool:
    """Whether the notice lets one choose between its licences, not just between versions of one."""
    if len(names) < 2:
        return False
    around = words[max(0, names[0].start - _CHOICE_REACH) : names[-1].end + _CHOICE_REACH]
    if _CHOICE.search(_VERSIONS.sub(" ", around)):
        return True
    return any(_BETWEEN.match(words[left.end : right.start]) for left, right in pairwise(names))
