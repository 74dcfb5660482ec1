"""The document, and its table: Parquet, one row a document, sealed by a manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.config.location import same_repository_key
from flyte_llama.manifest import seal, verify

TABLE = "documents.parquet"
_AT_ONCE = 256
SCHEMA = pa.schema(
    {
        "repository": pa.string(),
        "url": pa.string(),
        "ref": pa.string(),
        "revision": pa.string(),
        "committed": pa.int64(),
        "path": pa.string(),
        "blob_id": pa.string(),
        "start": pa.int64(),
        "end": pa.int64(),
        "encoding": pa.string(),
        "language": pa.string(),
        "kind": pa.string(),
        "licence": pa.string(),
        "first_commit": pa.int64(),
        "filters": pa.list_(pa.string()),
        "signature": pa.binary(),
        "text": pa.large_string(),
        "permalink": pa.string(),
    }
)

# Host → what stands between a repository and a revision in the address of a file.
_FILE_PAGES = [
    (re.compile(r"github\.com"), "blob"),
    (re.compile(r"gitlab\..+"), "-/blob"),
    (re.compile(r"bitbucket\.org"), "src"),
    (re.compile(r"codeberg\.org|gitea\..+"), "src/commit"),
]


@dataclass(frozen=True, slots=True)
class Document:
    """Text of one file, whole or a piece, and where it comes from."""

    repository: str
    url: str
    ref: str
    """The full ref that was asked for; empty for a bare commit or a package."""

    revision: str
    """Commit or version that was read."""

    committed: int
    """When that commit was made, in seconds since 1970; 0 for a package."""

    path: str
    blob_id: str
    """git's object id of the file's bytes."""

    start: int
    """Where the text begins in the file, in bytes of UTF-8: in the file's very bytes, unless `encoding` says
    otherwise."""

    end: int
    encoding: str
    """What the file's bytes are: `utf-8`, whose bytes the text is; another encoding, from which they were decoded; or
    `notebook`, of which the text is the py:percent form (`file_text` repeats either)."""

    language: str
    kind: str
    """source, test, docs or config."""

    licence: str
    """SPDX expression; empty if unknown."""

    first_commit: int
    """When the path or its bytes were first committed, in seconds since 1970; 0 if the history was not read."""

    filters: tuple[str, ...]
    """What looked at the document and let it pass, in order."""

    signature: bytes
    """MinHash of the file's text (`ngrams.signature`); empty once the corpus is built."""

    text: str
    """As in the file, but for placeholders of equal length in place of secrets and personal data."""

    @property
    def num_bytes(self) -> int:
        """Of the text in UTF-8."""
        return self.end - self.start

    @property
    def permalink(self) -> str:
        """Where the file can be read at this revision; empty where that is not known."""
        host, _, path = same_repository_key(self.url, keep_case=True).partition("/")
        within = next((within for known, within in _FILE_PAGES if known.fullmatch(host)), None)
        return f"https://{host}/{path}/{within}/{self.revision}/{quote(self.path)}" if within else ""


def write_documents(
    folder: Path, documents: Iterable[Document], *, beside: Mapping[str, int] | None = None, **facts: Any
) -> None:
    """Write `documents.parquet` and seal the folder, with `facts` in its manifest.

    Args:
        beside: Name → rows of tables that are in the folder already, to be sealed with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    documents = list(documents)
    columns = {name: [getattr(document, name) for document in documents] for name in SCHEMA.names}
    table = pa.table(columns, schema=SCHEMA)
    pq.write_table(table, folder / TABLE, compression="zstd", row_group_size=_AT_ONCE)
    seal(folder, {TABLE: len(documents), **(beside or {})}, **facts)


def open_documents(folder: Path) -> tuple[list[Document], dict[str, Any]]:
    """The documents of a sealed folder, in the order written, and its manifest.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    manifest = verify(folder)
    return [document for batch in _batches(folder) for document in batch], manifest


def documents_in_batches(folder: Path) -> Iterator[list[Document]]:
    """As `read_documents`, a few hundred in memory at a time."""
    verify(folder)
    yield from _batches(folder)


def read_documents(folder: Path) -> list[Document]:
    """As `open_documents`, without the manifest."""
    return open_documents(folder)[0]


def _batches(folder: Path) -> Iterator[list[Document]]:
    names = [field.name for field in fields(Document)]
    filters = names.index("filters")
    with pq.ParquetFile(folder / TABLE) as file:
        for batch in file.iter_batches(batch_size=_AT_ONCE, columns=names):
            columns = [column.to_pylist() for column in batch.columns]
            columns[filters] = [tuple(passed) for passed in columns[filters]]
            yield [Document(*row) for row in zip(*columns, strict=True)]
