"""Texts → the rows of as many epochs as a run will read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from flyte_llama.config import ObjectiveConfig
from flyte_llama.objective import KeyedText, learn
from flyte_llama.packing.files import write_rows
from flyte_llama.packing.rows import Row, pack
from flyte_llama.progress import say
from flyte_llama.tokens import DocumentTokenizer


def num_steps(rows_in_epoch: int, *, epochs: float, max_steps: int, global_batch_size: int) -> int:
    """Optimizer steps of a run: `max_steps`, or if that is 0 as many as it takes to read `epochs` epochs' rows.

    >>> num_steps(10, epochs=2.5, max_steps=0, global_batch_size=4)
    7
    """
    # In floats, 0.1 · 30 rows would be a little more than 3.
    return max_steps or math.ceil(Fraction(str(epochs)) * rows_in_epoch / global_batch_size)


def write_epochs(
    folder: Path,
    texts: Sequence[KeyedText],
    objective: ObjectiveConfig,
    tokenizer: DocumentTokenizer,
    *,
    seq_len: int,
    epochs: float,
    max_steps: int,
    global_batch_size: int,
    beside: Mapping[str, int] | None = None,
) -> None:
    """Write what a run reads, in whole epochs: with a random objective each is another, without one there is but one.

    A run that reads more, as for its last batch to be full, begins again with the first.

    Raises:
        DataError: if an epoch has fewer rows than one step takes.
    """
    num_cut: list[int] = []

    def all_epochs() -> Iterator[Iterator[Row]]:
        more, written = True, 0
        while more:
            documents = list(learn(texts, objective, tokenizer, seq_len=seq_len, epoch=len(num_cut)))
            num_cut.append(sum(len(pieces) > 1 for pieces in documents))
            rows = list(pack(documents, seq_len=seq_len, pad_id=tokenizer.eos_id))
            written += len(rows)
            missing = written < max_steps * global_batch_size if max_steps else len(num_cut) < epochs
            more = objective.is_random and bool(rows) and missing
            yield iter(rows)

    counts = write_rows(
        folder,
        all_epochs(),
        seq_len=seq_len,
        min_rows=global_batch_size,
        beside=beside,
        objective=objective.kind,
        makes_encoder=objective.makes_encoder,
        tokenizer_sha256=tokenizer.sha256,
    )
    num_rows = sum(counts["rows_per_epoch"])
    padding = counts["num_padding"] / (num_rows * seq_len)
    say(
        f"{num_rows:,} rows of {seq_len:,} in {len(num_cut)} epoch{'s' * (len(num_cut) > 1)}: "
        f"{counts['num_tokens']:,} tokens, "
        f"{100 * padding:.2f} % padding; {num_cut[0]:,} of {len(texts):,} texts are longer than a row and were cut"
    )
