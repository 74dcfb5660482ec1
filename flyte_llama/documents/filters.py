"""Filters that need the whole tree: the source's patterns and the split, attributes, Helm charts, licences, opt-outs.

`SourceFilters` is made once for a tree and then gives, for each entry, the reason to drop it or None: `entry_reason`
before its bytes are read, `text_reason` after its text is known. What the text itself shows is up to `text`.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable, Mapping, Sequence
from posixpath import basename, dirname, join, normpath

from pathspec import GitIgnoreSpec

from flyte_llama.config import DocumentsConfig
from flyte_llama.config.corpus import OPT_OUT_LINE
from flyte_llama.config.source_url import is_package
from flyte_llama.documents.generated import ATTRIBUTES, name_reason, parse_attributes, path_reason
from flyte_llama.documents.languages import is_binary, kind_of, language_of, may_be_script, script_language
from flyte_llama.documents.licences import (
    NOTHING,
    Licences,
    Statement,
    decides_licence,
    header_statement,
    is_permissive,
    resolve_link,
)
from flyte_llama.documents.selection import SelectedFiles
from flyte_llama.documents.text import NOTEBOOK
from flyte_llama.errors import SourceError
from flyte_llama.redaction import contains_secret, mask_emails_in_path, redact
from flyte_llama.sources import Entry, PinnedSource, Tree
from flyte_llama.sources.entry import REGULAR_MODES, SUBMODULE_MODE, SYMLINK_MODE

# `.gitattributes`, `Chart.yaml` and licence files are short; a longer file under such a name is something else.
_MAX_METADATA_BYTES = 200_000
_MAX_LICENCE_TEXTS = 2000
# A notebook may be this many times larger than other files: most of it is outputs, which are dropped.
_NOTEBOOK_FACTOR = 20
_GENERATED_LIST = ".openapi-generator/FILES"
# Index pages, such as Sphinx's, are written by hand even if the pages they list are generated.
_INDEX_PAGES = ("index.rst", "index.md")


class SourceFilters:
    """Filters for the files of one pinned tree.

    Args:
        dates: Path → time of the first commit; needed if the source is split by date.

    Raises:
        SourceError: if the configuration does not allow the licence of the source, or its `paths` match no file.
    """

    def __init__(
        self,
        pinned: PinnedSource,
        tree: Tree,
        entries: Sequence[Entry],
        config: DocumentsConfig,
        *,
        dates: Mapping[str, int] | None = None,
    ) -> None:
        self._config = config
        self._selection = SelectedFiles(pinned, entries, dates=dates or {}, committed=tree.committed)
        read = [entry for entry in entries if self._selection.reason(entry.path) is None]
        small = [entry for entry in entries if entry.mode in REGULAR_MODES and entry.num_bytes <= _MAX_METADATA_BYTES]
        has_attributes = any(basename(entry.path) == ".gitattributes" for entry in small)
        paths = [entry.path for entry in read] if has_attributes else []
        self._attributes = tree.attributes(paths, tuple(ATTRIBUTES)) if paths else {}
        self._charts = {dirname(entry.path) for entry in small if basename(entry.path) == "Chart.yaml"}
        self._languages = self._scripts(tree, read)
        self._allowed: dict[str, bool] = {}
        self._generated = _listed_as_generated(tree, small)
        self._opt_outs = _opt_out_patterns(pinned.name, config.opt_out)
        self._accept_unknown = pinned.accept_unknown_licence
        self._tree = tree
        # REUSE puts the licence of picture.png into picture.png.license.
        by_path = {entry.path: entry for entry in entries}
        self._sides = {
            path.removesuffix(".license"): entry
            for path, entry in by_path.items()
            if path.endswith(".license") and path.removesuffix(".license") in by_path
        }
        self.licences = _read_licences(pinned, tree, by_path, {entry.path for entry in self._sides.values()})
        # A source of which nothing is read needs no licence.
        wanted = [entry.path for entry in read if not self._opt_outs.match_file(entry.path)]
        if wanted:
            self._check_licence(pinned, wanted)

    def entry_reason(self, entry: Entry) -> str | None:
        """Return the reason to drop a file before its bytes are read, or None."""
        if reason := self._selection.reason(entry.path):
            return reason
        if entry.mode not in REGULAR_MODES:
            return {SYMLINK_MODE: "symlink", SUBMODULE_MODE: "submodule"}.get(entry.mode, "mode")
        reason = name_reason(entry.path) or ("opt_out" if self._opt_outs.match_file(entry.path) else None)
        reason = reason or self.attributes_reason(entry.path) or self.path_reason(entry.path)
        if reason:
            return reason
        language = self.language(entry.path)
        if language is None:
            return "binary" if is_binary(entry.path) else "type"
        if kind_of(entry.path, language) not in self._config.kinds:
            return "kind"
        max_bytes = self._config.max_bytes * (_NOTEBOOK_FACTOR if language == NOTEBOOK else 1)
        return "too_large" if entry.num_bytes > max_bytes else self.secret_path_reason(entry.path)

    def text_reason(self, num_bytes: int, licence: Statement) -> str | None:
        """Return the reason to drop a file for the size of its text or for its licence, or None.

        Only a notebook can fail by size here: the size of its text is not known before it is converted.
        """
        if num_bytes > self._config.max_bytes:
            return "too_large"
        allowed = self._is_allowed(licence.spdx) if licence.spdx else self._accept_unknown
        return None if allowed else "not_permitted"

    def is_written(self, path: str) -> bool:
        """Whether `.gitattributes` declares that people wrote the file (linguist-generated=false)."""
        return self._attribute_flags(path).get("generated") is False

    def language(self, path: str) -> str | None:
        """Return the language by the path and the tree's Helm charts; None for types that are left out."""
        if path not in self._languages:
            self._languages[path] = language_of(path, self._charts, self._config.languages)
        return self._languages[path]

    def licence(self, path: str, header: Statement) -> Statement:
        """Return what is stated about a file: by itself, next to it, by an annotation, or by the nearest folder."""
        side = self._sides.get(path)
        if side is not None and side.mode in REGULAR_MODES and side.num_bytes <= _MAX_METADATA_BYTES:
            of_side = header_statement(self._tree.read(side).data.decode("utf-8", "replace"))
            header = header if of_side == NOTHING else of_side
        stated = self.licences.of_file(path, header)
        return stated._replace(unknown=redact(stated.unknown, people=True).text) if stated.unknown else stated

    def attributes_reason(self, path: str) -> str | None:
        """Return `generated` or `vendored` if `.gitattributes` marks the file as such, or None."""
        flags = self._attribute_flags(path)
        return _unless_index_page(path, next((reason for reason, applies in flags.items() if applies), None))

    def path_reason(self, path: str) -> str | None:
        """Return the reason to drop a file for its path, unless `.gitattributes` denies that reason, or None."""
        reason = "generated" if path in self._generated else path_reason(path)
        denied = reason is not None and self._attribute_flags(path).get(reason) is False
        return None if denied else _unless_index_page(path, reason)

    def secret_path_reason(self, path: str) -> str | None:
        """Return `secret_path` if the path itself holds a secret or, if people are redacted, an address; else None.

        A document's path is stored and shown, and a masked path would name no file.
        """
        is_masked = self._config.redact_people and mask_emails_in_path(path) != path
        return "secret_path" if is_masked or contains_secret(path) else None

    def _scripts(self, tree: Tree, entries: Iterable[Entry]) -> dict[str, str | None]:
        """Return path → language of the files without a suffix that begin with a shebang line."""
        return {
            entry.path: script_language(tree.read(entry).data)
            for entry in entries
            if entry.mode in REGULAR_MODES
            and may_be_script(entry.path)
            and entry.num_bytes <= _MAX_METADATA_BYTES
            and language_of(entry.path, self._charts, self._config.languages) is None
        }

    def _attribute_flags(self, path: str) -> dict[str, bool]:
        return parse_attributes(self._attributes.get(path, {}))

    def _is_allowed(self, licence: str) -> bool:
        if licence not in self._allowed:
            self._allowed[licence] = is_permissive(licence, self._config.licences)
        return self._allowed[licence]

    def _check_licence(self, pinned: PinnedSource, paths: Iterable[str]) -> None:
        """Raise an error if the licence of the source lets none of these files be read.

        The folders that `paths` of the source select may have a licence of their own.
        """
        folders = {dirname(path) for path in paths} if pinned.selection.files.paths else set()
        if any(self._is_allowed(stated.spdx) for stated in map(self.licences.of_folder, folders) if stated.spdx):
            return
        licence, unknown = self.licences.of_folder()
        where = ", ".join(path for path in self.licences.files if not self.secret_path_reason(path))
        offers_allowed = any(self._is_allowed(spdx) for spdx in self.licences.offered)
        if not licence and not self._accept_unknown and not offers_allowed:
            first = f" It begins: {redact(unknown, people=True).text!r}." if unknown else ""
            problem = f"no licence is recognised in {where}.{first}" if where else "it states no licence."
            raise SourceError(
                f"{pinned.url}: {problem} Remove the source, or, if you may use it, give it "
                "accept_unknown_licence: true."
            )
        if licence and not self._is_allowed(licence) and not offers_allowed:
            raise SourceError(
                f"{pinned.url}: is under {licence} ({where}), which is not allowed. Remove the source, or, if you may "
                "use it, add the licence to corpus.documents.licences."
            )


