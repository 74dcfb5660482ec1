"""Verdicts kept by blob id, one Parquet file a source: what did not change since the last run is not judged again.

The file holds what the last run used, no more, and is written anew only if that changed. A damaged one is not believed.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.documents.verdict import Verdict
from flyte_llama.documents.version import rules_version

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
_RULES = b"rules_version"
_FIELDS = [field.name for field in fields(Verdict)]


class VerdictCache:
    """Of one source, under the rules as they are now.

    Args:
        folder: Where the files of all sources lie; None keeps nothing between runs.
    """

    def __init__(self, folder: Path | None, *, url: str) -> None:
        name = hashlib.sha256(url.encode()).hexdigest()[:32]
        self._file = folder / f"verdicts-{name}.parquet" if folder else None
        self._known: dict[str, Verdict] = {}
        self._used: dict[str, Verdict] = {}
        if self._file is not None and self._file.is_file():
            self._known = _read(self._file)

    def get(self, key: str) -> Verdict | None:
        return self._used.get(key) or self._known.get(key)

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep it for the next run, new or not."""
        self._used[key] = verdict

    def save(self) -> None:
        if self._file is None or self._used.keys() == self._known.keys():
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        keys = sorted(self._used)
        columns: dict[str, list] = {name: [getattr(self._used[key], name) for key in keys] for name in _FIELDS}
        columns["redacted"] = [list(counts.items()) for counts in columns["redacted"]]
        aside = self._file.with_suffix(f".{os.getpid()}")
        table = pa.table({"key": keys, **columns}, schema=_SCHEMA.with_metadata({_RULES: rules_version()}))
        pq.write_table(table, aside, compression="zstd", write_page_checksum=True)
        aside.replace(self._file)


def _read(file: Path) -> dict[str, Verdict]:
    try:
        table = pq.read_table(file, page_checksum_verification=True)
        if table.schema != _SCHEMA or (table.schema.metadata or {}).get(_RULES) != rules_version().encode():
            return {}
        keys, *columns = [column.to_pylist() for column in table.columns]
    except (pa.ArrowException, OSError, ValueError):
        # Damaged: everything is judged anew and the file replaced, as one of other rules is.
        return {}
    redacted = _FIELDS.index("redacted")
    columns[redacted] = [dict(counts) for counts in columns[redacted]]
    return {key: Verdict(*values) for key, *values in zip(keys, *columns, strict=True)}
