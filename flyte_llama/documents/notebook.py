"""Convert a Jupyter notebook to a script in the percent format, and name its language.

The input is a file of nbformat 3 or 4. The output has the author's work: code, prose and raw cells. Outputs, execution
counts, ids, cell and notebook metadata, widgets and embedded images are left out, so that running or saving a notebook
does not change its text. Nothing here runs a notebook or checks its code.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from typing import Any

from flyte_llama.documents.languages import LANGUAGES, comment_line, language_of

# Images stored in the cell, not linked. A Markdown image leaves its alternative text, the other two forms nothing.
_MARKDOWN_IMAGE = re.compile(r"!\[([^\]\[]*)\]\(\s*(?:attachment:|data:)[^()\s]*(?:\s+\"[^\"]*\")?\s*\)")
_IMAGE_DEFINITION = re.compile(r"^[ ]{0,3}\[[^\]\[]+\]:\s*<?(?:attachment:|data:)\S*.*$\n?", re.MULTILINE)
_HTML_IMAGE = re.compile(r"<(?:img|video|audio|source|embed|iframe|object)\b[^<>]*>", re.IGNORECASE)
_EMBEDDED = re.compile(r"\b(?:src|data|href)\s*=\s*[\"']?\s*(?:attachment:|data:)", re.IGNORECASE)
_MAX_CELLS = 2000
# What kernels call a language, without a version.
_KERNELS = {
    **dict.fromkeys(("ipython", "pyspark", "sparkpython", "pypy", "xpython", "xeus-python", "py", "sage"), "python"),
    **dict.fromkeys(("ir", "sparkr", "xr", "rsrc"), "r"),
    **dict.fromkeys(("spark", "almond", "apache_toree_scala"), "scala"),
    **dict.fromkeys(("sparksql", "postgres", "xsqlite", "sqlite", "mysql"), "sql"),
    **dict.fromkeys(("cling-cpp", "xcpp", "cpp", "c++src"), "c++"),
    **dict.fromkeys((".net-csharp", "csharp", "cs", "csrc"), "c#"),
    **dict.fromkeys((".net-fsharp", "fsharp", "fs"), "f#"),
    **dict.fromkeys(("sh", "zsh", "bash", "calysto_bash"), "shell"),
    **dict.fromkeys(("js", "node", "jslab", "node_nteract"), "javascript"),
    **dict.fromkeys(("ts", "deno", "tslab"), "typescript"),
    ".net-powershell": "powershell",
    "ijava": "java",
    "gophernotes": "go",
    "gonb": "go",
    "evcxr": "rust",
    "iruby": "ruby",
    "ihaskell": "haskell",
    "ijulia": "julia",
    "scheme": "lisp",
    "calysto_scheme": "lisp",
}
# Language → jupytext's name for it.
_JUPYTEXT_NAMES = {"r": "R", "shell": "bash", "c#": "csharp", "f#": "fsharp", "lisp": "scheme"}
_ERRORS = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


@dataclass(frozen=True)
class Notebook:
    text: str
    """Cells under `%%` markers; prose, raw cells, magics and shell lines are comments in the notebook's language."""

    language: str
    """In lower case, such as `python`, `r` or `c++`."""


def notebook_text(data: bytes) -> Notebook:
    """Return the cells of a notebook file as a script; its text is "" if all of them are blank.

    Raises:
        ValueError: if the file is not a notebook of nbformat 3 or 4, is damaged or far too long, or is in a language
            that is not known here. The message never quotes the file.
    """
    import jupytext
    from nbformat import from_dict

    content = _read(data)
    language = _language(content.get("metadata"))
    cells = [cell for cell in map(_clean_cell, content["cells"]) if cell["source"].strip()]
    if len(cells) > _MAX_CELLS:
        raise ValueError(f"a notebook with more than {_MAX_CELLS:,} cells, more than anyone writes")
    if not cells:
        return Notebook("", language)
    # Without the filter, jupytext writes a header that names its version.
    metadata = {
        "kernelspec": {"language": _writable_language(language)},
        "jupytext": {"notebook_metadata_filter": "-all"},
    }
    notebook = from_dict({"nbformat": 4, "nbformat_minor": 4, "metadata": metadata, "cells": cells})
    try:
        text = jupytext.writes(notebook, fmt="auto:percent")
    except _ERRORS:
        raise ValueError("a notebook in a language that jupytext cannot write as a script") from None
    # JSON can escape half of a surrogate pair, which UTF-8 cannot encode.
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("a damaged notebook: its text is not Unicode")
    return Notebook(text, language)