def _read_licences(pinned: PinnedSource, tree: Tree, by_path: Mapping[str, Entry], sides: Collection[str]) -> Licences:
    """Return the licences of a tree. Files with equal bytes are read once; symlinks are followed within the tree."""
    of_package = is_package(pinned.url)
    deciding = [path for path in by_path if path not in sides and decides_licence(path, of_package=of_package)]
    links = {}
    if any(by_path[path].mode == SYMLINK_MODE for path in deciding):
        linking = [entry for entry in by_path.values() if entry.mode == SYMLINK_MODE]
        links = {entry.path: tree.read(entry).data.decode("utf-8", "surrogateescape") for entry in linking}
    texts: dict[str, str] = {}
    by_key: dict[str, str] = {}
    unreadable = []
    for path in deciding:
        entry = by_path.get(resolve_link(path, links) or "")
        if entry is None or entry.mode not in REGULAR_MODES or entry.num_bytes > _MAX_METADATA_BYTES:
            unreadable.append(path)
            continue
        if len(by_key) > _MAX_LICENCE_TEXTS:
            raise SourceError(f"{pinned.url}: has more than {_MAX_LICENCE_TEXTS:,} licence texts. Remove the source.")
        if entry.key not in by_key:
            by_key[entry.key] = _decode(tree.read(entry).data)
        texts[path] = by_key[entry.key]
    return Licences(texts, unreadable=unreadable)


