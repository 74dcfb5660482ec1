"""Filter results cached by blob id, one Parquet file per source: unchanged files are not filtered again.

A file holds only the results that the last run used, and is rewritten only if their keys changed. Results of other
rules or libraries are not used (`rules_version`), and a damaged file is ignored.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.documents.text import FilteredText

# The libraries that decide a document's text.
_LIBRARIES = ("charset-normalizer", "identify", "jupytext", "nbformat", "packaging", "pathspec", "rensa")

_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "reason": pa.string(),
        "text": pa.large_string(),
        "encoding": pa.string(),
        "skipped_bytes": pa.int64(),
        "language": pa.string(),
        "licence": pa.string(),
        "redacted": pa.map_(pa.string(), pa.int64()),
        "signature": pa.binary(),
    }
)
_VERSION_KEY = b"rules_version"
_FIELDS = [field.name for field in fields(FilteredText)]


class FilteredTextCache:
    """The cached filter results of one source, as long as the rules have not changed.

    Args:
        folder: Holds the cache files of all sources; with None, nothing is kept between runs.
        url: The source's URL, which names its file.
    """

    def __init__(self, folder: Path | None, *, url: str) -> None:
        name = hashlib.sha256(url.encode()).hexdigest()[:32]
        self._file = folder / f"verdicts-{name}.parquet" if folder else None
        self._known: dict[str, FilteredText] = {}
        self._used: dict[str, FilteredText] = {}
        if self._file is not None and self._file.is_file():
            self._known = _read(self._file)

    def get(self, key: str) -> FilteredText | None:
        """Return the result from this run or the last one; None if neither has it."""
        return self._used.get(key) or self._known.get(key)

    def put(self, key: str, filtered: FilteredText) -> None:
        """Keep a result for the next run, whether it is new or came from the cache."""
        self._used[key] = filtered

    def save(self) -> None:
        """Write the results of this run, unless the file has exactly these already."""
        if self._file is None or self._used.keys() == self._known.keys():
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        keys = sorted(self._used)
        columns: dict[str, list] = {name: [getattr(self._used[key], name) for key in keys] for name in _FIELDS}
        columns["redacted"] = [list(counts.items()) for counts in columns["redacted"]]
        # Write to a file of this process, then rename: no crash and no concurrent run leaves half a file.
        temporary = self._file.with_suffix(f".{os.getpid()}")
        table = pa.table({"key": keys, **columns}, schema=_SCHEMA.with_metadata({_VERSION_KEY: rules_version()}))
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        temporary.replace(self._file)


@functools.cache
def rules_version() -> str:
    """Return 16 hex digits that change with the code and the libraries, so no cache serves results of old rules.

    The code is this whole room: everything that decides a document's text is in it.
    """
    digest = hashlib.sha256()
    room = Path(__file__).parent
    for file in sorted(room.rglob("*.py")):
        digest.update(f"{file.relative_to(room).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    for library in _LIBRARIES:
        digest.update(f"{library} {metadata.version(library)}\0".encode())
    return digest.hexdigest()[:16]


def _read(file: Path) -> dict[str, FilteredText]:
    """Return key → result; empty if the file is damaged or from other rules."""
    try:
        table = pq.read_table(file, page_checksum_verification=True)
        if table.schema != _SCHEMA or (table.schema.metadata or {}).get(_VERSION_KEY) != rules_version().encode():
            return {}
        keys, *columns = [column.to_pylist() for column in table.columns]
    except (pa.ArrowException, OSError, ValueError):
        # Damaged: all files are filtered again, and `save` replaces this one.
        return {}
    redacted = _FIELDS.index("redacted")
    columns[redacted] = [dict(counts) for counts in columns[redacted]]
    return {key: FilteredText(*values) for key, *values in zip(keys, *columns, strict=True)}
