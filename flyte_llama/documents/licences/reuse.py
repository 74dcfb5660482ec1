"""REUSE's annotations, which state the licences of files from outside: `REUSE.toml` and Debian's `.reuse/dep5`.

See reuse.software/spec-3.3. Licences in `LICENSES/` are up to `files`, and `*.license` next to a file up to `tree`.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, NamedTuple

from flyte_llama.documents.licences.spdx import join_spdx, tag_spdx
from flyte_llama.documents.licences.statement import NOTHING, Statement, unrecognised

TOML, DEP5 = "REUSE.toml", ".reuse/dep5"


class Annotation(NamedTuple):
    """What an annotation states about the paths that it matches, relative to the folder of its file."""

    paths: re.Pattern[str]
    stated: Statement
    precedence: str
    """`closest`: only for files that state none; `aggregate`: also; `override`: instead."""


def read_annotations(path: str, text: str) -> list[Annotation]:
    """Return the annotations of one file; the last one that matches a path holds.

    A file that cannot be read states a licence that is not recognised, about everything below it.
    """
    try:
        return _read_dep5(text) if path.endswith(DEP5) else _read_toml(text)
    except (tomllib.TOMLDecodeError, TypeError, ValueError, AttributeError, RecursionError):
        return [Annotation(re.compile(".*", re.DOTALL), unrecognised(f"{path} cannot be read"), "aggregate")]


def _read_toml(text: str) -> list[Annotation]:
    return [
        Annotation(
            _any_of([_toml_glob(pattern) for pattern in _list(table["path"])]),
            _state(_list(table.get("SPDX-License-Identifier", []))),
            table.get("precedence", "closest"),
        )
        for table in tomllib.loads(text).get("annotations", [])
        if "path" in table
    ]


def _read_dep5(text: str) -> list[Annotation]:
    annotations = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields = dict(re.findall(r"^(Files|License):[ \t]*((?:[^\n]|\n[ \t])*)", paragraph, re.MULTILINE))
        if "Files" in fields:
            licences = [line for line in fields.get("License", "").split("\n")[:1] if line.strip()]
            paths = _any_of([_dep5_glob(pattern) for pattern in fields["Files"].split()])
            annotations.append(Annotation(paths, _state(licences), "aggregate"))
    return annotations


def _state(licences: list[str]) -> Statement:
    """Return the statement of all licences; nothing if an annotation names holders alone."""
    if not licences:
        return NOTHING
    spdx = [tag_spdx(licence) for licence in licences]
    unknown = next((licence for licence, expression in zip(licences, spdx, strict=True) if not expression), None)
    return Statement(join_spdx(spdx)) if unknown is None else unrecognised(unknown)


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _any_of(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns) or r"(?!)", re.DOTALL)


def _toml_glob(pattern: str) -> str:
    """`*` matches within a folder, `**` across folders; a backslash takes the next character as it is."""
    blocks = [[""]]
    for part in re.findall(r"\\.|\*\*+|\*|[^*\\]+|\\", pattern, re.DOTALL):
        if part.startswith("**"):
            blocks.append([""])
        elif part == "*":
            blocks[-1].append("")
        else:
            blocks[-1][-1] += re.escape(part[1:] if part[0] == "\\" else part)
    return _glob(blocks)


def _dep5_glob(pattern: str) -> str:
    """`*` and `?` also match slashes."""
    blocks = [""]
    for part in re.findall(r"\\.|[*?]|[^*?\\]+|\\", pattern.removeprefix("./")):
        if part == "*":
            blocks.append("")
        else:
            blocks[-1] += "." if part == "?" else re.escape(part.removeprefix("\\"))
    return _glob([[block] for block in blocks])


def _glob(blocks: list[list[str]]) -> str:
    """Return the pattern of blocks with anything between them; within a block, no slash is between its pieces.

    The first place where a piece fits leaves the most to what follows. So only the last piece, which ends the path,
    is tried at several places, and many stars take no longer than one.
    """
    first, *inner = [block[0] + "".join(f"(?>[^/]*?{piece})" for piece in block[1:]) for block in blocks[:-1]] or [""]
    *middle, end = blocks[-1]
    last = "".join([*middle[:1], *(f"(?>[^/]*?{piece})" for piece in middle[1:]), "[^/]*" * bool(middle), end])
    return first + "".join(f"(?>.*?{block})" for block in inner) + ".*" * (len(blocks) > 1) + last
