"""Dataclasses as the rows of one Parquet table in a sealed folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.manifest import seal, verify


def write_rows(folder: Path, name: str, rows: Sequence[Any], schema: pa.Schema, **facts: Any) -> None:
    """Write the table, of that file name, and seal the folder, with `facts` in its manifest.

    Args:
        rows: Instances of one dataclass, whose fields the schema names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    pq.write_table(table, folder / name, compression="zstd")
    seal(folder, {name: len(rows)}, **facts)


def read_rows(folder: Path, name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The fields of each row, in the order written, and the folder's manifest.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    manifest = verify(folder)
    return pq.read_table(folder / name).to_pylist(), manifest
