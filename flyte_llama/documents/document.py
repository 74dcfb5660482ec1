"""The document, and its table: Parquet, one row a document, sealed by a manifest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.manifest import seal, verify

TABLE = "documents.parquet"
SCHEMA = pa.schema(
    {
        "repository": pa.string(),
        "url": pa.string(),
        "revision": pa.string(),
        "path": pa.string(),
        "blob_id": pa.string(),
        "language": pa.string(),
        "kind": pa.string(),
        "num_bytes": pa.int64(),
        "licence": pa.string(),
        "text": pa.large_string(),
    }
)


@dataclass(frozen=True, slots=True)
class Document:
    repository: str
    url: str
    revision: str
    """Commit or version that was read."""

    path: str
    blob_id: str
    """git's object id of the file's bytes."""

    language: str
    kind: str
    """source, test, docs or config."""

    num_bytes: int
    """Of the text in UTF-8, which is the file's bytes, unchanged."""

    licence: str
    """Path of the licence file that covers it; empty if there is none."""

    text: str


def write_documents(folder: Path, documents: Iterable[Document], **facts: Any) -> None:
    """Write `documents.parquet` and seal the folder, with `facts` in its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([asdict(document) for document in documents], schema=SCHEMA)
    pq.write_table(table, folder / TABLE, compression="zstd")
    seal(folder, {TABLE: table.num_rows}, **facts)


def open_documents(folder: Path) -> tuple[list[Document], dict[str, Any]]:
    """The documents of a sealed folder, in the order written, and its manifest.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    manifest = verify(folder)
    return [Document(**row) for row in pq.read_table(folder / TABLE).to_pylist()], manifest


def read_documents(folder: Path) -> list[Document]:
    """As `open_documents`, without the manifest."""
    return open_documents(folder)[0]
