"""The rows of a run: an Arrow stream that `datasets` maps into memory, sealed with a manifest.

Texts come in, and the packed rows of all epochs that the run reads go out, epoch after epoch in one file. The rows of
the validation part, if there is one, are in another. Does not shuffle: training draws the order of the rows.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flyte_llama.config import ObjectiveConfig, RunLength
from flyte_llama.encoding.encode import make_pieces
from flyte_llama.encoding.packing import Row, pack
from flyte_llama.encoding.pieces import IGNORED, KeyedText, Piece
from flyte_llama.encoding.short_infills import make_stages
from flyte_llama.encoding.tokenizer import DocumentTokenizer
from flyte_llama.errors import DataError
from flyte_llama.progress import say
from flyte_llama.storage import seal, verify

TABLE = "rows.arrow"
VALIDATION_TABLE = "validation.arrow"

_INTEGERS = pa.list_(pa.int32())
_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("input_ids", "labels", "document", "start", "length"), _INTEGERS),
        "bidirectional": pa.bool_(),
    }
)
_BATCH_ROWS = 256


class RowsWriter:
    """Writes the rows of a run, epoch by epoch, and seals the folder when it is left without an error.

    Example:

        with RowsWriter(folder, seq_len=4096, objective="clm") as writer:
            writer.write_epoch(pack(documents, seq_len=4096, pad_id=tokenizer.eos_id))
    """

    def __init__(
        self,
        folder: Path,
        *,
        seq_len: int,
        min_rows: int = 1,
        other_tables: Mapping[str, int] | None = None,
        **facts: Any,
    ) -> None:
        """Create nothing yet.

        Args:
            min_rows: The number of rows in one optimizer step.
            other_tables: File name → number of rows of tables already in the folder, to be listed in the same manifest.
            facts: More entries for the manifest.
        """
        self.rows_per_epoch: list[int] = []
        self.rows_before = 0  # read before the first epoch
        self.num_tokens = 0  # without padding
        self._num_learned = 0
        self._folder, self._seq_len, self._min_rows = folder, seq_len, min_rows
        self._other_tables, self._facts = dict(other_tables or {}), facts

    @property
    def num_rows(self) -> int:
        return sum(self.rows_per_epoch) + self.rows_before

    @property
    def num_padding(self) -> int:
        """Tokens of padding in all rows."""
        return self.num_rows * self._seq_len - self.num_tokens

    def __enter__(self) -> RowsWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sink = pa.OSFile(str(self._folder / TABLE), "wb")
        self._stream = pa.ipc.new_stream(self._sink, _SCHEMA)
        return self

    def write_epoch(self, rows: Iterable[Row]) -> None:
        """Write one epoch of rows.

        Raises:
            DataError: if the first epoch has fewer rows than one step takes.
        """
        num_rows = self._write(rows)
        if not self.rows_per_epoch and num_rows < self._min_rows:
            raise DataError(
                f"{num_rows} rows of {self._seq_len} tokens are fewer than one step takes: "
                f"training.global_batch_size = {self._min_rows}. Lower it or training.seq_len, or add sources."
            )
        self.rows_per_epoch.append(num_rows)

    def write_rows_before(self, rows: Iterable[Row]) -> None:
        """Write the rows that are read before the first epoch, after all epochs."""
        self.rows_before = self._write(rows)

    def _write(self, rows: Iterable[Row]) -> int:
        num_rows, num_tokens, num_learned = _write_rows(self._stream, rows)
        self.num_tokens += num_tokens
        self._num_learned += num_learned
        return num_rows

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        """Seal the folder.

        Raises:
            DataError: if no token of any epoch is learned.
        """
        self._stream.close()
        self._sink.close()
        if failed is not None:
            return
        if not self._num_learned:
            raise DataError(f"{self._folder / TABLE}: none of its {self.num_tokens} tokens is learned. Add sources.")
        content = {
            "seq_len": self._seq_len,
            "num_tokens": self.num_tokens,
            "num_learned": self._num_learned,
            "num_padding": self.num_padding,
            "rows_per_epoch": self.rows_per_epoch,
            "rows_before": self.rows_before,
            **self._facts,
        }
        seal(self._folder, {TABLE: self.num_rows, **self._other_tables}, **content)


def write_epochs(
    folder: Path,
    texts: Sequence[KeyedText],
    objective: ObjectiveConfig,
    tokenizer: DocumentTokenizer,
    *,
    seq_len: int,
    run_length: RunLength,
    infill_is_new: bool = False,
    other_tables: Mapping[str, int] | None = None,
) -> None:
    """Write the rows that a run reads, in whole epochs.

    A random objective gives different rows in every epoch; any other objective is written once, for all epochs. A run
    that needs more rows than are written, such as to fill its last batch, starts again at the first row.

    Args:
        infill_is_new: Whether the base never learned the infill tokens. It then reads short infillings first, if the
            objective infills in PSM.
        other_tables: As for `RowsWriter`.

    Raises:
        DataError: if the first epoch has fewer rows than one step takes, or no token is learned.
    """
    num_cut: list[int] = []
    pack_pieces = functools.partial(pack, seq_len=seq_len, pad_id=tokenizer.eos_id, folder=folder)
    with RowsWriter(
        folder,
        seq_len=seq_len,
        min_rows=run_length.global_batch_size,
        other_tables=other_tables,
        objective=", ".join(objective.kinds),
        makes_encoder=objective.makes_encoder,
        tokenizer_sha256=tokenizer.sha256,
        # told to those who use the model; rows of another share differ in their tokens
        psm_share=objective.psm_share,
        records=["psm_share"],
    ) as writer:
        for epoch in itertools.count():
            # Make and write one epoch at a time: all of them would not fit in memory, nor would the pieces of one.
            num_cut.append(0)
            documents = make_pieces(texts, objective, tokenizer, seq_len=seq_len, epoch=epoch)
            writer.write_epoch(pack_pieces(_count_cut(documents, num_cut)))
            if not objective.is_random or not run_length.reads_more_than(
                num_epochs=epoch + 1, num_rows=writer.num_rows
            ):
                break
        if infill_is_new and "fim" in objective.kinds and objective.psm_share:
            stages = make_stages(texts, objective, tokenizer, seq_len=seq_len)
            rows = [row for stage in stages for row in pack_pieces(stage)]
            writer.write_rows_before(_thin_out(rows, run_length.most_rows_before(writer.rows_per_epoch[0])))
    padding = writer.num_padding / (writer.num_rows * seq_len)
    before = f", and {writer.rows_before:,} of short infillings to read first" if writer.rows_before else ""
    say(
        f"{sum(writer.rows_per_epoch):,} rows of {seq_len:,} in {len(num_cut)} epoch{'s' * (len(num_cut) > 1)}"
        f"{before}: {writer.num_tokens:,} tokens, "
        f"{100 * padding:.2f} % padding; {num_cut[0]:,} of {len(texts):,} texts are longer than a row and were cut"
    )


def write_validation(
    folder: Path, texts: Sequence[KeyedText], objective: ObjectiveConfig, tokenizer: DocumentTokenizer, *, seq_len: int
) -> int:
    """Write `validation.arrow`, the rows of texts that are not trained on, and return its number of rows.

    The objective's random choices are those of the first epoch. The file is sealed later, together with the rows.

    Raises:
        DataError: if no token has a label.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pieces = make_pieces(texts, objective, tokenizer, seq_len=seq_len, epoch=0, what="encoding validation texts")
    rows = pack(pieces, seq_len=seq_len, pad_id=tokenizer.eos_id, folder=folder)
    with pa.OSFile(str(folder / VALIDATION_TABLE), "wb") as sink, pa.ipc.new_stream(sink, _SCHEMA) as stream:
        num_rows, _, num_labels = _write_rows(stream, rows)
    if not num_labels:
        raise DataError("training.validation_share: the validation part has no token to predict. Raise it.")
    say(f"{num_rows:,} validation rows of {seq_len:,}, with {num_labels:,} tokens to predict")
    return num_rows


