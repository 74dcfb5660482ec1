"""The table of the entries of a source that did not become documents, each with its reason.

`left_out.parquet` lies beside the documents. A path in it may be shown: secrets and addresses in it are masked, and
control characters escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flyte_llama.config import Frozen
from flyte_llama.documents.document import LARGEST
from flyte_llama.redaction import escape_line, mask_emails_in_path, redact
from flyte_llama.storage import write_unsealed_table

LEFT_OUT_TABLE = "left_out.parquet"

# Redacting takes as long for a path as for a page of text.
_MAY_BE_SECRET = re.compile(r"[@=:?&%]|[\w-]{20}")
_SCHEMA = pa.schema(
    {"repository": pa.string(), "url": pa.string(), "path": pa.string(), "num_bytes": pa.int64(), "reason": pa.string()}
)


class LeftOutFile(Frozen):
    """A file that did not become a document."""

    repository: str
    path: str
    num_bytes: int
    reason: str


def shown_path(path: str) -> str:
    """Return the path as it may be stored and shown, the same on every machine."""
    masked = redact(mask_emails_in_path(path), people=True).text if _MAY_BE_SECRET.search(path) else path
    return escape_line(masked)


def write_left_out(folder: Path, files: Sequence[LeftOutFile], *, url: str) -> dict[str, int]:
    """Write the table of one source, and return its name and number of rows, to be sealed."""
    columns = {name: [getattr(file, name) for file in files] for name in LeftOutFile.model_fields}
    table = pa.table({**columns, "url": [url] * len(files)}, schema=_SCHEMA)
    return {LEFT_OUT_TABLE: write_unsealed_table(folder, LEFT_OUT_TABLE, table)}


def join_left_out(folders: Iterable[Path]) -> pa.Table:
    """Return the tables of several sources as one, ordered by reason and then by size, the largest first."""
    tables = [pq.read_table(file) for folder in folders if (file := folder / LEFT_OUT_TABLE).is_file()]
    joined = pa.concat_tables([_SCHEMA.empty_table(), *tables])
    keys = [("reason", "ascending"), ("num_bytes", "descending"), ("repository", "ascending"), ("path", "ascending")]
    return joined.take(pc.sort_indices(joined, keys))


def largest_by_reason(table: pa.Table) -> dict[str, list[LeftOutFile]]:
    """Return reason → its largest files, of a table in the order of `join_left_out`."""
    largest: dict[str, list[LeftOutFile]] = {}
    for row in table.select(list(LeftOutFile.model_fields)).to_pylist():
        named = largest.setdefault(row["reason"], [])
        if len(named) < LARGEST:
            named.append(LeftOutFile(**row))
    return largest
