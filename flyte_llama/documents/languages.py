"""The languages that are read, and the language and the kind of a file by its path.

`LANGUAGES` is the whole list: the table in docs/your-repositories.md is made from it. The tags are those of identify,
which knows the suffixes and names of most types; suffixes and names here come first. Only `script_language` looks at
bytes: at the first line of a file that has no suffix.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Mapping
from posixpath import basename, splitext
from typing import NamedTuple

from identify import identify
from identify.extensions import EXTENSIONS, NAMES

from flyte_llama.documents.generated.paths import path_reason


class Language(NamedTuple):
    """How files of a language are found, and what they are."""

    tags: str = ""
    """identify's tags, separated by blanks. Of several languages that a file's tags name, the first one counts."""

    suffixes: str = ""
    names: str = ""
    """File names in lower case."""

    kind: str = "source"
    """`source`, `docs` or `config`, for a file that is no test."""

    comment: str = "# {}"
    """The form of a comment on a line of its own."""


_SLASHES, _DASHES, _ANGLES, _STARS = "// {}", "-- {}", "<!-- {} -->", "/* {} */"
LANGUAGES: Mapping[str, Language] = {
    "notebook": Language("jupyter"),
    "python": Language("pyi python scons", ".smk", "snakefile"),
    "cython": Language("cython", ".pxi"),
    "go": Language("go", comment=_SLASHES),
    "go-mod": Language("go-mod", kind="config", comment=_SLASHES),
    "typescript": Language("tsx ts", comment=_SLASHES),
    "javascript": Language("jsx javascript", comment=_SLASHES),
    "coffeescript": Language("coffee"),
    "protobuf": Language("proto", comment=_SLASHES),
    "thrift": Language("thrift", comment=_SLASHES),
    "flatbuffers": Language("", ".fbs", comment=_SLASHES),
    "capnp": Language("", ".capnp"),
    "smithy": Language("", ".smithy", comment=_SLASHES),
    "avro": Language("", ".avdl", comment=_SLASHES),
    "starlark": Language("bazel", ".star .sky", "tiltfile", kind="config"),
    "shell": Language("shell fish", ".ksh .bats", "pkgbuild apkbuild"),
    "nushell": Language("nushell"),
    "awk": Language("awk", ".awk"),
    "batch": Language("batch", comment="REM {}"),
    "powershell": Language("powershell"),
    "dockerfile": Language("dockerfile", "", "earthfile", kind="config"),
    "makefile": Language("makefile", ".mak", "kbuild", kind="config"),
    "cmake": Language("cmake", kind="config"),
    "meson": Language("meson", kind="config"),
    "just": Language("", ".just", "justfile .justfile", kind="config"),
    "bitbake": Language("bitbake", kind="config"),
    "groovy": Language("groovy", ".nf", comment=_SLASHES),
    "c++": Language("c++", ".tpp .ipp .inl .cppm", comment=_SLASHES),
    "c": Language("c", comment=_SLASHES),
    "cuda": Language("cuda", comment=_SLASHES),
    "objective-c": Language("objective-c objective-c++", comment=_SLASHES),
    "metal": Language("metal", comment=_SLASHES),
    "glsl": Language("hlsl", ".glsl .vert .frag .comp .wgsl", comment=_SLASHES),
    "rust": Language("rust", comment=_SLASHES),
    "zig": Language("zig", ".zon", comment=_SLASHES),
    "nim": Language("nim nimble"),
    "crystal": Language("crystal"),
    "d": Language("", ".d .di", comment=_SLASHES),
    "vala": Language("vala", comment=_SLASHES),
    "java": Language("java aspectj", comment=_SLASHES),
    "kotlin": Language("kotlin", comment=_SLASHES),
    "scala": Language("scala", comment=_SLASHES),
    "clojure": Language("clojure edn", comment=";; {}"),
    "c#": Language("c# c#script", comment=_SLASHES),
    "f#": Language("f# f#script", ".fsi", comment=_SLASHES),
    "visual-basic": Language("vb", ".bas .vbs", comment="' {}"),
    "swift": Language("swift", comment=_SLASHES),
    "dart": Language("dart", comment=_SLASHES),
    "ruby": Language("ruby", "", "podfile dangerfile guardfile capfile berksfile puppetfile"),
    "php": Language("php", comment=_SLASHES),
    "lua": Language("lua luau", comment=_DASHES),
    "perl": Language("perl"),
    "r": Language("r", ".r"),
    "julia": Language("julia", ".jl"),
    "fortran": Language("fortran", comment="! {}"),
    "pascal": Language("pascal", ".dpr", comment=_SLASHES),
    "ada": Language("", ".adb .ads", comment=_DASHES),
    "cobol": Language("", ".cob .cbl", comment="* {}"),
    "haskell": Language("haskell literate-haskell", ".hs", comment=_DASHES),
    "ocaml": Language("ocaml", comment="(* {} *)"),
    "elm": Language("elm", comment=_DASHES),
    "purescript": Language("purescript", comment=_DASHES),
    "rescript": Language("", ".resi .re .rei", comment=_SLASHES),
    "lean": Language("lean idris", comment=_DASHES),
    "elixir": Language("elixir", ".heex .eex .leex"),
    "erlang": Language("erlang", comment="% {}"),
    "gleam": Language("gleam", comment=_SLASHES),
    "antlr": Language("", ".g4", comment=_SLASHES),
    "yacc": Language("", ".y .yy .ypp .l .ll .lex", comment=_SLASHES),
    "lisp": Language("scheme", ".lisp .el .rkt .fnl", comment=";; {}"),
    "tcl": Language("expect", ".tcl"),
    "vim": Language("vim", comment='" {}'),
    "solidity": Language("solidity", ".vy", comment=_SLASHES),
    "move": Language("", ".move .cairo", comment=_SLASHES),
    "verilog": Language("verilog system-verilog", comment=_SLASHES),
    "vhdl": Language("vhdl", comment=_DASHES),
    "assembly": Language("asm", ".nasm", comment="; {}"),
    "gdscript": Language("gdscript"),
    "m4": Language("m4", ".ac", comment="dnl {}"),
    "jq": Language("", ".jq"),
    "graphviz": Language("", ".dot .gv", comment=_SLASHES),
    "diagram": Language("plantuml", ".mmd", comment="' {}"),
    "rpm-spec": Language("spec", kind="config"),
    "robot": Language("robot", ".resource"),
    "gherkin": Language("gherkin"),
    "sql": Language("sql", ".hql .ddl .pgsql .plsql .psql", comment=_DASHES),
    "graphql": Language("graphql", ".gql"),
    "prisma": Language("prisma", comment=_SLASHES),
    "terraform": Language("terraform hcl", kind="config"),
    "bicep": Language("", ".bicep", kind="config", comment=_SLASHES),
    "puppet": Language("puppet", kind="config"),
    "nix": Language("nix"),
    "dhall": Language("", ".dhall", comment=_DASHES),
    "cue": Language("cue", comment=_SLASHES),
    "jsonnet": Language("jsonnet", comment=_SLASHES),
    "rego": Language("", ".rego"),
    "wdl": Language("", ".wdl"),
    "template": Language(
        "gotmpl templ jinja erb ejs mustache handlebars twig liquid nunjucks vtl",
        ".tpl .tmpl .template .ftl .mako .eta",
        comment="{{{{/* {} */}}}}",
    ),
    "html": Language("html", comment=_ANGLES),
    "pug": Language("pug jade", ".haml .slim", comment=_SLASHES),
    "vue": Language("vue", comment=_ANGLES),
    "svelte": Language("svelte", comment=_ANGLES),
    "astro": Language("astro", comment=_ANGLES),
    "qml": Language("qml", comment=_SLASHES),
    "scss": Language("scss sass", comment=_STARS),
    "less": Language("less stylus", comment=_STARS),
    "css": Language("css", comment=_STARS),
    "markdown": Language("mdx markdown myst quarto", ".mdx .rmd .qmd", kind="docs", comment=_ANGLES),
    "restructuredtext": Language("rst", kind="docs", comment=".. {}"),
    "asciidoc": Language("asciidoc", kind="docs", comment=_SLASHES),
    "org": Language("", ".org", kind="docs"),
    "latex": Language("tex", ".typ", kind="docs", comment="% {}"),
    "text": Language("", "", "readme readme.txt contributing install install.txt hacking", kind="docs"),
    "yaml": Language("yaml", kind="config"),
    "toml": Language("toml", kind="config"),
    "ini": Language("ini editorconfig gitconfig", ".cfg .conf .cnf", kind="config"),
    "properties": Language("java-properties", kind="config"),
    "xml": Language("pom msbuild xsd xsl xaml relax-ng xml", kind="config", comment=_ANGLES),
    "codeowners": Language("", "", "codeowners", kind="config"),
    "manifest": Language("", "", "manifest.in", kind="config"),
    # These three are found by other rules below.
    "helm": Language(kind="config", comment="{{{{/* {} */}}}}"),
    "requirements": Language(kind="config"),
    "ignore-list": Language(kind="config"),
}
KNOWN_LANGUAGES = frozenset(LANGUAGES)
"""Every language that `language_of` can return; a notebook may contain another."""

_BY_TAG = {tag: name for name, language in LANGUAGES.items() for tag in language.tags.split()}
_BY_SUFFIX = {suffix: name for name, language in LANGUAGES.items() for suffix in language.suffixes.split()}
_BY_NAME = {file: name for name, language in LANGUAGES.items() for file in language.names.split()}
# XML in which programs keep pictures, forms, strings and state. People write other XML.
_XML_DATA = {
    *("svg", "resx", "plist", "xliff", "xcworkspacedata", "xcscheme", "gpx", "kml", "entitlements", "musescore", "inx"),
}
_REQUIREMENTS = re.compile(r"(^|[-_.])(requirements|constraints)[\w.-]*\.(in|txt)$")
_IGNORE_LIST = re.compile(r"^\.\w+ignore$")
# The suffix of a template, as in config.yaml.in.
_TEMPLATE_SUFFIX = re.compile(r"(\.in)+$", re.IGNORECASE)
# git's hooks are scripts without a suffix.
_HOOK = re.compile(r"^(pre|post|prepare|commit)-[a-z-]+$")
# Programs that run scripts, beside those that identify knows.
_INTERPRETERS = {
    **dict.fromkeys(("deno", "bun"), "javascript"),
    **dict.fromkeys(("ts-node", "tsx"), "typescript"),
    **dict.fromkeys(("gawk", "mawk"), "awk"),
    **dict.fromkeys(("fish", "osh"), "shell"),
    **dict.fromkeys(("pwsh", "powershell"), "powershell"),
    **dict.fromkeys(("tclsh", "wish"), "tcl"),
    **dict.fromkeys(("runhaskell", "runghc", "stack"), "haskell"),
    **dict.fromkeys(("guile", "sbcl", "racket", "emacs"), "lisp"),
    **dict.fromkeys(("pypy", "pypy3", "ipython", "uv"), "python"),
    "rscript": "r",
    "make": "makefile",
    "jruby": "ruby",
    **{
        name: name
        for name in ("lua", "julia", "elixir", "groovy", "kotlin", "scala", "swift", "ocaml", "dart", "crystal")
    },
}
_TEST_FOLDERS = {"test", "tests", "__tests__", "testing", "testdata", "spec", "specs", "androidtest", "e2e"}
_TEST_FILE = re.compile(
    r"^test_.*\.(py|rb|php|jl|r|ml)$|_(test|spec)\.(py|go|rb|dart|exs|cc|cpp|c|rs|ml|lua|php|zig)$|\.(test|spec)\.[cm]?[jt]sx?$|"
    r"^conftest\.py$|[a-z0-9](Test|Tests|TestCase|Spec|Suite|IT)\.(java|kt|scala|groovy|swift|cs|fs|vb|php|m|mm)$"
)


def language_of(path: str, charts: Collection[str] = (), more: Mapping[str, str] = {}) -> str | None:
    """Return the language of a file, or None for types that are never trained on.

    Args:
        charts: Folders of Helm charts: every file in their `templates` is Helm, whatever its suffix.
        more: Suffix, such as `.abap`, or file name → language, before all other rules.
    """
    name = basename(path).lower()
    suffix = splitext(name)[1]
    if found := more.get(name) or more.get(suffix):
        return found
    if charts and _is_template(path, charts):
        return "helm"
    if name in _BY_NAME:
        return _BY_NAME[name]
    if _REQUIREMENTS.search(name):
        return "requirements"
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if suffix == ".in":
        return language_of(_TEMPLATE_SUFFIX.sub("", path), charts, more)
    if _HOOK.match(name):
        return "shell"
    if _IGNORE_LIST.match(name):
        return "ignore-list"
    tags = identify.tags_from_filename(path)
    return None if tags & _XML_DATA else _language_of_tags(tags)


def may_be_script(path: str) -> bool:
    """Whether only the first line of a file can tell its language: its name has no suffix."""
    return "." not in basename(path).lstrip(".")


def script_language(data: bytes) -> str | None:
    """Return the language of a script by its shebang line; None without one, or for a program not known here."""
    try:
        command = identify.parse_shebang(io.BytesIO(data))
    except (ValueError, UnicodeError):
        return None
    if not command:
        return None
    program = basename(command[0])
    return _INTERPRETERS.get(program.lower()) or _language_of_tags(identify.tags_from_interpreter(program))


def files_of(language: str) -> list[str]:
    """Return the suffixes, then the file names, by which files of a language are found, each in alphabetical order."""
    entry = LANGUAGES[language]
    tags = set(entry.tags.split())
    suffixes = {*entry.suffixes.split(), *(f".{suffix}" for suffix, known in EXTENSIONS.items() if known & tags)}
    names = {*entry.names.split(), *(name for name, known in NAMES.items() if known & tags)}
    by_suffix = sorted(suffix for suffix in suffixes if language_of(f"a{suffix}") == language)
    return by_suffix + sorted(name for name in names if language_of(name) == language and not path_reason(name))


def comment_line(language: str, text: str) -> str:
    """Return the text as a comment on a line of its own, without the line end."""
    return LANGUAGES.get(language, Language()).comment.format(text)


def is_binary(path: str) -> bool:
    """Whether the suffix names a binary type, such as an image or an archive."""
    return "binary" in identify.tags_from_filename(path)


def kind_of(path: str, language: str) -> str:
    """Return `source`, `test`, `docs` or `config`."""
    *folders, name = path.split("/")
    kind = LANGUAGES.get(language, Language()).kind
    if kind == "docs":
        return "docs"
    is_test = _TEST_FILE.search(name) or not _TEST_FOLDERS.isdisjoint(folder.lower() for folder in folders)
    return "test" if is_test else kind


def _language_of_tags(tags: Collection[str]) -> str | None:
    return next((language for tag, language in _BY_TAG.items() if tag in tags), None)


def _is_template(path: str, charts: Collection[str]) -> bool:
    """Whether the path is in the `templates` folder of one of the charts."""
    rooted = "/" + path
    index = rooted.find("/templates/")
    while index >= 0:
        if rooted[1:index] in charts:
            return True
        index = rooted.find("/templates/", index + 1)
    return False