def open_rows(folder: Path, table: str = TABLE) -> tuple[Any, dict[str, Any]]:
    """Open the rows as a memory-mapped `datasets.Dataset`; that and the manifest.

    Args:
        table: `TABLE`, or `VALIDATION_TABLE` for the rows of the validation part.

    Raises:
        DataError: if the folder is unfinished or damaged, or has no such table.
    """
    import datasets

    manifest = verify(folder)
    if table not in manifest["files"]:
        raise DataError(f"{folder}: holds no {table}. Encode the corpus again.")
    rows = datasets.Dataset.from_file(str(folder / table))
    if len(rows) != manifest["files"][table]["rows"]:
        raise DataError(
            f"{folder / table}: holds {len(rows)} rows, but its manifest counts {manifest['files'][table]['rows']}."
        )
    return rows, manifest


def _count_cut(documents: Iterable[list[Piece]], num_cut: list[int]) -> Iterator[list[Piece]]:
    """Yield the pieces of each document, and add those in several pieces to the last number."""
    for pieces in documents:
        num_cut[-1] += len(pieces) > 1
        yield pieces


def _thin_out(rows: list[Row], most: int) -> list[Row]:
    """Return at most so many of the rows, evenly spread and in their order."""
    return rows if len(rows) <= most else [rows[number * len(rows) // most] for number in range(most)]


def _write_rows(stream: Any, rows: Iterable[Row]) -> tuple[int, int, int]:
    """Write rows to an open Arrow stream; the number of rows, of tokens without padding, and of labels."""
    num_rows = num_tokens = num_labels = 0
    remaining = iter(rows)
    while batch := list(itertools.islice(remaining, _BATCH_ROWS)):
        stream.write_batch(_record_batch(batch))
        num_rows += len(batch)
        num_tokens += sum(sum(row.length) for row in batch)
        num_labels += sum(int((row.labels != IGNORED).sum()) for row in batch)
    return num_rows, num_tokens, num_labels


def _record_batch(rows: list[Row]) -> pa.RecordBatch:
    columns = []
    for name in _SCHEMA.names[:-1]:
        lists = [np.asarray(getattr(row, name), dtype=np.int32) for row in rows]
        offsets = np.cumsum([0, *map(len, lists)], dtype=np.int32)
        columns.append(pa.ListArray.from_arrays(offsets, np.concatenate(lists)))
    return pa.record_batch([*columns, pa.array([row.bidirectional for row in rows])], schema=_SCHEMA)
