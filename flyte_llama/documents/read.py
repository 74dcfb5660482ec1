"""Read the documents of a pinned source, and count the entries left out by reason.

Each entry passes the filters by tree and path (`filters`), then the filters by text (`text`), and the first one
that rejects it names the reason. Every entry is counted once: documents + Σ skipped = entries.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename, splitext

from flyte_llama.config import DocumentsConfig
from flyte_llama.documents.cache import FilteredTextCache, cache_roots, cached_roots
from flyte_llama.documents.document import (
    LARGEST,
    TABLE,
    Amount,
    Document,
    SourceCount,
    largest,
    sum_amounts,
    write_unsealed_documents,
)
from flyte_llama.documents.filters import SourceFilters
from flyte_llama.documents.languages import kind_of
from flyte_llama.documents.left_out import LeftOutFile, shown_path, write_left_out
from flyte_llama.documents.licences import Statement
from flyte_llama.documents.text import filter_text
from flyte_llama.errors import SourceError
from flyte_llama.progress import track
from flyte_llama.sources import PinnedSource, Tree, first_commits, open_tree, read_history
from flyte_llama.storage import seal

FILTERS = (
    *("mode", "name", "opt_out", "attributes", "path", "type", "kind", "size", "path_secrets"),
    *("encoding", "header", "output", "statistics", "secrets", "licence"),
)
"""The stages of filtering, in order. A stage may give several reasons; every document has passed all stages. Before
them, documents of a source with patterns or a split pass the stage `selection`."""

MAX_SOURCE_CHARS = 2_000_000_000
"""Limit on all documents of a source together. A repository of a few kilobytes can name one file of a megabyte a
million times."""


@dataclass(frozen=True)
class SourceDocuments:
    """The documents of a source, and the counts of its files."""

    documents: list[Document]
    """Ordered by path."""

    count: SourceCount


def read_source(pinned: PinnedSource, config: DocumentsConfig) -> SourceDocuments:
    """Read the documents of a pinned source into memory, with the dates of their files if the source is dated.

    Raises:
        SourceError: if any part of the source cannot be read, or the configuration does not allow its licence.
    """
    dates = first_commits(pinned) if pinned.dated else {}
    with open_tree(pinned) as tree:
        return collect(pinned, tree, config, dates=dates)


def write_source(
    pinned: PinnedSource, config: DocumentsConfig, folder: Path, *, cache_folder: Path | None = None
) -> SourceCount:
    """Read a pinned source like `read_source`, and write its documents to a sealed folder, batch by batch.

    The manifest holds the counts as `source`, and the root commits as `roots`.

    Args:
        cache_folder: Filter results of earlier runs, updated by this one; None filters every file.
    """
    history = read_history(pinned) if pinned.dated else None
    cache = FilteredTextCache(cache_folder, name=pinned.cache_name)
    with open_tree(pinned) as tree:
        reader = SourceReader(pinned, tree, config, cache=cache, dates=history.first_commits if history else {})
        num_documents = write_unsealed_documents(folder, reader)
    left_out = write_left_out(folder, reader.left_out, url=pinned.url)
    roots = history.roots if history else cached_roots(cache_folder, pinned) or read_history(pinned).roots
    cache_roots(cache_folder, pinned, roots)
    seal(folder, {TABLE: num_documents, **left_out}, source=reader.count.model_dump(), roots=roots.model_dump())
    return reader.count


def collect(
    pinned: PinnedSource,
    tree: Tree,
    config: DocumentsConfig,
    *,
    cache: FilteredTextCache | None = None,
    dates: Mapping[str, int] | None = None,
) -> SourceDocuments:
    """Filter the files of a tree, redact the text that is kept, and return the documents with their counts.

    Args:
        cache: Filter results of an earlier run.
        dates: Path → time of the first commit (`sources.first_commits`); None dates no document.

    Raises:
        SourceError: if any part of the source cannot be read (files are never dropped silently), or if the
            configuration does not allow its licence.
    """
    reader = SourceReader(pinned, tree, config, cache=cache, dates=dates)
    return SourceDocuments(list(reader), reader.count)


class SourceReader:
    """Yields the documents of a tree, ordered by path, and counts its files.

    Args and errors: as for `collect`.
    """

    count: SourceCount
    left_out: list[LeftOutFile]
    """Both are set once all documents are read."""

    def __init__(
        self,
        pinned: PinnedSource,
        tree: Tree,
        config: DocumentsConfig,
        *,
        cache: FilteredTextCache | None = None,
        dates: Mapping[str, int] | None = None,
    ) -> None:
        self._pinned, self._tree, self._config = pinned, tree, config
        self._cache = cache or FilteredTextCache(None, name=pinned.cache_name)
        self._dates = dates or {}

    def __iter__(self) -> Iterator[Document]:
        pinned, tree, cache, config = self._pinned, self._tree, self._cache, self._config
        entries = sorted(tree.entries())
        filters = SourceFilters(pinned, tree, entries, config, dates=self._dates)
        # Sources that are read whole have no such stage.
        passed = FILTERS if pinned.selection.is_whole else ("selection", *FILTERS)
        committed = tree.committed
        skipped: defaultdict[str, Amount] = defaultdict(Amount)
        left_out: list[LeftOutFile] = []
        not_permitted: defaultdict[str, Amount] = defaultdict(Amount)
        redacted = Counter[str]()
        total_kept, num_chars = Amount(), 0
        for entry in track(entries, what=f"reading {pinned.name}", total=len(entries)):
            # filter by mode, path, attributes, type and size, without reading the file
            amount = Amount(files=1, num_bytes=entry.num_bytes)
            reason = filters.entry_reason(entry)

            # filter by text and licence
            if reason is None:
                language = str(filters.language(entry.path))
                kind, blob_id = kind_of(entry.path, language), tree.blob_id(entry)
                switches = {"redact_people": config.redact_people, "is_written": filters.is_written(entry.path)}
                # The cache key: everything that the result depends on. The cache adds the version of the rules.
                key = " ".join([blob_id, language, kind, *(name for name, on in switches.items() if on)])
                known = cache.get(key)
                filtered = known or filter_text(tree.read(entry).data, language, kind, **switches)
                if known is None:
                    cache.put(key, filtered)
                licence = filters.licence(entry.path, Statement(filtered.licence, filtered.unknown_licence))
                num_bytes = len(filtered.text.encode())
                reason = filtered.reason or filters.text_reason(num_bytes, licence)
                if reason == "not_permitted":
                    not_permitted[licence.spdx or licence.unknown or "states no licence"] += amount
            if reason is not None:
                skipped[reason] += amount
                path = shown_path(entry.path)
                file = LeftOutFile(repository=pinned.name, path=path, num_bytes=entry.num_bytes, reason=reason)
                left_out.append(file)
                continue

            # keep the file as one document
            total_kept += amount
            num_chars += len(filtered.text)
            if num_chars > MAX_SOURCE_CHARS:
                raise SourceError(
                    f"{pinned.url}: holds more than {MAX_SOURCE_CHARS:,} characters of text, more than people write. "
                    "Leave some of it out with `exclude` of this source."
                )
            redacted.update(filtered.redacted)
            yield Document(
                repository=pinned.name,
                url=pinned.url,
                ref=pinned.ref,
                revision=pinned.revision,
                committed=committed,
                path=entry.path,
                blob_id=blob_id,
                start=filtered.skipped_bytes,
                end=filtered.skipped_bytes + num_bytes,
                encoding=filtered.encoding,
                language=filtered.language,
                kind=kind,
                licence=licence.spdx,
                first_commit=self._dates.get(entry.path, 0),
                filters=passed,
                signature=filtered.signature,
                text=filtered.text,
            )
        cache.save()
        self.left_out = left_out
        types = [file.path for file in self.left_out if file.reason == "type"]
        unread = Counter(splitext(path)[1] or basename(path) for path in types)
        self.count = SourceCount(
            repository=pinned.name,
            url=pinned.url,
            ref=pinned.ref,
            revision=pinned.revision,
            committed=committed,
            licence=filters.licences.of_folder().spdx,
            licence_files=[path for path in filters.licences.files if not filters.secret_path_reason(path)],
            entries=sum_amounts(Amount(files=1, num_bytes=entry.num_bytes) for entry in entries),
            documents=total_kept,
            skipped=dict(sorted(skipped.items())),
            unread=dict(unread.most_common(LARGEST)),
            not_permitted=largest(not_permitted),
            redacted=dict(sorted(redacted.items())),
            selection=pinned.selection,
        )
