"""Words that withhold rights, and words that only sound so: the data that `words` searches with.

Most patterns match words in lower case with one blank between them and no punctuation.
"""

from __future__ import annotations

import re

# What permissive licences and references to the licence file say, which sounds like a restriction or a name.
HARMLESS = re.compile(
    r"you may not use this (?:\w+ ){1,4}except in compliance with (?:the|this) license|"
    r"may not be copied modified or distributed except according to those terms|"
    r"(?:under one or more )?contributor license agreements?|"
    r"see the license for the specific language governing permissions and limitations(?: under the license)?|"
    r"unless required by applicable law .{0,150}? express or implied|"
    r"(?:neither )?the names? of .{0,250}? (?:written (?:prior )?(?:permission|authori[sz]ation|consent)|"
    r"permission from \w+)|"
    r"(?:may|shall|must) not be used (?:to endorse|in advertising) .{0,250}? (?:permission|authori[sz]ation|consent)|"
    r"(?:for|including) (?:any|both|all|commercial)(?: \w+){0,3} (?:and|or) non ?commercial (?:use|purposes?|"
    r"applications?)|"
    r"(?:non ?commercial|commercial) (?:and|or) (?:non ?commercial|commercial)|"
    r"including commercial (?:applications|use|purposes)|"
    r"(?:no|without(?: any)?) (?:warranty|warranties)\b.{0,60}"
)
# Rights withheld. Each needs words of the law around it, because code speaks of confidential clients too.
_VERBS = (
    r"(?:copying|reproduction|distribution|redistribution|duplication|dissemination|disclosure|transmission|"
    r"modification|"
    r"use|usage|copied|reproduced|distributed|redistributed|disclosed|used|modified|published|transmitted|sold|shared|"
    r"duplicated|transferred|decompiled|reversed?)"
)
_PURPOSES = r"(?:non ?commercial|academic|research|evaluation|personal)"
WITHHELD = re.compile(
    "|".join(
        [
            # forbidden, or only with a permission
            r"\b(?:strictly|expressly) (?:prohibited|forbidden|confidential)",
            r"\b(?:copying|reproduction|redistribution|dissemination|duplication)\b.{0,80}?\b(?:is|are) (?:hereby )?"
            r"(?:prohibited|forbidden|not (?:permitted|allowed|authori[sz]ed))",
            r"\b(?:copying|reproduction|distribution|redistribution|dissemination|duplication|disclosure) "
            r"(?:prohibited|forbidden|not (?:permitted|allowed|authori[sz]ed))",
            r"\bgranted (?:only\b|to (?:\w+ ){1,5}only\b)",
            rf"\bunauthori[sz]ed (?:{_VERBS}|access (?:\w+ ){{0,6}}?(?:prohibited|forbidden))",
            rf"\b{_VERBS}\b.{{0,80}}?\bwithout (?:\w+ ){{0,3}}?(?:prior|express\w*|explicit|written)(?: \w+){{0,3}}? "
            rf"(?:permission|consent|authori[sz]ation|approval|agreement|license)",
            rf"\bmay not be (?:\w+ ){{0,3}}?{_VERBS} without permission",
            r"\bdo not use (?:\w+ ){0,3}?without (?:\w+ ){0,3}?(?:license|permission|consent) (?:from|of)",
            r"\bmay ?not be (?:\w+ ){0,3}(?:copied|reproduced|distributed|redistributed|disclosed|duplicated)",
            r"\b(?:do|must|may|shall) ?not (?:copy|redistribute|disclose|reproduce)\b(?! (?:this|"
            r"the) (?:pattern|approach))",
            r"\bdo not distribute (?:outside|this|without|or|externally|further)",
            r"\bnot for (?:public |general |external |further )?(?:distribution|release|redistribution|"
            r"disclosure|commercial)",
            r"\ball rights (?:are )?(?:strictly )?reserved (?:do not|no part|may not|unauthori|confidential|"
            r"proprietary|strictly)",
            r"\bno (?:license|rights?|part of)\b.{0,90}?\b(?:granted|implied|reproduced|copied|conferred)",
            r"\bnot open source\b|\bsource available\b|\bfor good not evil\b",
            # secret, or owned
            r"\b(?:copyright|rights reserved)\b.{0,80}?\bconfidential\b(?! (?:comput|client|container|vm|environment))",
            r"\bprivate (?:and )?confidential\b(?! (?:comput|client|container|vm|environment))",
            r"\bproprietary (?:and )?confidential\b|\bconfidential (?:and )?proprietary\b|"
            r"\buse is subject to license terms\b",
            r"\b(?:proprietary|confidential) (?:information|property|notice|unpublished|rights|trade|do not|not for)",
            r"\b(?:company|inc|corp|corporation|ltd|llc|gmbh|co|only|internal) confidential\b|\bunder nda\b",
            r"\bnon ?disclosure agreement|\btrade secrets?\b|\bunpublished (?:work|source|proprietary|rights)",
            r"\blicensed materials? property|\brestricted (?:rights|materials?)",
            r"\b(?:sole|exclusive|intellectual|confidential|proprietary) property of|"
            r"\bis and remains (?:the )?property of",
            # under an agreement
            r"\b(?:accordance|subject|pursuant|governed|bound)\b.{0,80}?\b(?:license|licensing|software|user|"
            r"nda|subscription|purchase|commercial|master|customer|service|evaluation) agreement",
            r"\b(?:subject|governed|bound|pursuant|licensed|distributed|provided)\b(?: \w+){0,8}? "
            r"(?:eula|end user license|commercial license)\b",
            r"\bfurnished under (?:a )?license",
            r"\bin consideration of your agreement|\bconstitutes (?:your )?acceptance|"
            r"\byour use of .{0,80}?express license",
            # for some purposes only
            rf"\b{_PURPOSES}(?: scientific| and \w+| or \w+)? (?:uses?|usage|purposes?|research)(?: purposes?)? only",
            rf"\bonly (?:be used )?for {_PURPOSES}|\bfor {_PURPOSES}(?: and| or)? .{{0,40}}?purposes? only|"
            rf"\bfor non ?commercial",
            rf"\bfree for {_PURPOSES} use\b",
            r"\bno commercial (?:use|purposes?)|\bcommercial (?:use|usage|purposes?)(?: of this \w+)? (?:is |are )?"
            r"(?:not|prohibited|forbidden|requires?)",
        ]
    )
)
# Documentation says the following too, about licence keys, policies or protocols, so they count only in a comment that
# also has an `OWNER`.
WITHHELD_BY_OWNER = re.compile(
    "|".join(
        [
            rf"\b{_VERBS}\b.{{0,80}}?\b(?:is|are) (?:hereby )?(?:prohibited|forbidden) (?:without|unless|except)",
            r"\bunauthori[sz]ed access",
            rf"\b{_VERBS}\b.{{0,160}}?\bwithout\b(?! (?:fee|restriction|limitation|charge|royalty|any warrant|"
            rf"warrant|modification)).{{0,60}}?\b(?:permission|consent|authori[sz]ation|approval|agreement|license)",
            rf"\b(?:may|must|can|shall) ?not be (?:\w+ ){{0,3}}{_VERBS}",
            rf"\bmay (?:be {_VERBS} only|only be {_VERBS}) (?!for|when|if|once)",
            r"\bno (?:license|rights?|part of)\b.{0,90}?\bmay be|\bno license (?:is |to )",
            r"\b(?:proprietary|confidential) (?:and|or|to|material|software|source|code|license)"
            r"(?! (?:comput|client|container|vm|environment))|\bis proprietary\b|\bis (?:the )?property of",
            r"\b(?:terms|conditions)\b.{0,80}?\b(?:license|licensing|software|user|nda|subscription|purchase|"
            r"commercial|master|customer|service|evaluation) agreement",
            r"\b(?:end user license(?: agreement)?|eula|commercial license)\b(?! (?:keys?|server|files?|check\w*|"
            r"manager|dialog\w*|page|prompt|window|screen|view|button|form|url|id|code|type|header|text|is accepted))",
            rf"\b(?:internal|in house) use only\b|\bfor {_PURPOSES}(?: use)? only\b|\b(?:evaluation|trial) version\b",
            r"\bnur f(?:ü|ue|u)r (?:\w+ )?internen\b|\b(?:usage interne|uso interno)\b",
            r"\b(?:requires?|need|obtain) (?:a |an )?(?:separate |valid |paid )?commercial "
            r"(?:license|agreement|subscription)(?! (?:keys?|server|files?)\b)",
        ]
    )
)
# A comment names an owner, or speaks of its file.
OWNER = re.compile(
    r"copyright|©|\(c\)|rights reserved|(?-i:[Pp]roperty of [A-Z])|"
    r"\bthis (?:\w+ )?(?:file|software|source|code|program|work|product|material|document)s?\b|"
    r"\b(?:inc|corp|corporation|ltd|llc|gmbh|plc|s\.a)\b",
    re.IGNORECASE,
)
# The same in other languages, wherever the notice also speaks of rights.
RIGHTS_ABROAD = re.compile(
    r"alle rechte|rechte vorbehalten|weitergabe|vervielfältig|internen gebrauch|\bdiffusion\b|distribuci[oó]n|内部使用|"
    r"社外秘|urheberrecht|vertraulich|droits? r[ée]serv|confidentiel|"
    r"derechos reservados|propiedad|"
    r"direitos reservados|diritti riservati|riservat[oi]|版权|版權|保密|机密|機密|著作権|무단|저작권|авторск|права"
)
FORBIDDEN_ABROAD = re.compile(
    r"verboten|untersagt|nicht (?:gestattet|erlaubt)|nur für (?:\w+ )?internen|内部使用|社外秘|"
    r"vertraulich|interdit|confidentiel|prohibid|proibid|vietat|confidencial|"
    r"riservat|"
    r"未经|未經|禁止|不得|保密|机密|機密|無断|금지|запрещ"
)
# A line that consists of the word, or of a company and the word.
CONFIDENTIAL_LINE = re.compile(
    r"^[^\w\n]*(?:[A-Z][\w.,&-]*[ \t]){0,4}(?:CONFIDENTIAL|PROPRIETARY|Confidential|Proprietary|TOP SECRET|"
    r"RESTRICTED)[^\w\n]*"
    r"(?:AND (?:CONFIDENTIAL|PROPRIETARY)[^\w\n]*)?$|"
    r"(?i:^[^\w\n]*(?:\w+[ \t]){0,2}proprietary[ \t](?:software|(?:source[ \t])?code|licen[cs]e)"
    r"(?:[ \t](?:of|by)[ \t]\w+)?[^\w\n]*$|"
    r"^[^\w\n]*commercial[ \t]licen[cs]e(?:[ \t](?:required|only|usage))?[^\w\n]*$)",
    re.MULTILINE,
)
# A whole sentence of a notice, in the text as it is. Code says "Do not distribute the keys over shards", too.
SENTENCE = re.compile(
    r"(?:^|[.!;:,])[^\w\n]{0,20}(?:please )?(?:do not (?:re)?distribute|no redistribution)[ \t]*"
    r"(?:[.!]|[^\w\n]{0,20}(?:\Z|\n[^\w\n]*(?:\n|\Z)))|"
    r"\bdo not share outside\b|"
    r"^[^\w\n]*(?:for[ \t])?(?!for\b)(?-i:[A-Z])\w+[ \t]internal use only\b|"
    r"(?:\A|\f)[^\w\f]*for (?:evaluation|trial|demo|academic|research|personal)(?: use)? only[^\w\f]*(?:\f|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
