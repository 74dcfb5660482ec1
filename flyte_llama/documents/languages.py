"""The language and the kind of a file, by its path. No bytes are read."""

from __future__ import annotations

import re
from collections.abc import Collection
from posixpath import basename, splitext

from identify import identify

# identify's tag → language, for the types worth training on. A file with several tags gets the first in this order.
_BY_TAG = {
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
# The suffix of a template, as in config.yaml.in.
_TEMPLATE_SUFFIX = re.compile(r"(\.in)+$", re.IGNORECASE)
# git's hooks are scripts without a suffix.
_HOOK = re.compile(r"^(pre|post|prepare|commit)-[a-z-]+$")
KNOWN_LANGUAGES = {
    *_BY_TAG.values(),
    *_BY_NAME.values(),
    *_BY_SUFFIX.values(),
    "helm",
    "requirements",
    "shell",
    "ignore-list",
}
"""Every language that `language_of` can return; a notebook may contain another."""

_DOCS = {"markdown", "restructuredtext", "asciidoc"}
_CONFIG = {
    *("yaml", "helm", "toml", "ini", "go-mod", "requirements", "dockerfile", "makefile", "cmake", "starlark"),
    *("terraform", "ignore-list", "codeowners", "manifest"),
}

_TEST_FOLDERS = {"test", "tests", "__tests__", "testing", "testdata"}
_TEST_FILE = re.compile(r"(^test_.*|.*_test)\.(py|go)$|\.(test|spec)\.[jt]sx?$|^conftest\.py$")


def language_of(path: str, charts: Collection[str] = ()) -> str | None:
    """Return the language of a file, or None for types that are never trained on.

    Args:
        charts: Folders of Helm charts: every file in their `templates` is Helm, whatever its suffix.
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
        return language_of(_TEMPLATE_SUFFIX.sub("", path), charts)
    if _HOOK.match(name):
        return "shell"
    if _IGNORE_LIST.match(name):
        return "ignore-list"
    tags = identify.tags_from_filename(path)
    return next((language for tag, language in _BY_TAG.items() if tag in tags), None)


def is_binary(path: str) -> bool:
    """Whether the suffix names a binary type, such as an image or an archive."""
    return "binary" in identify.tags_from_filename(path)


def kind_of(path: str, language: str) -> str:
    """Return `source`, `test`, `docs` or `config`."""
    *folders, name = path.lower().split("/")
    if language in _DOCS:
        return "docs"
    if _TEST_FILE.search(name) or not _TEST_FOLDERS.isdisjoint(folders):
        return "test"
    return "config" if language in _CONFIG else "source"


def _is_template(path: str, charts: Collection[str]) -> bool:
    """Whether the path is in the `templates` folder of one of the charts."""
    rooted = "/" + path
    index = rooted.find("/templates/")
    while index >= 0:
        if rooted[1:index] in charts:
            return True
        index = rooted.find("/templates/", index + 1)
    return False
