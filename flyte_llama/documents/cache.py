"""What a later run need not do again for a source: filter results by blob id, and the root commits of a commit.

Filter results are in one Parquet file per source: unchanged files are not filtered again. A file holds only the results
that the last run used, and is rewritten only if their keys changed. Results of other rules or libraries are not used
(`rules_version`), and a damaged file is ignored. In memory, their texts are compressed: those of a large source would
take too much room.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.documents.text import FilteredText
from flyte_llama.errors import DataError
from flyte_llama.progress import say
from flyte_llama.sources import PinnedSource, RootCommits
from flyte_llama.storage import seal, verify

# The rooms and the libraries that decide which files of a source are read, and a document's text.
_ROOMS = ("documents", "redaction", "sources")
_LIBRARIES = ("chardet", "identify", "jupytext", "nbformat", "packaging", "pathspec", "rensa")

_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "reason": pa.string(),
        "text": pa.large_string(),
        "encoding": pa.string(),
        "skipped_bytes": pa.int64(),
        "language": pa.string(),
        "licence": pa.string(),
        "unknown_licence": pa.string(),
        "redacted": pa.map_(pa.string(), pa.int64()),
        "signature": pa.binary(),
    }
)
_VERSION_KEY = b"rules_version"
_FIELDS = [field.name for field in fields(FilteredText)]
_BATCH_ROWS = 256
_ROOTS = "roots-"  # and the commit: the name of a sealed folder that holds nothing but its manifest
_CODEC = pa.Codec("zstd", compression_level=1)


class _Packed(NamedTuple):
    """A result with its text compressed."""

    filtered: FilteredText
    """Without its text."""

    num_bytes: int
    """Length of the text in UTF-8."""

    text: bytes


class FilteredTextCache:
    """The cached filter results of one source, as long as the rules have not changed.

    Args:
        folder: Holds the cache files of all sources; with None, nothing is kept between runs.
        name: The source's `cache_name`, which names its file.
    """

    def __init__(self, folder: Path | None, *, name: str) -> None:
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        self._file = folder / f"verdicts-{digest}.parquet" if folder else None
        self._known: dict[str, _Packed] = _read(self._file) if self._file is not None else {}
        self._used: dict[str, _Packed] = {}

    def get(self, key: str) -> FilteredText | None:
        """Return the result from this run or the last one, and keep it for the next run; None if neither has it."""
        packed = self._used.get(key) or self._known.get(key)
        if packed is None:
            return None
        self._used[key] = packed
        return _unpack(packed)

    def put(self, key: str, filtered: FilteredText) -> None:
        """Keep a new result for the next run."""
        self._used[key] = _pack(filtered)

    def save(self) -> None:
        """Write the results of this run, unless the file has exactly these already; a folder that fails is no error."""
        if self._file is None or self._used.keys() == self._known.keys():
            return
        try:
            self._write(self._file)
        except OSError as error:
            say(f"{self._file.parent}: cannot be written, so the next run filters these files again: {error}")

    def _write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Write to a file of this process, then rename: no crash and no concurrent run leaves half a file.
        temporary = file.with_suffix(f".{os.getpid()}")
        schema = _SCHEMA.with_metadata({_VERSION_KEY: rules_version()})
        with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
            remaining = iter(sorted(self._used))
            while keys := list(itertools.islice(remaining, _BATCH_ROWS)):
                results = [_unpack(self._used[key]) for key in keys]
                columns: dict[str, list] = {name: [getattr(result, name) for result in results] for name in _FIELDS}
                columns["redacted"] = [list(counts.items()) for counts in columns["redacted"]]
                writer.write_table(pa.table({"key": keys, **columns}, schema=schema))
        temporary.replace(file)


def cached_roots(folder: Path | None, pinned: PinnedSource) -> RootCommits | None:
    """Return the root commits of the pinned commit if an earlier run cached them undamaged."""
    if folder is None:
        return None
    try:
        manifest = verify(folder / (_ROOTS + pinned.revision), strict=True)
        return RootCommits.model_validate(manifest["roots"])
    except (DataError, LookupError, OSError, ValueError):
        return None


def cache_roots(folder: Path | None, pinned: PinnedSource, roots: RootCommits) -> None:
    """Keep the root commits for the next run, in place of those of an older commit; unknown ones are not kept."""
    if folder is None or not roots.own or cached_roots(folder, pinned) == roots:
        return
    try:
        for older in folder.glob(_ROOTS + "*"):
            shutil.rmtree(older, ignore_errors=True)
        new = folder / (_ROOTS + pinned.revision)
        new.mkdir(parents=True, exist_ok=True)
        seal(new, {}, roots=roots.model_dump())
    except OSError as error:
        say(f"{folder}: cannot be written, so the next run fetches the commits again: {error}")


@functools.cache
def rules_version() -> str:
    """Return 16 hex digits that change with code, libraries and Python, so no cache serves results of old rules.

    The code is this whole room, `redaction` and `sources`: what is read, and each document's text, is decided in them.
    """
    digest = hashlib.sha256(platform.python_version().encode())
    package = Path(__file__).parent.parent
    for file in sorted(file for room in _ROOMS for file in (package / room).rglob("*.py")):
        digest.update(f"{file.relative_to(package).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    for library in _LIBRARIES:
        digest.update(f"{library} {metadata.version(library)}\0".encode())
    return digest.hexdigest()[:16]


def _read(file: Path) -> dict[str, _Packed]:
    """Return key → result; empty if there is no file, or if it cannot be read, is damaged or from other rules."""
    try:
        return dict(_rows(file))
    except (pa.ArrowException, OSError, ValueError):
        # Damaged: all files are filtered again, and `save` replaces this one.
        return {}


def _rows(file: Path) -> Iterator[tuple[str, _Packed]]:
    """Yield the key and the result of each row; none if the rows are from other rules."""
    redacted = _FIELDS.index("redacted")
    with pq.ParquetFile(file, page_checksum_verification=True) as table:
        schema = table.schema_arrow
        if schema != _SCHEMA or (schema.metadata or {}).get(_VERSION_KEY) != rules_version().encode():
            return
        for batch in table.iter_batches(batch_size=_BATCH_ROWS):
            keys, *columns = [column.to_pylist() for column in batch.columns]
            columns[redacted] = [dict(counts) for counts in columns[redacted]]
            for key, *values in zip(keys, *columns, strict=True):
                yield key, _pack(FilteredText(*values))


def _pack(filtered: FilteredText) -> _Packed:
    text = filtered.text.encode()
    return _Packed(replace(filtered, text=""), len(text), _CODEC.compress(text, asbytes=True))


def _unpack(packed: _Packed) -> FilteredText:
    text = _CODEC.decompress(packed.text, packed.num_bytes, asbytes=True) if packed.num_bytes else b""
    return replace(packed.filtered, text=text.decode())
