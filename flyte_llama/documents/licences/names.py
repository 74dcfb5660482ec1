"""Names of licences in running text → SPDX ids: the data that `words` searches with.

The patterns match words in lower case with one blank between them, no punctuation but `+`, and `license` spelt so.
Abbreviations that mean other things too, such as `mpl` and `gpl`, need a version or the word license next to them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

NO_ID = "LicenseRef-unknown"
"""Stands for a licence that is recognised as one, but has no SPDX id that the allow-list could name."""

GNU_NOTICE = "LicenseRef-GNU-notice"
"""A GNU licence without its version."""


class Name(NamedTuple):
    """One name of a licence in a text."""

    spdx: str
    """An id, or `NO_ID`; empty if another name says more about the same licence."""

    start: int
    end: int


_VERSION = r"(?: (?:v|ver|version|versions|rev|revision))? ?v?"
_STATED = r"(?:(?<=under )|(?<=under the )|(?<=of the )|(?<=license )|(?<=or )|(?<=or the ))"
_ABBREVIATED = r"(?= license\b| ?v?\d| version\b| \+)"
# Name → the id by version. `*` is the id without a version, or with another one.
_FAMILIES: dict[str, dict[str, str]] = {
    rf"mozilla public license(?: mpl)?|\bmpl{_ABBREVIATED}": {"1 0": "MPL-1.0", "1 1": "MPL-1.1", "*": "MPL-2.0"},
    rf"eclipse public license(?: epl)?|\bepl{_ABBREVIATED}": {"1": "EPL-1.0", "*": "EPL-2.0"},
    rf"common development and distribution license(?: cddl)?|\bcddl{_ABBREVIATED}|{_STATED}cddl\b": {
        "1 1": "CDDL-1.1",
        "*": "CDDL-1.0",
    },
    r"common public attribution license|\bcpal\b": {"*": "CPAL-1.0"},
    r"common public license": {"*": "CPL-1.0"},
    r"ibm public license": {"*": "IPL-1.0"},
    r"business source license|\bbusl\b|\bbsl 1 1\b|\bbsl license\b": {"*": "BUSL-1.1"},
    r"server side public license|\bsspl\b": {"*": "SSPL-1.0"},
    r"elastic(?: v2)? license|\belv2\b": {"2": "Elastic-2.0", "*": NO_ID},
    r"european union public license|\beupl\b": {"1 1": "EUPL-1.1", "*": "EUPL-1.2"},
    r"open software license": {"*": "OSL-3.0"},
    r"academic free license": {"*": "AFL-3.0"},
    r"artistic license": {"1": "Artistic-1.0", "*": "Artistic-2.0"},
    r"apple public source license|\bapsl\b": {"*": "APSL-2.0"},
    r"q public license": {"*": "QPL-1.0"},
    r"sleepycat license": {"*": "Sleepycat"},
    r"(?:sil )?open font license|\bofl 1 1\b": {"*": "OFL-1.1"},
    r"latex project public license|\blppl\b": {"*": "LPPL-1.3c"},
    r"\bcecill(?: b| c)?\b": {"*": NO_ID},
    r"microsoft reciprocal license|\bms rl\b": {"*": "MS-RL"},
    r"microsoft public license|\bms pl\b": {"*": "MS-PL"},
    r"mulan (?:psl|permissive software license)": {"1": "MulanPSL-1.0", "*": "MulanPSL-2.0"},
    r"zope public license|\bzpl 2\b": {"*": "ZPL-2.1"},
    r"php license": {"*": "PHP-3.01"},
    r"openssl license": {"*": "OpenSSL"},
    r"reciprocal public license": {"*": "RPL-1.5"},
    r"(?:gnu )?free documentation license|\bgfdl\b": {"*": NO_ID},
    # A condition on top of another licence, and licences with no id in most versions of the SPDX list.
    r"commons clause": {"*": NO_ID},
    r"functional source license|\bfsl 1 \d\b|fair source license|\bfcl 1 0\b": {"*": NO_ID},
    r"polyform \w+(?: \w+)? license|\bpolyform (?:noncommercial|shield|strict|perimeter|small business)\b": {
        "*": NO_ID
    },
    r"(?:redis source available|confluent community|timescale|cockroach(?:db)? community|mariadb bsl|sustainable use|"
    r"prosperity public|parity public|hippocratic|anti 996|big time public|cryptographic autonomy|fair code|"
    r"llama \d(?: \d)? community|open ?rail\w*(?: \w+)?|responsible ai|good not evil|json) license": {"*": NO_ID},
    r"\brsalv?2?\b|\bopenrail\b": {"*": NO_ID},
    r"nvidia (?:\w+ ){0,3}license(?: agreement)?": {"*": NO_ID},
}
_PERMISSIVE: dict[str, dict[str, str]] = {
    # Eclipse's second licence is a BSD one.
    r"eclipse distribution license": {"*": "BSD-3-Clause"},
    r"apache (?:software )?license|\bapache" + r"(?= ?v?2| version 2)|\basl" + r"(?= ?v?2| version 2)": {
        "1 0": "Apache-1.0",
        "1 1": "Apache-1.1",
        "*": "Apache-2.0",
    },
    r"\bmit 0\b(?: license)?|mit no attribution(?: license)?": {"*": "MIT-0"},
    r"\b(?:mit x11|x11 mit|mit expat|expat|x11|mit)(?: open source| style| like)? license|\bmit licensed\b|"
    + _STATED
    + r"mit\b": {"*": "MIT"},
    r"bsd 3 clause clear license|clear bsd license": {"*": "BSD-3-Clause-Clear"},
    r"bsd 4 clause|(?:4|four) clause bsd(?: license)?|original bsd license": {"*": "BSD-4-Clause"},
    r"\bbsd ?2 clause|(?:2|two) clause (?:free)?bsd(?: license)?|simplified bsd(?: license)?": {"*": "BSD-2-Clause"},
    r"\b0bsd\b|zero clause bsd(?: license)?": {"*": "0BSD"},
    r"\bbsd ?3 clause|(?:3|three) clause bsd(?: license)?|(?:new|modified|revised) bsd(?: license)?|"
    r"\bbsd(?: style| like| type)? licensed?\b|" + _STATED + r"(?:new )?bsd\b": {"*": "BSD-3-Clause"},
    r"\bisc license\b": {"*": "ISC"},
    r"zlib(?: libpng)? license": {"*": "Zlib"},
    r"boost software license": {"*": "BSL-1.0"},
    r"(?:the )?unlicense\b(?: license)?": {"*": "Unlicense"},
    r"\bcc0\b(?: 1 0)?(?: universal)?|creative commons (?:cc0|zero)": {"*": "CC0-1.0"},
    r"python software foundation license|\bpsf license": {"*": "PSF-2.0"},
    r"university of illinois(?: ncsa)? open source license|\bncsa license": {"*": "NCSA"},
    r"educational community license": {"*": "ECL-2.0"},
    r"postgresql license": {"*": "PostgreSQL"},
    r"universal permissive license": {"*": "UPL-1.0"},
    r"(?:open source )?hpnd license|historical permission notice": {"*": "HPND"},
    r"cnri (?:s )?python(?: 1 6)? license": {"*": "CNRI-Python"},
    r"\bwtfpl\b|do what the fuck you want to public license": {"*": "WTFPL"},
}
_CREATIVE_COMMONS = (
    r"creative commons(?: attribution)?(?= (?:license|attribution|by|non|share|no)|\b)(?: by)?|\bcc by\b|\bccby\b|"
    r"\battribution non ?commercial\b"
)
_GNU = (
    r"(?P<affero>(?:gnu )?affero (?:general )?(?:gnu )?public license|\bagpl\b|\bagplv?\d)|"
    r"(?P<lesser>(?:gnu )?(?:lesser|library)(?: or library)? (?:gnu )?general public license|\blgpl\b|\blgplv?\d)|"
    r"(?P<general>(?:gnu )?general public license|\bgnu public license|\bgnu (?:gpl\b|license)|\bgpl\b|\bgplv?\d)"
)
_ABBREVIATION = re.compile(r"(?:gnu )?[al]?gpl")
_NAMES = [*_FAMILIES, *_PERMISSIVE]
_ALL = re.compile(
    f"(?P<gnu>{_GNU})|(?P<cc>{_CREATIVE_COMMONS})|"
    + "|".join(f"(?P<n{index}>{pattern})" for index, pattern in enumerate(_NAMES))
)
_BY_VERSION = {**_FAMILIES, **_PERMISSIVE}
_NEXT_VERSION = re.compile(rf"(?: license)?{_VERSION}(\d)(?: (\d))?\b")
# "GNU General Public License as published by the FSF, either version 2 of the License, or any later version".
_GNU_VERSION = re.compile(
    r"(?:\bversion|\bv|gpl|\blicense|\bgplv|\bpublic license v|^) ?v?([123])(?: (\d)\b)?(?! clause)"
)
_LATER = re.compile(
    r"\bor (?:\w+ ){0,5}?(?:later|newer|higher|greater|above)\b|\d(?: 0)? ?\+|\+|\bor later\b|\band above\b"
)
_GNU_REACH = 230
# An abbreviation is a statement only near one of these words: a tool may mention that it refuses the GPL.
_NEAR = re.compile(r"\b(?:under|licensed?|terms|version|v\d|copyleft|free software|\d)\b|\+|license ?$|\b[al]?gplv?\d")
_CC_PARTS = re.compile(r"\b(non ?commercial|nc)\b|\b(share ?alike|sa)\b|\b(no ?deriv\w*|nd)\b")
_CC_VERSION = re.compile(r"\b([1-4]) ([05])\b")
_CC_REACH = 70
PERMISSIVE_IDS = {spdx for versions in _PERMISSIVE.values() for spdx in versions.values()}


def find_names(words: str) -> list[Name]:
    """Return the licences that the words name, in order; a mention such as `no GPL` or `GPL licenses` is none."""
    names = []
    for match in _ALL.finditer(words):
        start, end = match.span()
        if match["gnu"]:
            spdx = _gnu_id(words, match)
        elif match["cc"]:
            spdx = _creative_commons_id(words, match)
        else:
            versions = _BY_VERSION[_NAMES[int(str(match.lastgroup)[1:])]]
            version = _NEXT_VERSION.match(words, end)
            number = " ".join(filter(None, version.groups())) if version else ""
            spdx = versions.get(number) or versions.get(number[:1]) or versions["*"]
            end = version.end() if version else end
        is_denied = re.search(
            r"\b(?:no|not|non|without|refuses?|incompatible with)(?: \w+){0,2} $", words[:start][-40:]
        )
        if spdx and not (is_denied and "not under" not in words[:start][-20:] and spdx not in PERMISSIVE_IDS):
            names.append(Name(spdx, start, end))
    # "You should have received a copy of the GNU General Public License" repeats a notice, without its version.
    known = {name.spdx for name in names}
    repeats = {spdx for spdx in known if spdx.replace("-only", "-or-later") in known - {spdx}}
    if any("GPL-" in spdx for spdx in known):
        repeats.add(GNU_NOTICE)
    return [name._replace(spdx="" if name.spdx in repeats else name.spdx) for name in names]


def _gnu_id(words: str, match: re.Match[str]) -> str:
    """Return the id of a GNU licence, with its version and -only or -or-later; "" if it is only mentioned."""
    before, after = words[max(0, match.start() - 60) : match.start()], words[match.end() : match.end() + _GNU_REACH]
    if _ABBREVIATION.fullmatch(match[0]) and not _NEAR.search(before + "|" + after[:25]):
        return ""
    if re.match(r"(?: compatible| incompatible)\b", after):
        return ""
    # The next name of a GNU licence has its own version.
    following = re.search(_GNU, after)
    reach = after[: following.start()] if following else after
    digits = re.search(r"(\d)$", match[0])
    version = None if digits else _GNU_VERSION.search(match[0][-1:] + reach if digits else reach)
    major, minor = (digits[1], None) if digits else version.groups() if version else ("", None)
    if digits and (more := re.match(r" (\d)\b", reach)):
        minor = more[1]
    family = "AGPL" if match["affero"] else "LGPL" if match["lesser"] else "GPL"
    number = f"{major}.{minor or ('1' if (family, major) == ('LGPL', '2') else '0')}"
    if f"{family}-{number}" not in {"AGPL-3.0", "LGPL-2.0", "LGPL-2.1", "LGPL-3.0", "GPL-1.0", "GPL-2.0", "GPL-3.0"}:
        return GNU_NOTICE
    return f"{family}-{number}-{'or-later' if _LATER.search(reach) else 'only'}"


def _creative_commons_id(words: str, match: re.Match[str]) -> str:
    """Return the id of one of Creative Commons' six licences; "" if the words only name the organisation."""
    reach = words[match.start() : match.end() + _CC_REACH]
    if re.match(r"creative commons (?:cc0|zero)|cc0", reach):
        return "CC0-1.0"
    parts = {
        name for found in _CC_PARTS.finditer(reach) for name, part in zip("NSD", found.groups(), strict=True) if part
    }
    if not parts and not re.search(r"\b(?:attribution|by)\b", reach):
        return NO_ID if "license" in reach else ""
    middle = "-NC" * ("N" in parts) + ("-ND" if "D" in parts else "-SA" if "S" in parts else "")
    version = _CC_VERSION.search(reach)
    return f"CC-BY{middle}-{'.'.join(version.groups()) if version else '4.0'}"
