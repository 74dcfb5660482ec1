"""What a text is like: the output of a program without a header, lines nobody writes, or encoded data."""

from __future__ import annotations

import re

# protoc-gen-doc's title; the tables of helm-docs and of an OpenAPI model, with one of their rows; and the pages that
# gen-crd-api-reference-docs and crd-ref-docs make from Kubernetes' types.
_GENERATED_DOCS = re.compile(
    r"\A\W*Protocol Documentation\W*$|"
    r"^\| Key \| Type \| Default \| Description \|\n\|[-|:]+\n\| \S+ \| \w+ \| `|"
    r"^\|? ?Name ?\| ?Type ?\| ?Description *\| ?Notes *\|?\n[-| :]+\n(?:\|? ?\*\*\w+\*\* ?\||\s)|"
    r"\bGenerated with <code>gen-crd-api-reference-docs|^<p>Packages:</p>$|^## Packages\n- \[[\w.-]+/v\d\w*\]\(#",
    re.MULTILINE,
)
# The label in a chart that Helm rendered; the chart's templates have a placeholder instead of the version. And the
# comment above each object that `helm template` writes.
_RENDERED = re.compile(r"^ *helm\.sh/chart: ['\"]?[\w.-]+-v?\d|^# Source: [\w.-]+/templates/", re.MULTILINE)
_RENDERED_OBJECTS = 5
# controller-gen notes its version in each custom resource definition.
_CONTROLLER_GEN = re.compile(r"^ +controller-gen\.kubebuilder\.io/version: \S", re.MULTILINE)
_ANNOTATED_LINES = 150
_GENERATED_ANNOTATION = re.compile(
    r"^\s*@(?:(?:javax?|jakarta)\.annotation\.(?:processing\.)?)?Generated\(|"
    r"^\s*\[(?:global::)?(?:System\.CodeDom\.Compiler\.)?GeneratedCode(?:Attribute)?\(",
    re.MULTILINE,
)
_META = re.compile(r"<meta\b[^<>]{0,500}>", re.IGNORECASE)
_GENERATOR = re.compile(r"\bname=[\"']?generator\b", re.IGNORECASE)
_HTML_HEAD_CHARS = 6_000
_BUNDLE = re.compile(r"webpackBootstrap|^/\*{6}/ |\b__webpack_require__\b", re.MULTILINE)
_SOURCE_MAP = re.compile(r"^/[/*][#@] ?source(?:Mapping)?URL=", re.MULTILINE)
_COMPILED_LANGUAGES = ("javascript", "css")

# The Stack's limit (Kocetkov et al., arXiv 2211.15533, section 2.2). Alone it would drop tests with one long query,
# so most of the text must be in such lines.
_LONG_LINE_CHARS = 1000
_MINIFIED_SHARE = 0.9
# linguist's limit on the mean length of a line of JavaScript or CSS.
_MEAN_LINE_CHARS = 110

# Base64 or hex in words that nobody writes, as a rule lines of 64 or 76 characters.
_WORD_CHARS = 60
_ENCODED_WORD = re.compile(r"[^A-Za-z0-9]{0,4}(?:\S*?base64,)?([A-Za-z0-9+/_-]{56,}={0,2})\W{0,8}")
_BYTES = re.compile(
    r"(?:(?:0x[0-9a-fA-F]{1,2}|'\\x[0-9a-fA-F]{2}')\s*,\s*){64,}|(?:\d{1,3}\s*,\s*){512,}|"
    r"(?:\\x[0-9a-fA-F]{2}|\\[0-7]{3}){16,}"
)
_MIN_ENCODED_CHARS = 4_000
_ENCODED_SHARE = 0.5
_MAX_ENCODED_CHARS = 64_000


def output_reason(text: str, language: str) -> str | None:
    """Return `generated` for the output of a program that has no header, or another mark than a header."""
    found = False
    if language in ("markdown", "restructuredtext"):
        found = bool(_GENERATED_DOCS.search(text))
    elif language in ("yaml", "helm"):
        is_rendered = text.count("\nkind: ") >= _RENDERED_OBJECTS and bool(_RENDERED.search(text))
        found = is_rendered or ("controller-gen" in text and bool(_CONTROLLER_GEN.search(text)))
    elif language in ("java", "kotlin", "scala", "groovy", "c#"):
        head = "\n".join(text.split("\n", _ANNOTATED_LINES)[:_ANNOTATED_LINES])
        found = "Generated" in head and bool(_GENERATED_ANNOTATION.search(head))
    elif language == "html":
        tags = _META.findall(text[:_HTML_HEAD_CHARS])
        # A tag with a placeholder is that of a site's template.
        found = any(_GENERATOR.search(tag) and "{" not in tag for tag in tags)
    elif language in _COMPILED_LANGUAGES:
        found = bool(_BUNDLE.search(text[:2_000]) or _SOURCE_MAP.search(text[-500:]))
    return "generated" if found else None


def statistics_reason(text: str, kind: str, language: str = "") -> str | None:
    """Return `encoded` for text that is mostly data, or `minified` for code in lines longer than anyone writes.

    Prose and configuration may have long lines.
    """
    if len(text) <= _LONG_LINE_CHARS:
        return None
    if is_encoded(text):
        return "encoded"
    if kind not in ("source", "test"):
        return None
    if language in _COMPILED_LANGUAGES and len(text) > _MEAN_LINE_CHARS * (text.count("\n") + 1):
        return "minified"
    in_long_lines = sum(length for length in map(len, text.splitlines()) if length > _LONG_LINE_CHARS)
    return "minified" if in_long_lines > _MINIFIED_SHARE * len(text) else None


def is_encoded(text: str) -> bool:
    """Whether base64, hex and lists of bytes are half of the text, or more than 64,000 characters of it.

    StarCoder 2 left out files by the same two signs (Lozhkov et al., arXiv 2402.19173), though from 1,024 characters
    on: but an icon in a style sheet is not a reason to lose it.
    """
    num_chars = 0
    for word in text.split():
        if len(word) >= _WORD_CHARS and (found := _ENCODED_WORD.match(word)) and _is_mixed(found[1]):
            num_chars += len(found[1])
    # A list of bytes has many commas, an escaped string many backslashes.
    if 6 * text.count(",") > len(text) or 8 * text.count("\\x") > len(text) or text.count("0x") > 256:
        num_chars += sum(len(found[0]) for found in _BYTES.finditer(text))
    if num_chars < _MIN_ENCODED_CHARS:
        return False
    return num_chars > _MAX_ENCODED_CHARS or num_chars > _ENCODED_SHARE * len(text)


def _is_mixed(run: str) -> bool:
    """Whether a long run has letters and digits, as encoded data does, and a name or a row of dashes does not."""
    return sum(char.isdigit() for char in run[:200]) > 2 and sum(char.isalpha() for char in run[:200]) > 2
