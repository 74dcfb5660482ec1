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
            rf"\b{_VERBS}\b.{{0,80}}?\b(?:is|are) (?:hereby )?(?:prohibited|forbidden) (?:without|unless|except)",
            r"\b(?:copying|reproduction|redistribution|dissemination|duplication)\b.{0,80}?\b(?:is|are) (?:hereby )?"
            r"(?:prohibited|forbidden|not (?:permitted|allowed|authori[sz]ed))",
            r"\bgranted (?:only\b|to (?:\w+ ){1,5}only\b)",
            rf"\bunauthori[sz]ed (?:access|{_VERBS})",
            rf"\b{_VERBS}\b.{{0,160}}?\bwithout\b(?! (?:fee|restriction|limitation|charge|royalty|any warrant|"
            rf"warrant|modification)).{{0,60}}?\b(?:permission|consent|authori[sz]ation|approval|agreement|license)",
            rf"\b(?:may|must|can|shall) ?not be (?:\w+ ){{0,3}}{_VERBS}",
            rf"\bmay (?:be {_VERBS} only|only be {_VERBS}) (?!for|when|if|once)",
            r"\b(?:do|must|may|shall) ?not (?:copy|redistribute|disclose|reproduce)\b(?! (?:this|"
            r"the) (?:pattern|approach))",
            r"\bdo not distribute (?:outside|this|without|or|externally|further)",
            r"\bnot for (?:public |general |external |further )?(?:distribution|release|redistribution|"
            r"disclosure|commercial)",
            r"\ball rights (?:are )?(?:strictly )?reserved (?:do not|no part|may not|unauthori|confidential|"
            r"proprietary|strictly)",
            r"\bno (?:license|rights?|part of)\b.{0,90}?\b(?:granted|implied|reproduced|copied|may be|conferred)",
            r"\bno license (?:is |to )|\bnot open source\b|\bsource available\b|\bfor good not evil\b",
            # secret, or owned
            r"\b(?:copyright|rights reserved)\b.{0,80}?\bconfidential\b(?! (?:comput|client|container|vm|environment))",
            r"\bproprietary confidential\b|\bconfidential proprietary\b|\buse is subject to license terms\b",
            r"\b(?:proprietary|confidential) (?:and|or|to|information|property|material|software|source|code|"
            r"notice|license|"
            r"unpublished|rights|trade|do not|not for)(?! (?:comput|client|container|vm|environment))",
            r"\b(?:company|inc|corp|corporation|ltd|llc|gmbh|co|only|internal) confidential\b|"
            r"\bis proprietary\b|\bunder nda\b",
            r"\bnon ?disclosure agreement|\btrade secrets?\b|\bunpublished (?:work|source|proprietary|rights)",
            r"\blicensed materials? property|\brestricted (?:rights|materials?)",
            r"\b(?:sole|exclusive|intellectual|confidential|proprietary) property of|"
            r"\bis (?:and remains )?(?:the )?property of",
            # under an agreement
            r"\b(?:terms|conditions|accordance|subject|pursuant|governed|bound)\b.{0,80}?\b(?:license|licensing|"
            r"software|user|"
            r"nda|subscription|purchase|commercial|master|customer|service|evaluation) agreement",
            r"\bend user license|\beula\b|\bcommercial license|\bfurnished under (?:a )?license",
            r"\bin consideration of your agreement|\bconstitutes (?:your )?acceptance|"
            r"\byour use of .{0,80}?express license",
            # for some purposes only
            rf"\b{_PURPOSES}(?: scientific| and \w+| or \w+)? (?:uses?|usage|purposes?|research)(?: purposes?)? only",
            rf"\bonly (?:be used )?for {_PURPOSES}|\bfor {_PURPOSES}(?: and| or)? .{{0,40}}?purposes? only|"
            rf"\bfor non ?commercial",
            r"\bno commercial (?:use|purposes?)|\bcommercial (?:use|usage|purposes?)(?: of this \w+)? (?:is |are )?"
            r"(?:not|prohibited|forbidden|requires?)",
            r"\b(?:requires?|need|obtain) (?:a |an )?(?:separate |valid |paid )?commercial "
            r"(?:license|agreement|subscription)",
        ]
    )
)
# The same in other languages, wherever the notice also speaks of rights.
RIGHTS_ABROAD = re.compile(
    r"alle rechte|rechte vorbehalten|urheberrecht|vertraulich|droits? r[ée]serv|confidentiel|"
    r"derechos reservados|propiedad|"
    r"direitos reservados|diritti riservati|riservat[oi]|版权|版權|保密|机密|機密|著作権|무단|저작권|авторск|права"
)
FORBIDDEN_ABROAD = re.compile(
    r"verboten|untersagt|nicht gestattet|vertraulich|interdit|confidentiel|prohibid|proibid|vietat|confidencial|"
    r"riservat|"
    r"未经|未經|禁止|不得|保密|机密|機密|無断|금지|запрещ"
)
# A line that consists of the word, or of a company and the word.
CONFIDENTIAL_LINE = re.compile(
    r"^[^\w\n]*(?:[A-Z][\w.,&-]*[ \t]){0,4}(?:CONFIDENTIAL|PROPRIETARY|Confidential|Proprietary|TOP SECRET|"
    r"RESTRICTED)[^\w\n]*"
    r"(?:AND (?:CONFIDENTIAL|PROPRIETARY)[^\w\n]*)?$",
    re.MULTILINE,
)
