"""The document, the Parquet table that stores documents, and the counts of a source's files.

A stored folder has `documents.parquet`, one row per document, and is sealed by a manifest. `SourceCount` counts the
files of a source that became documents, and those left out for each reason. Which files become documents is up to
`read`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.config import Frozen, Selection
from flyte_llama.config.source_url import repository_address
from flyte_llama.storage import seal, verify

TABLE = "documents.parquet"
LARGEST = 10
"""How many entries a table of the most or the largest names: licences, or files for each reason."""

_BATCH_ROWS = 256
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

# Host → the parts between repository and revision in the URLs of a file and of a commit.
_PAGES = [
    (re.compile(r"github\.com"), "blob", "commit"),
    (re.compile(r"gitlab\..+"), "-/blob", "-/commit"),
    (re.compile(r"bitbucket\.org"), "src", "commits"),
    (re.compile(r"codeberg\.org|gitea\..+"), "src/commit", "commit"),
]


class DocumentId(NamedTuple):
    """Identifies a document in a corpus.

    It has the URL, because names are not unique: the repositories `acme/tools` of github.com and gitlab.com share one.
    """

    url: str
    path: str
    start: int


@dataclass(frozen=True, slots=True)
class Document:
    """The text of one file, or a part of it, and where it comes from."""

    repository: str
    url: str
    ref: str
    """The full name of the pinned ref; empty for a bare commit or a package."""

    revision: str
    """The commit or the package version that was read."""

    committed: int
    """Commit time of the revision, in seconds since 1970; 0 for a package."""

    path: str
    blob_id: str
    """git's object id of the file's bytes."""

    start: int
    """Where the text begins, in bytes: an offset into the file if `encoding` is `utf-8`, otherwise into the file's text
    converted to UTF-8. A byte order mark counts."""

    end: int
    encoding: str
    """How the text was read from the file: Python's name of the file's encoding, or `notebook` if the text is the
    notebook's py:percent form. `file_text` repeats the conversion."""

    language: str
    kind: str
    """`source`, `test`, `docs` or `config`."""

    licence: str
    """SPDX expression; empty if unknown."""

    first_commit: int
    """When the path or its bytes were first committed, in seconds since 1970; 0 if the history was not read."""

    filters: tuple[str, ...]
    """Names of the filters that the document passed, in order."""

    signature: bytes
    """MinHash of the file's text (`ngrams.signature`); empty once the corpus is built."""

    text: str
    """As in the file, except that placeholders of equal length replace secrets and personal data."""

    @property
    def id(self) -> DocumentId:
        return DocumentId(self.url, self.path, self.start)

    @property
    def num_bytes(self) -> int:
        """Size of the text in UTF-8."""
        return self.end - self.start

    @property
    def permalink(self) -> str:
        """URL of the file at this revision; empty if the host is not known."""
        return file_address(self.url, self.revision, self.path)


class Amount(Frozen):
    """A number of files or documents, and their total size."""

    files: int = 0
    num_bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(files=self.files + other.files, num_bytes=self.num_bytes + other.num_bytes)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(files=self.files - other.files, num_bytes=self.num_bytes - other.num_bytes)


class SourceCount(Frozen):
    """The counts of one source: `documents` + Σ `skipped` = `entries`, in files and in bytes."""

    repository: str
    url: str
    ref: str
    revision: str
    committed: int
    """Commit time of the revision, in seconds since 1970; 0 for a package."""

    licence: str
    """SPDX expression of the whole source; empty if unknown."""

    licence_files: list[str]
    """Paths of the files that state it."""

    entries: Amount
    documents: Amount
    """Bytes are the original file sizes, before a notebook's outputs are dropped or an encoding is changed."""

    skipped: dict[str, Amount]
    """Reason → the files left out for it."""

    unread: dict[str, int]
    """Suffix, or name without one → number of files left out because of their type; the most frequent ones."""
    not_permitted: dict[str, Amount]
    """Licence → the files left out as `not_permitted`: its SPDX expression or, of one that is not recognised, the line
    that states it. The licences of the most files; `others` stands for the rest."""

    redacted: dict[str, int]
    """Detector → number of placeholders that it put in."""

    selection: Selection = Selection()
    """Which of its files were to be read."""


