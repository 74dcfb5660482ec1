"""What a tree as a whole says of its files: attributes, Helm charts, licences; and what the user opted out of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from posixpath import basename, dirname

from pathspec import GitIgnoreSpec

from flyte_llama.config import DocumentsConfig
from flyte_llama.config.corpus import OPTED_OUT
from flyte_llama.config.location import is_package
from flyte_llama.documents.verdict import NOTEBOOK
from flyte_llama.errors import SourceError
from flyte_llama.licences import Licences, is_permissive, states_licence
from flyte_llama.rules import (
    ATTRIBUTES,
    is_binary,
    kind_of,
    language_of,
    name_reason,
    path_reason,
    said_by_attributes,
)
from flyte_llama.sources import Entry, PinnedSource, Tree
from flyte_llama.sources.entry import REGULAR_MODES, SUBMODULE_MODE, SYMLINK_MODE

# Files that rule over others are short; a longer one is not what its name says.
_MAX_RULING_BYTES = 200_000
_MAX_RULING_TEXTS = 2000
# A notebook is mostly outputs, which are not kept.
_NOTEBOOK_BYTES = 20
# Index pages, of Sphinx for one, are written by hand also where the pages they list are not.
_INDEX_PAGES = ("index.rst", "index.md")


class TreeFacts:
    """Of one pinned tree.

    Raises:
        SourceError: if the licence of the source is not one that the configuration allows.
    """

    def __init__(self, pinned: PinnedSource, tree: Tree, entries: Sequence[Entry], config: DocumentsConfig) -> None:
        self._config = config
        small = [entry for entry in entries if entry.mode in REGULAR_MODES and entry.num_bytes <= _MAX_RULING_BYTES]

        def texts(chosen: Iterable[Entry]) -> dict[str, str]:
            """Path → text; equal files are read once."""
            read: dict[str, str] = {}
            by_path = {}
            for entry in chosen:
                if len(read) > _MAX_RULING_TEXTS:
                    raise SourceError(f"{pinned.url}: states more than {_MAX_RULING_TEXTS:,} licences. Leave it out.")
                if entry.key not in read:
                    read[entry.key] = tree.read(entry).data.decode("utf-8", "replace")
                by_path[entry.path] = read[entry.key]
            return by_path

        has_attributes = any(basename(entry.path) == ".gitattributes" for entry in small)
        paths = [entry.path for entry in entries] if has_attributes else []
        self._attributes = tree.attributes(paths, tuple(ATTRIBUTES)) if paths else {}
        self._charts = {dirname(entry.path) for entry in small if basename(entry.path) == "Chart.yaml"}
        self._languages: dict[str, str | None] = {}
        self._allowed: dict[str, bool] = {}
        self._opted_out = _opted_out(pinned.name, config.opt_out)
        self._accept_unknown = pinned.accept_unknown_licence
        of_package = is_package(pinned.url)
        self.licences = Licences(texts(entry for entry in small if states_licence(entry.path, of_package=of_package)))
        if not all(self._opted_out.match_file(entry.path) for entry in entries):
            self._check_licence(pinned)

    def entry_reason(self, entry: Entry) -> str | None:
        """Why a file is left out before its bytes are looked at; None if it is not."""
        if entry.mode not in REGULAR_MODES:
            return {SYMLINK_MODE: "symlink", SUBMODULE_MODE: "submodule"}.get(entry.mode, "mode")
        reason = name_reason(entry.path) or ("opt_out" if self._opted_out.match_file(entry.path) else None)
        reason = reason or self.attributes_reason(entry.path) or self.path_reason(entry.path)
        if reason:
            return reason
        language = self.language(entry.path)
        if language is None:
            return "binary" if is_binary(entry.path) else "type"
        if kind_of(entry.path, language) not in self._config.kinds:
            return "kind"
        most = self._config.max_bytes * (_NOTEBOOK_BYTES if language == NOTEBOOK else 1)
        return "too_large" if entry.num_bytes > most else None

    def text_reason(self, num_bytes: int, licence: str) -> str | None:
        """Why a file is left out for the length of its text, a notebook's, or for the licence that governs it."""
        if num_bytes > self._config.max_bytes:
            return "too_large"
        allowed = self._is_allowed(licence) if licence else self._accept_unknown
        return None if allowed else "not_permitted"

    def is_written(self, path: str) -> bool:
        """Whether the repository says that people wrote the file, whatever it looks like."""
        return self._said(path).get("generated") is False

    def language(self, path: str) -> str | None:
        """By the path, and by the Helm charts of the tree."""
        if path not in self._languages:
            self._languages[path] = language_of(path, self._charts)
        return self._languages[path]

    def licence(self, path: str) -> str:
        """The SPDX expression that the nearest folder states; empty if unknown."""
        return self.licences.of_folder(dirname(path))

    def attributes_reason(self, path: str) -> str | None:
        """`generated` or `vendored` if the repository says so of the file."""
        said = self._said(path)
        return _unless_index_page(path, next((reason for reason, applies in said.items() if applies), None))

    def path_reason(self, path: str) -> str | None:
        """What the path says of the file, unless the repository says that it is not so."""
        reason = path_reason(path)
        denied = reason is not None and self._said(path).get(reason) is False
        return None if denied else _unless_index_page(path, reason)

    def _said(self, path: str) -> dict[str, bool]:
        return said_by_attributes(self._attributes.get(path, {}))

    def _is_allowed(self, licence: str) -> bool:
        if licence not in self._allowed:
            self._allowed[licence] = is_permissive(licence, self._config.licences)
        return self._allowed[licence]

    def _check_licence(self, pinned: PinnedSource) -> None:
        licence, where = self.licences.of_folder(), ", ".join(self.licences.files)
        if not licence and not self._accept_unknown:
            found = f"{where} is under no licence that is recognised" if where else "it states no licence"
            raise SourceError(
                f"{pinned.url}: {found}. Remove the source, or, if you may use it, give it "
                "accept_unknown_licence: true."
            )
        if licence and not self._is_allowed(licence):
            raise SourceError(
                f"{pinned.url}: is under {licence} ({where}), which is not allowed. Remove the source, or, if you may "
                "use it, add the licence to corpus.documents.licences."
            )


def _unless_index_page(path: str, reason: str | None) -> str | None:
    return None if reason == "generated" and basename(path) in _INDEX_PAGES else reason


def _opted_out(repository: str, lines: Iterable[str]) -> GitIgnoreSpec:
    """The patterns given for one repository; its bare name opts out all of it."""
    found = [match for match in map(OPTED_OUT.fullmatch, lines) if match]
    own = [match for match in found if match["name"].casefold() == repository.casefold()]
    return GitIgnoreSpec.from_lines(match["pattern"] or "*" for match in own)
