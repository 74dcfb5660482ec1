"""The language of a file by its name, and the kind of document it is. No bytes are looked at."""

from __future__ import annotations

import re
from collections.abc import Collection
from posixpath import basename, splitext

from identify import identify

# identify's tag → language, for the types worth learning from; the first tag that a file has, in this order, wins.
LANGUAGES = {
    "jupyter": "notebook",
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
    "batch": "batch",
    "powershell": "powershell",
    "dockerfile": "dockerfile",
    "makefile": "makefile",
    "cmake": "cmake",
    "groovy": "groovy",
    "c++": "c++",
    "c": "c",
    "cuda": "cuda",
    "rust": "rust",
    "java": "java",
    "kotlin": "kotlin",
    "scala": "scala",
    "c#": "c#",
    "swift": "swift",
    "ruby": "ruby",
    "php": "php",
    "lua": "lua",
    "perl": "perl",
    "r": "r",
    "julia": "julia",
    "haskell": "haskell",
    "sql": "sql",
    "graphql": "graphql",
    "terraform": "terraform",
    "nix": "nix",
    "gotmpl": "template",
    "jinja": "template",
    "html": "html",
    "vue": "vue",
    "svelte": "svelte",
    "scss": "scss",
    "sass": "scss",
    "less": "less",
    "css": "css",
    "mdx": "markdown",
    "markdown": "markdown",
    "rst": "restructuredtext",
    "asciidoc": "asciidoc",
    "yaml": "yaml",
    "toml": "toml",
    "ini": "ini",
    "editorconfig": "ini",
}
_BY_NAME = {"codeowners": "codeowners", "manifest.in": "manifest", "tiltfile": "starlark"}
_BY_SUFFIX = {
    ".tpl": "template",
    ".tmpl": "template",
    ".template": "template",
    ".mdx": "markdown",
    ".star": "starlark",
    ".r": "r",
    ".jl": "julia",
    ".hs": "haskell",
    ".cfg": "ini",
    ".conf": "ini",
}
_REQUIREMENTS = re.compile(r"(^|[-_.])(requirements|constraints)[\w.-]*\.(in|txt)$")
_IGNORE_LIST = re.compile(r"^\.\w+ignore$")
# Of a template's name, as of config.yaml.in.
_INPUTS = re.compile(r"(\.in)+$", re.IGNORECASE)
# git's hooks are scripts without a suffix.
_HOOK = re.compile(r"^(pre|post|prepare|commit)-[a-z-]+$")
KNOWN = {*LANGUAGES.values(), *_BY_NAME.values(), *_BY_SUFFIX.values(), "helm", "requirements", "shell", "ignore-list"}
"""Every language that a path can have; a notebook may be in another."""

_DOCS = {"markdown", "restructuredtext", "asciidoc"}
_CONFIG = {
    *("yaml", "helm", "toml", "ini", "go-mod", "requirements", "dockerfile", "makefile", "cmake", "starlark"),
    *("terraform", "ignore-list", "codeowners", "manifest"),
}

_TEST_FOLDERS = {"test", "tests", "__tests__", "testing", "testdata"}
_TEST_FILE = re.compile(r"(^test_.*|.*_test)\.(py|go)$|\.(test|spec)\.[jt]sx?$|^conftest\.py$")


def language_of(path: str, charts: Collection[str] = ()) -> str | None:
    """The language; None for types that are not learned from.

    Args:
        charts: Folders of Helm charts: what lies in their `templates` is Helm, whatever its suffix.
    """
    if charts and _is_template(path, charts):
        return "helm"
    name = basename(path).lower()
    suffix = splitext(name)[1]
    if name in _BY_NAME:
        return _BY_NAME[name]
    if _REQUIREMENTS.search(name):
        return "requirements"
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if suffix == ".in":
        return language_of(_INPUTS.sub("", path), charts)
    if _HOOK.match(name):
        return "shell"
    if _IGNORE_LIST.match(name):
        return "ignore-list"
    tags = identify.tags_from_filename(path)
    return next((language for tag, language in LANGUAGES.items() if tag in tags), None)


def _is_template(path: str, charts: Collection[str]) -> bool:
    """Whether it lies in the `templates` of one of the charts."""
    rooted = "/" + path
    at = rooted.find("/templates/")
    while at >= 0:
        if rooted[1:at] in charts:
            return True
        at = rooted.find("/templates/", at + 1)
    return False


def is_binary(path: str) -> bool:
    """Whether the suffix names a type that is no text, such as an image or an archive."""
    return "binary" in identify.tags_from_filename(path)


def kind_of(path: str, language: str) -> str:
    """source, test, docs or config."""
    *folders, name = path.lower().split("/")
    if language in _DOCS:
        return "docs"
    if _TEST_FILE.search(name) or not _TEST_FOLDERS.isdisjoint(folders):
        return "test"
    return "config" if language in _CONFIG else "source"