def _decode(data: bytes) -> str:
    mark = next((mark for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) if data.startswith(mark)), None)
    return data.decode("utf-16" if mark else "utf-8-sig", "replace")


def _listed_as_generated(tree: Tree, entries: Iterable[Entry]) -> set[str]:
    """Return the paths of all files that openapi-generator lists as its own: pages and models often have no header."""
    paths: set[str] = set()
    for entry in entries:
        if entry.path.endswith(_GENERATED_LIST):
            folder = dirname(dirname(entry.path))
            lines = tree.read(entry).data.decode("utf-8", "replace").split("\n")
            paths |= {normpath(join(folder, line.strip())) for line in lines if line.strip()}
    return paths


def _unless_index_page(path: str, reason: str | None) -> str | None:
    """Return the reason, or None if an index page would be dropped as `generated`."""
    return None if reason == "generated" and basename(path) in _INDEX_PAGES else reason


def _opt_out_patterns(repository: str, lines: Iterable[str]) -> GitIgnoreSpec:
    """Return the opt-out patterns for one repository; its bare name opts out all of it."""
    matches = [match for match in map(OPT_OUT_LINE.fullmatch, lines) if match]
    of_repository = [match for match in matches if match["name"].casefold() == repository.casefold()]
    return GitIgnoreSpec.from_lines(match["pattern"] or "*" for match in of_repository)
