"""What a path says of its file: language, kind, and reasons not to read it. No bytes are looked at."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from identify import identify

# identify's tag → language, for the types worth learning from; the first tag that a file has, in this order, wins.
LANGUAGES = {
    "pyi": "python",
    "python": "python",
    "go": "go",
    "go-mod": "go-mod",
    "tsx": "typescript",
    "ts": "typescript",
    "jsx": "javascript",
    "javascript": "javascript",
    "proto": "protobuf",
    "bazel": "starlark",
    "shell": "shell",
    "dockerfile": "dockerfile",
    "makefile": "makefile",
    "c++": "c++",
    "c": "c",
    "cuda": "cuda",
    "rust": "rust",
    "java": "java",
    "kotlin": "kotlin",
    "scala": "scala",
    "sql": "sql",
    "graphql": "graphql",
    "terraform": "terraform",
    "gotmpl": "template",
    "jinja": "template",
    "html": "html",
    "scss": "scss",
    "css": "css",
    "markdown": "markdown",
    "rst": "restructuredtext",
    "asciidoc": "asciidoc",
    "yaml": "yaml",
    "toml": "toml",
    "ini": "ini",
}
_DOCS = {"markdown", "restructuredtext", "asciidoc"}
_CONFIG = {"yaml", "toml", "ini", "go-mod", "dockerfile", "makefile", "starlark", "terraform"}
# Helm and Flyte keep Go templates in .tpl and .tmpl files, which identify does not know.
_TEMPLATE_SUFFIXES = {".tpl", ".tmpl"}

_TEST_FOLDERS = {"test", "tests", "__tests__", "testing", "testdata"}
_TEST_FILE = re.compile(r"(^test_.*|.*_test)\.(py|go)$|\.(test|spec)\.[jt]sx?$|^conftest\.py$")
_VENDOR_FOLDERS = {"vendor", "node_modules", "third_party", "_vendor", "site-packages", "boilerplate"}
_LOCK_FILES = re.compile(
    r"^(go\.sum|go\.work\.sum|package-lock\.json|npm-shrinkwrap\.json|pnpm-lock\.ya?ml|yarn\.lock|cargo\.lock|"
    r"poetry\.lock|uv\.lock|pdm\.lock|pipfile\.lock|gopkg\.lock|chart\.lock|requirements.*\.txt)$"
)
_LICENCE_FILE = re.compile(r"^(licen[cs]e|copying|notice|copyright)(-[\w.-]+)?(\.(md|rst|txt))?$")
_CHANGELOG_FILE = re.compile(
    r"^(changelog|changes|history|release[-_]?notes|code_of_conduct|contributors)(\.(md|rst|txt))?$"
)
_GENERATED_FILE = re.compile(r"(\.pb(\.\w+)?\.go|_pb2(_grpc)?\.pyi?|\.min\.(js|css)|\.swagger\.json|_enumer\.go)$")


def path_reason(path: str) -> str | None:
    """Why a file is left out for its path alone; None if it is not.

    `name` is a path that is not UTF-8 or holds control characters, and would not survive a log or a table.
    """
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in path):
        return "name"
    *folders, name = (part.lower() for part in PurePosixPath(path).parts)
    if not _VENDOR_FOLDERS.isdisjoint(folders):
        return "vendored"
    for pattern, reason in ((_LOCK_FILES, "lock"), (_LICENCE_FILE, "licence"), (_CHANGELOG_FILE, "changelog")):
        if pattern.match(name):
            return reason
    if _GENERATED_FILE.search(name):
        return "generated"
    return None if language_of(path) else "type"


def language_of(path: str) -> str | None:
    """The language by file name; None for types that are not learned from."""
    if PurePosixPath(path).suffix in _TEMPLATE_SUFFIXES:
        return "template"
    tags = identify.tags_from_filename(path)
    return next((language for tag, language in LANGUAGES.items() if tag in tags), None)


def kind_of(path: str, language: str) -> str:
    """source, test, docs or config."""
    *folders, name = (part.lower() for part in PurePosixPath(path).parts)
    if language in _DOCS:
        return "docs"
    if _TEST_FILE.search(name) or not _TEST_FOLDERS.isdisjoint(folders):
        return "test"
    return "config" if language in _CONFIG else "source"


def is_licence(path: str) -> bool:
    """Whether the file states the licence of the whole source: at its root, or among a distribution's metadata."""
    *folders, name = PurePosixPath(path).parts
    named = re.match(r"^(licen[cs]e|copying)([-.].*)?$", name.lower()) is not None
    return named and (not folders or folders[0].endswith(".dist-info"))
