"""Licence files: which names they have, where a link or a reference to one leads, and what a whole file states.

A page about the licence, which only includes it, links to it or has nothing but a heading, states none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from posixpath import basename, dirname, join, normpath, splitext

from flyte_llama.documents.licences.headers import family_of
from flyte_llama.documents.licences.spdx import canonical_spdx, join_spdx
from flyte_llama.documents.licences.statement import NOTHING, Statement, unrecognised
from flyte_llama.documents.licences.texts import text_spdx
from flyte_llama.documents.licences.words import words_statement

FAMILIES = r"(?:agpl|lgpl|gpl|gnu|mit|bsd|apache|asl|mpl|isc|epl|eupl|cddl|zlib|boost|ofl|unlicense|busl|sspl)"
# The names that licensee and go-license-detector look for: LICENSE, LICENCE.rst, COPYING3, COPYING.LESSER, LICENSE-MIT,
# MIT-LICENSE, LICENSE_1_0.txt, LICENSE.BSD, UNLICENSE, gpl-3.0.txt.
_STRONG = re.compile(
    r"^(?:[\w.]+?[-_. ])?(?:licen[cs]e|copying|eula)\d*(?:[-_. (][\w.+() -]*)?$|^unlicen[cs]e(?:\.\w+)?$"
)
# These may also hold something else, such as the sources of zlib, and count only if they speak of a licence.
_WEAK = re.compile(
    rf"^{FAMILIES}(?:[-_ v.]*\d[\d.]*)?(?:-only|-or-later)?(?:-clause)?(?:\.(?:txt|md|html))?$|"
    r"^(?:[\w.]+?[-_. ])?(?:copyrights?|copyleft|licen[cs]es|patents?|legal)\d*(?:[-_. ][\w.+() -]*)?$|"
    r"^[\w.-]+\.licen[cs]e$"
)
# In a page of prose, a longer name is about something else, such as license-keys.md.
_PAGE = re.compile(
    rf"^(?:(?:{FAMILIES}|product|software|source|code|project)[\w.]*[-_. ])?(?:(?:un)?licen[cs]es?|copying|"
    rf"copyrights?|eula|patents?)"
    rf"\d*(?:[-_. ](?:{FAMILIES}|lesser|lib|runtime|code|docs?|documentation|text|content|data|assets?|media|"
    rf"fonts?|art|images?|"
    r"commercial|enterprise|ee|agreement|eula|v?\d)[\w.+-]*)?$"
)
_PAGE_SUFFIX = re.compile(r"\.(?:md|markdown|mdown|mkd|rst|rest|html?|adoc|asciidoc|textile|org)$")
# Parts of a name that tell of a tool, of a template, or of the licences of things outside the tree.
_ABOUT_OTHERS = re.compile(
    r"header|template|tmpl|\.tpl|check|report|\blist|manag|plugin|config|scan|boilerplate|generat|whitelist|allow|deny|"
    r"third[-_. ]?part|3rd[-_. ]?part|3rdp|dependenc|notices?\b|\.spdx|\.in$|faq|policy|guide|howto|update|add[-_]"
)
# What may follow the last dot of a name: nothing else, since `license.tf` and `License.hs` are code.
_SUFFIX = re.compile(
    r"(?:licen[cs]es?|copying|copyrights?|copyleft|patents?|eula|legal).*\.(?P<suffix>[^.]*)$", re.IGNORECASE
)
_TEXT_SUFFIX = re.compile(
    rf"^(?:te?xt|md|markdown|mdown|mkd|rst|rest|html?|adoc|asciidoc|textile|org|rtf|pdf|docx?|odt|tex|"
    rf"(?:un)?licen[cs]es?|copying|copyrights?|copyleft|patents?|eula|v?\d[\w+() -]*|"
    rf"(?:{FAMILIES}|lesser|lib|runtime|code|sources?|docs?|documentation|content|data|assets?|media|fonts?|art|images?|"
    r"commercial|enterprise|ee|community|academic|proprietary|agreement|old|orig|en|de|fr|es|ja|zh|cn)"
    r"(?:[\d+_ -].*)?)$"
)
# LICENSE.libyaml is named for whose code it is about; only these are something else there.
_CODE_SUFFIX = re.compile(
    r"^(?:go|pyi?|[cm]?[jt]sx?|json\w*|ya?ml|csv|tsv|xml|sh|rb|rs|java|c|cc|cpp|cs|h|hpp|php|toml|ini|cfg|png|jpe?g|gif|svg|"
    r"key|pem|sig|asc|lock|log|header|spdx|template|j2|erb|tmpl|tpl|zip|gz|map|snap)$"
)
REUSE_FOLDER = "LICENSES"
_MAX_LINKS = 40
# A page about the licence has at most this many words outside of its title, directives and links.
_MAX_PAGE_WORDS = 60
_MAX_PAGE_CHARS = 3000
_DIRECTIVE = re.compile(
    r"^[ \t]*\.\. *(?:\w+ *)?(?:literal)?(?:md)?include::[^\n]*(?:\n[ \t]+:[^\n]*)*|^[ \t]*\.\. [^\n]*$|"
    r"^[ \t]*:[\w-]+:[^\n]*$|"
    r"^[`~:]{3,} *\{(?:literal)?include\}.*?^[`~:]{3,}[ \t]*$|\{%-? *include.*?%\}|^-+8<-+[^\n]*|^include::[^\n]*|"
    r"<!--.*?-->|^---\n.*?\n---[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_INCLUDES = re.compile(r"include\w*(?:::|[-\w]*\}| |\()|8<-", re.IGNORECASE)
_LINK = re.compile(
    r"\[[^\]\n]*\]\([^)\n]*\)|`[^`\n]*<[^>\n]*>`_*|<a\b[^>]*>.*?</a>|https?://\S+", re.IGNORECASE | re.DOTALL
)
_TITLE = re.compile(r"^#+[^\n]*|^=+ [^\n]*|^[^\n]*\n[=~^*#\"'-]{3,}[ \t]*$", re.MULTILINE)
_PATH = re.compile(r"[\w./+@-]*\w")
# A grant of patents, as in Go's repositories, only adds rights.
_ADDS_RIGHTS = re.compile(
    r"additional (?:ip rights )?grant (?:of patent rights|patents)|additional ip rights grant", re.IGNORECASE
)


def states_licence(path: str) -> bool:
    """Whether the file may state the licence of its folder, by its name; `LICENSES/` of REUSE counts too."""
    name = basename(path).lower()
    if basename(dirname(path)) == REUSE_FOLDER and reuse_spdx(path):
        return True
    if _ABOUT_OTHERS.search(name) or not _is_text(basename(path)) or not (_STRONG.match(name) or _WEAK.match(name)):
        return False
    stem = _PAGE_SUFFIX.sub("", name)
    return stem == name or _PAGE.match(stem) is not None or re.match(rf"{FAMILIES}\b", stem) is not None


def _is_text(name: str) -> bool:
    """Whether a name with the word licence, or one like it, is not that of code or data, by its suffix."""
    if not (match := _SUFFIX.search(name)):
        return True
    suffix = match["suffix"].lower()
    is_upper = name[: match.start("suffix")].isupper()
    return bool(_TEXT_SUFFIX.match(suffix)) or (is_upper and not _CODE_SUFFIX.match(suffix))


def reuse_spdx(path: str) -> str:
    """Return the id that the name of a file in `LICENSES/` gives; "" for exceptions and other files."""
    return canonical_spdx(splitext(basename(path))[0]) or canonical_spdx(basename(path))


def file_statement(path: str, text: str, texts: Mapping[str, str]) -> Statement:
    """Return what a licence file states about its folder.

    Args:
        texts: Path → text of all licence files, for a file that only refers to another one.
    """
    if text.startswith("#!"):
        return NOTHING
    is_weak = not _STRONG.match(basename(path).lower())
    spdx = text_spdx(text)
    if basename(dirname(path)) == REUSE_FOLDER and (named := reuse_spdx(path)):
        same = not spdx or {family_of(part) for part in spdx.split()} == {family_of(part) for part in named.split()}
        return Statement(named if same else join_spdx([named, spdx]))
    if spdx:
        return Statement(spdx)
    if is_weak and _ADDS_RIGHTS.search(text):
        return NOTHING
    words = words_statement(text)
    # A long text is no page about the licence.
    plain = _LINK.sub(" ", _TITLE.sub(" ", _DIRECTIVE.sub(" ", text))) if len(text) <= _MAX_PAGE_CHARS else text
    if len(plain.split()) <= _MAX_PAGE_WORDS and len(text) <= _MAX_PAGE_CHARS:
        # a page that refers to other files, or has a title alone
        if targets := _targets(path, text, texts):
            stated = [file_statement(target, texts[target], {}) for target in targets]
            unknown = [statement for statement in stated if statement.unknown]
            return (
                unknown[0]
                if unknown
                else Statement(join_spdx(statement.spdx for statement in stated if statement.spdx))
            )
        if words != NOTHING:
            return words
        is_reference = plain != text and (_INCLUDES.search(text) or _LINK.search(text) or not re.search(r"\w", plain))
        if is_reference or not re.search(r"\w", text):
            return NOTHING
    elif is_weak and words != NOTHING:
        return words
    return NOTHING if is_weak else unrecognised(text)


def _targets(path: str, text: str, texts: Collection[str]) -> list[str]:
    """Return the other licence files that a short text names by their paths."""
    candidates = {normpath(join(dirname(path), word)) for word in _PATH.findall(text)}
    return sorted(candidate for candidate in candidates if candidate in texts and candidate != path)


def resolve_link(path: str, links: Mapping[str, str]) -> str | None:
    """Return the path in the tree where a symlink leads, through any other ones; None outside of the tree or in a loop.

    Args:
        links: Path → target, as written, of each symlink of the tree.
    """
    for _ in range(_MAX_LINKS):
        parts = path.split("/")
        heads = ("/".join(parts[: index + 1]) for index in range(len(parts)))
        link = next((head for head in heads if head in links), None)
        if link is None:
            return path
        target = links[link]
        path = normpath(join(dirname(link), target, path[len(link) + 1 :]))
        if target.startswith("/") or path == ".." or path.startswith("../"):
            return None
    return None
