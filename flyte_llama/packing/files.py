"""The rows' file, an Arrow stream that `datasets` maps into memory, and its manifest."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flyte_llama.errors import DataError
from flyte_llama.manifest import seal, verify
from flyte_llama.objective import IGNORED
from flyte_llama.packing.rows import Row

TABLE = "rows.arrow"

_INTEGERS = pa.list_(pa.int32())
_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("input_ids", "labels", "document", "start", "length"), _INTEGERS),
        "bidirectional": pa.bool_(),
    }
)
_ROWS_A_BATCH = 256


def write_rows(
    folder: Path,
    epochs: Iterable[Iterable[Row]],
    *,
    seq_len: int,
    min_rows: int = 1,
    beside: Mapping[str, int] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Write the rows of one epoch after the other and seal the folder with counts and `facts`; the manifest.

    The counts are of all epochs together, but for `rows_per_epoch`.

    Args:
        min_rows: What one optimizer step takes.
        beside: Name → rows of tables that are in the folder already, to be sealed with it.

    Raises:
        DataError: if the first epoch has fewer rows than `min_rows`, or nothing is learned in any.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows_per_epoch: list[int] = []
    num_tokens = num_learned = 0
    with pa.OSFile(str(folder / TABLE), "wb") as sink, pa.ipc.new_stream(sink, _SCHEMA) as writer:
        for rows in epochs:
            rows_per_epoch.append(0)
            for batch in _batches(rows):
                writer.write_batch(_record_batch(batch))
                rows_per_epoch[-1] += len(batch)
                num_tokens += sum(sum(row.length) for row in batch)
                num_learned += sum(int((row.labels != IGNORED).sum()) for row in batch)
            if len(rows_per_epoch) == 1 and rows_per_epoch[0] < min_rows:
                raise DataError(
                    f"{rows_per_epoch[0]} rows of {seq_len} tokens are fewer than one step of "
                    f"training.global_batch_size = {min_rows}. Lower it or training.seq_len, or add sources."
                )
    if not num_learned:
        raise DataError(f"None of {num_tokens} tokens is learned, in no row of {folder / TABLE}. Add sources.")
    num_rows = sum(rows_per_epoch)
    counts = {
        "seq_len": seq_len,
        "num_tokens": num_tokens,
        "num_learned": num_learned,
        "num_padding": num_rows * seq_len - num_tokens,
        "rows_per_epoch": rows_per_epoch,
    }
    seal(folder, {TABLE: num_rows, **(beside or {})}, **counts, **facts)
    return {**counts, **facts}


def open_rows(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The rows as a `datasets.Dataset`, mapped into memory, and the manifest.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    import datasets

    manifest = verify(folder)
    rows = datasets.Dataset.from_file(str(folder / TABLE))
    if len(rows) != manifest["files"][TABLE]["rows"]:
        raise DataError(f"{folder / TABLE}: holds {len(rows)} rows, not as many as its manifest says.")
    return rows, manifest


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while batch := list(itertools.islice(left, _ROWS_A_BATCH)):
        yield batch


def _record_batch(rows: list[Row]) -> pa.RecordBatch:
    columns = []
    for name in _SCHEMA.names[:-1]:
        lists = [np.asarray(getattr(row, name), dtype=np.int32) for row in rows]
        offsets = np.cumsum([0, *map(len, lists)], dtype=np.int32)
        columns.append(pa.ListArray.from_arrays(offsets, np.concatenate(lists)))
    return pa.record_batch([*columns, pa.array([row.bidirectional for row in rows])], schema=_SCHEMA)