def _read(data: bytes) -> Any:
    """Return the notebook as nbformat 4, unchecked: most violations of the schema are in the parts left out."""
    from nbformat import convert, versions

    try:
        parsed = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("not a notebook: not UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError("not a notebook: not JSON") from None
    version = parsed.get("nbformat") if isinstance(parsed, dict) else None
    if version not in (3, 4):
        raise ValueError("not a notebook of nbformat 3 or 4")
    try:
        sheets = parsed["worksheets"] if version == 3 else [parsed]
        for cell in [cell for sheet in sheets for cell in sheet["cells"]]:
            # Remove these before nbformat reads the cell: it logs any error in them together with their content.
            cell.update(outputs=[], metadata={})
        content = convert(versions[version].to_notebook_json(parsed), 4)
        if isinstance(content["cells"], list):
            return content
    except Exception:  # a malformed file makes nbformat raise any kind of error
        raise ValueError("a damaged notebook: its cells cannot be read") from None
    raise ValueError("a damaged notebook: it has no list of cells")


def _clean_cell(cell: Any) -> dict[str, Any]:
    """Return a cell with its type and source alone, without embedded images."""
    try:
        kind, source = cell["cell_type"], cell["source"]
    except _ERRORS:
        raise ValueError("a damaged notebook: a cell has no type or no source") from None
    if kind not in ("code", "markdown", "raw") or not isinstance(source, str):
        raise ValueError("a damaged notebook: a cell is not text, or its type is unknown")
    clean = {"cell_type": kind, "metadata": {}, "source": _without_images(source) if kind == "markdown" else source}
    return clean | {"outputs": [], "execution_count": None} if kind == "code" else clean


def _without_images(markdown: str) -> str:
    markdown = _MARKDOWN_IMAGE.sub(r"\1", markdown)
    markdown = _IMAGE_DEFINITION.sub("", markdown)
    return _HTML_IMAGE.sub(lambda image: "" if _EMBEDDED.search(image[0]) else image[0], markdown)


def _language(metadata: Any) -> str:
    """Return the language of a notebook in lower case, such as `python` or `c++`; python if it states none.

    Raises:
        ValueError: if it states one that is not known here.
    """
    stated = metadata if isinstance(metadata, dict) else {}
    kernel, info = (
        value if isinstance(value, dict) else {} for value in map(stated.get, ("kernelspec", "language_info"))
    )
    mode = info.get("codemirror_mode")
    mode = mode.get("name") if isinstance(mode, dict) else mode
    mimetype = str(info.get("mimetype", "")).removeprefix("text/").removeprefix("x-")
    names = [
        *(kernel.get("language"), info.get("name"), info.get("pygments_lexer"), mimetype, mode),
        *(info.get("file_extension"), kernel.get("name")),
    ]
    given = [name for name in names if isinstance(name, str) and name.strip()]
    known = next((language for language in map(_known_language, given) if language), None)
    if known is None and given:
        raise ValueError("a notebook in a language that is not known here")
    return known or "python"


def _known_language(name: str) -> str | None:
    """Return the language that a kernel calls `name`, or None."""
    if name.startswith(".") and (language := language_of(f"a{name}")):
        return language
    # Kernels add a version to the name, as in python3 and C++17.
    plain = name.lower().strip().rstrip("0123456789. -")
    for prefix in ("conda-env-", "conda-root-"):
        plain = plain.removeprefix(prefix)
    plain = _KERNELS.get(plain.removesuffix("kernel"), plain)
    return plain if plain in LANGUAGES or plain in _jupytext_languages() else None


@functools.cache
def _jupytext_languages() -> frozenset[str]:
    from jupytext.languages import _SCRIPT_EXTENSIONS

    return frozenset(extension["language"].lower() for extension in _SCRIPT_EXTENSIONS.values())


def _writable_language(language: str) -> str:
    """Return a language that jupytext can write, with comments like those of `language`."""
    same = _JUPYTEXT_NAMES.get(language, language)
    if same.lower() in _jupytext_languages():
        return same
    return {"//": "java", "--": "haskell", "%": "matlab", ";;": "clojure"}.get(
        comment_line(language, "").strip(), "tcl"
    )
