"""Token ids → rows of `seq_len`, with document boundaries; the rows' file and its manifest.

Documents are joined end to end and cut into rows, so no token is lost or doubled. A document that meets the end of
a row goes on in the next one as a piece of its own: positions restart at 0 there, and it does not see what came
before. No piece attends to another, and none is asked to predict the first token of the next.

The last row is filled up with padding that is neither attended to nor learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flyte_llama.errors import DataError
from flyte_llama.manifest import seal, verify

TABLE = "rows.arrow"
IGNORED = -100
"""The label that cross entropy leaves out (torch's `ignore_index`)."""

_ROWS_A_BATCH = 1024


@dataclass(frozen=True)
class Row:
    """Pieces of documents side by side; `document`, `start` and `length` hold one number a piece."""

    input_ids: np.ndarray
    """int32, exactly `seq_len`; past the last piece stands padding."""

    document: list[int]
    """Number of the document, in the order given."""

    start: list[int]
    """Where the piece begins in the document's ids."""

    length: list[int]
    """Tokens of the piece; they sum to at most `seq_len`."""


def pack(documents: Iterable[np.ndarray], *, seq_len: int, pad_id: int) -> Iterator[Row]:
    """Join the documents' ids and cut them into rows.

    Raises:
        ValueError: if `seq_len` is below 2 (a row needs an input and a target).
    """
    if seq_len < 2:
        raise ValueError(f"seq_len = {seq_len}: a row needs an input and a target, so at least 2 tokens")
    parts: list[np.ndarray] = []
    row: tuple[list[int], list[int], list[int]] = ([], [], [])
    room = seq_len
    for number, ids in enumerate(documents):
        start = 0
        while start < len(ids):
            piece = ids[start : start + room]
            parts.append(piece)
            for column, value in zip(row, (number, start, len(piece)), strict=True):
                column.append(value)
            start += len(piece)
            room -= len(piece)
            if room == 0:
                yield Row(np.concatenate(parts), *row)
                parts, row, room = [], ([], [], []), seq_len
    if parts:
        parts.append(np.full(room, pad_id, dtype=np.int32))
        yield Row(np.concatenate(parts), *row)


def model_inputs(input_ids: np.ndarray, lengths: Iterable[int]) -> dict[str, np.ndarray]:
    """What the model is given for one row, int64 of the row's length.

    `position_ids` restart at 0 in every piece (attention goes by them); `labels` are the ids, but `IGNORED` at the
    first token of a piece, which only another document could predict, and in the padding. The model shifts them.
    """
    labels = input_ids.astype(np.int64)
    position_ids = np.empty(len(input_ids), dtype=np.int64)
    begin = 0
    for length in lengths:
        position_ids[begin : begin + length] = np.arange(length)
        labels[begin] = IGNORED
        begin += length
    position_ids[begin:] = np.arange(len(input_ids) - begin)
    labels[begin:] = IGNORED
    return {"input_ids": input_ids.astype(np.int64), "position_ids": position_ids, "labels": labels}


def write_rows(
    folder: Path,
    rows: Iterable[Row],
    *,
    seq_len: int,
    min_rows: int = 1,
    beside: Mapping[str, int] | None = None,
    **facts: Any,
) -> None:
    """Write an Arrow stream, which `datasets` maps into memory, and seal the folder with counts and `facts`.

    Args:
        beside: Name → rows of tables that are in the folder already, to be sealed with it.

    Raises:
        DataError: if there are fewer rows than `min_rows`, what one optimizer step takes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    integers = pa.list_(pa.int32())
    schema = pa.schema({"input_ids": integers, "document": integers, "start": integers, "length": integers})
    num_rows = num_tokens = 0
    with pa.OSFile(str(folder / TABLE), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in _batches(rows):
            columns = {name: pa.array([getattr(row, name) for row in batch], integers) for name in schema.names}
            writer.write_batch(pa.record_batch(columns, schema=schema))
            num_rows += len(batch)
            num_tokens += sum(sum(row.length) for row in batch)
    if num_rows < min_rows:
        raise DataError(
            f"{num_rows} rows of {seq_len} tokens are fewer than one step of training.global_batch_size = {min_rows}. "
            "Lower it or training.seq_len, or add sources."
        )
    padding = num_rows * seq_len - num_tokens
    counts = {"seq_len": seq_len, "num_tokens": num_tokens, "num_padding": padding}
    seal(folder, {TABLE: num_rows, **(beside or {})}, **counts, **facts)


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
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_A_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
