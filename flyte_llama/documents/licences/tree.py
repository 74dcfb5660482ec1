"""The licences of one tree → the one that governs a file.

A file's own statement goes first: its `*.license` file or its header. REUSE's annotations come next, or before it if
they say so. The others are governed by the nearest folder above that states a licence, in licence files or, in an
installed distribution, in its metadata.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from posixpath import basename, dirname

from flyte_llama.documents.licences.files import FAMILIES, REUSE_FOLDER, file_statement, states_licence
from flyte_llama.documents.licences.reuse import DEP5, TOML, Annotation, read_annotations
from flyte_llama.documents.licences.spdx import join_spdx
from flyte_llama.documents.licences.statement import NOTHING, Statement, unrecognised
from flyte_llama.documents.licences.texts import metadata_spdx

_METADATA_FILE = re.compile(r"^[^/]+\.dist-info/METADATA$")
_DIST_INFO = re.compile(r"^[^/]+\.dist-info(/|$)")
# A shorter text may refer to a file by its relative path, so what it states depends on its folder.
_MAX_REFERENCE_CHARS = 3000
_CHOICE_FILE = re.compile(rf"^(?:licen[cs]e|copying)-{FAMILIES}|{FAMILIES}[\w.-]*-licen[cs]e", re.IGNORECASE)


class Licences:
    """The licences stated in one tree, by folder.

    Args:
        files: Path → text of each file that `decides_licence` accepts.
        unreadable: Paths of licence files that state a licence nobody can read: links that lead out of the tree.
    """

    def __init__(self, files: Mapping[str, str], *, unreadable: Collection[str] = ()) -> None:
        annotated = {path: text for path, text in files.items() if _is_annotation(path)}
        metadata = {path: text for path, text in files.items() if _METADATA_FILE.match(path)}
        texts = {path: text for path, text in files.items() if path not in annotated and path not in metadata}
        # Folder, with a slash after it → its annotations.
        self._annotations: dict[str, list[Annotation]] = {}
        for path, text in annotated.items():
            prefix = path.removesuffix(DEP5).removesuffix(TOML)
            self._annotations.setdefault(prefix, []).extend(read_annotations(path, text))
        # A distribution's metadata hold for all of its files, and before its licence files.
        declared = ((path, metadata_spdx(text)) for path, text in sorted(metadata.items()))
        self._declared = {path: Statement(spdx) for path, spdx in declared if spdx}
        self._by_folder: defaultdict[str, dict[str, Statement]] = defaultdict(dict)
        self._offered: defaultdict[str, dict[str, Statement]] = defaultdict(dict)
        cached: dict[tuple[bool, str, str], Statement] = {}
        for path in sorted({*texts, *unreadable}):
            # Each distinct text is classified once: many folders may hold the same one.
            text = texts.get(path, "")
            key = (basename(dirname(path)) == REUSE_FOLDER, basename(path), text)
            if path in unreadable:
                stated = unrecognised(f"{path} cannot be read")
            elif len(text) < _MAX_REFERENCE_CHARS or key not in cached:
                stated = cached[key] = file_statement(path, text, texts)
            else:
                stated = cached[key]
            if stated == NOTHING:
                continue
            folder = "" if _DIST_INFO.match(path) else str(PurePosixPath(path).parent).removeprefix(".")
            if basename(folder) == REUSE_FOLDER:
                self._offered[dirname(folder)][path] = stated
            else:
                self._by_folder[folder][path] = stated

    @property
    def files(self) -> list[str]:
        """Paths of the files that state the licence of the whole tree."""
        return [*self._declared, *(self._by_folder.get("") or self._offered.get("") or {})]

    @property
    def offered(self) -> list[str]:
        """Licences of a tree whose files need not be under all of them: files that state their own can be read.

        That is so with REUSE's `LICENSES/` alone, and if one file at the root is recognised and another is not.
        """
        stated = self._by_folder.get("") or self._offered.get("") or {}
        is_mixed = not self._by_folder.get("") or any(statement.unknown for statement in stated.values())
        return [statement.spdx for statement in stated.values() if statement.spdx] if is_mixed else []

    def of_folder(self, folder: str = "") -> Statement:
        """What is stated about the files in a folder that state nothing themselves."""
        if self._declared:
            return next(iter(self._declared.values()))
        while folder and not self._by_folder.get(folder) and not self._offered.get(folder):
            folder = folder.rpartition("/")[0]
        stated = self._by_folder.get(folder)
        if not stated:
            return _join(self._offered.get(folder, {}).values())
        # LICENSE-MIT next to LICENSE-APACHE offers a choice; files with other names, as LICENSE and COPYING, all apply.
        return _join(stated.values(), is_choice=all(_CHOICE_FILE.search(basename(path)) for path in stated))

    def of_file(self, path: str, own: Statement) -> Statement:
        """What is stated about a file.

        Args:
            own: What the file states itself, or the `*.license` file next to it.
        """
        closest = NOTHING
        for annotation in self._annotations_of(path):
            if annotation.precedence == "override":
                return annotation.stated
            if annotation.precedence == "aggregate":
                own = _join([own, annotation.stated])
            elif closest == NOTHING:
                closest = annotation.stated
        stated = closest if own == NOTHING else own
        return self.of_folder(dirname(path)) if stated == NOTHING else stated

    def _annotations_of(self, path: str) -> Iterator[Annotation]:
        """Yield the annotation of each folder above that holds for the path, from the nearest to the root."""
        if not self._annotations:
            return
        folder = dirname(path)
        while True:
            prefix = f"{folder}/" if folder else ""
            annotations = reversed(self._annotations.get(prefix, []))
            match = next((entry for entry in annotations if entry.paths.fullmatch(path[len(prefix) :])), None)
            if match is not None:
                yield match
            if not folder:
                return
            folder = dirname(folder)


def decides_licence(path: str, *, of_package: bool) -> bool:
    """Whether the file may decide about others: a licence file, an annotation, a distribution's METADATA."""
    return (of_package and _METADATA_FILE.match(path) is not None) or _is_annotation(path) or states_licence(path)


def _is_annotation(path: str) -> bool:
    return basename(path) == TOML or path == DEP5 or path.endswith(f"/{DEP5}")


def _join(stated: Iterable[Statement], *, is_choice: bool = False) -> Statement:
    """What several statements mean together; one that is not recognised makes all of them so."""
    stated = [statement for statement in stated if statement != NOTHING]
    if unknown := [statement for statement in stated if statement.unknown]:
        return unknown[0]
    if not stated:
        return NOTHING
    distinct = sorted({statement.spdx for statement in stated})
    return Statement(" OR ".join(distinct) if is_choice else join_spdx(distinct))