def file_address(url: str, revision: str, path: str) -> str:
    """Return the URL of a file of a source at a revision; empty if the host is not known."""
    for address, file, _ in _pages(url):
        return f"{address}/{file}/{revision}/{quote(path)}"
    return ""


def commit_address(url: str, revision: str) -> str:
    """Return the URL of a commit of a source; empty if the host is not known."""
    for address, _, commit in _pages(url):
        return f"{address}/{commit}/{revision}"
    return ""


def draw(*name: object) -> bytes:
    """Return 32 random bytes that depend on a name alone, such as (seed, URL, path, start).

    So neither the order of the documents nor their number changes what is drawn for one of them. Sorting by `draw`
    shuffles; its first bytes make a number or a seed.
    """
    return hashlib.sha256("\0".join(map(str, name)).encode()).digest()


def write_documents(
    folder: Path, documents: Iterable[Document], *, other_tables: Mapping[str, int] | None = None, **facts: Any
) -> None:
    """Write `documents.parquet` and seal the folder, with `facts` in its manifest.

    Args:
        other_tables: Name → number of rows, for tables already in the folder that are sealed with this one.
    """
    num_rows = write_unsealed_documents(folder, documents)
    seal(folder, {TABLE: num_rows, **(other_tables or {})}, **facts)


def write_unsealed_documents(folder: Path, documents: Iterable[Document]) -> int:
    """Write `documents.parquet` batch by batch, to save memory, and return the number of documents."""
    folder.mkdir(parents=True, exist_ok=True)
    num_rows, remaining = 0, iter(documents)
    with pq.ParquetWriter(folder / TABLE, SCHEMA, compression="zstd") as writer:
        while batch := list(itertools.islice(remaining, _BATCH_ROWS)):
            columns = {name: [getattr(document, name) for document in batch] for name in SCHEMA.names}
            writer.write_table(pa.table(columns, schema=SCHEMA))
            num_rows += len(batch)
    return num_rows


def open_documents(folder: Path) -> tuple[list[Document], dict[str, Any]]:
    """Return the documents of a sealed folder, in the order written, and its manifest.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    manifest = verify(folder)
    return [document for batch in _batches(folder) for document in batch], manifest


def read_documents(folder: Path) -> list[Document]:
    """Return the documents of a sealed folder, in the order written."""
    return open_documents(folder)[0]


def read_documents_in_batches(folder: Path) -> Iterator[list[Document]]:
    """Verify a sealed folder, then yield its documents in batches of a few hundred, to save memory.

    Raises:
        DataError: when called, if the folder is unfinished or damaged.
    """
    verify(folder)
    return _batches(folder)


def largest(amounts: Mapping[str, Amount]) -> dict[str, Amount]:
    """Return the entries with the most files, from the most to the fewest, and the rest of them as `others`."""
    ordered = sorted(amounts, key=lambda name: (-amounts[name].files, name))
    shown = {name: amounts[name] for name in ordered[:LARGEST]}
    rest = sum_amounts(amounts[name] for name in ordered[LARGEST:])
    return shown | ({"others": rest} if rest.files else {})


def sum_amounts(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, Amount())


def _batches(folder: Path) -> Iterator[list[Document]]:
    names = [field.name for field in fields(Document)]
    filters = names.index("filters")
    with pq.ParquetFile(folder / TABLE) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
            columns = [column.to_pylist() for column in batch.columns]
            columns[filters] = [tuple(passed) for passed in columns[filters]]
            yield [Document(*row) for row in zip(*columns, strict=True)]


def _pages(url: str) -> Iterator[tuple[str, str, str]]:
    """Yield the address of a repository, and the parts of its URLs of files and commits, if the host is known."""
    host, _, path = repository_address(url).partition("/")
    for pattern, file, commit in _PAGES:
        if pattern.fullmatch(host):
            yield f"https://{host}/{quote(path)}", file, commit
