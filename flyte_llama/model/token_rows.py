"""Embedding rows of control tokens that a base's weights do not know: which they are, and how they start.

A token is new because it was added to the base's tokenizer, by name (see `ControlTokens`), never because the table
grew: many tables are padded, and a new token may get one of the spare rows. Every method learns the new rows.

A new row starts as a random mixture of the rows of text: their mean, plus a sum of deviations from it with random
weights. So new rows have the mean and the covariance of the rows that they join, in the input and the output embedding
alike, and none is like another. The weights depend only on the token's name, so all processes get the same rows, and
other tokens change nothing. Two of them start near what they mean: the end of a middle as the row of the end of text,
and the mark before a middle half way to the row of a line feed, after which a text goes on at another place too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flyte_llama.encoding import TOKENIZER_FILE, DocumentTokenizer, read_control_tokens
from flyte_llama.errors import ModelError
from flyte_llama.model.base import BASE_FILE

if TYPE_CHECKING:
    import torch

_MIXED_ROWS = 4096
"""How many rows of text, evenly spread over the vocabulary, a new row is mixed from."""


def add_token_rows(model: Any, folder: Path) -> list[int]:
    """Make rows for the control tokens that the folder's weights do not know, and set them to their start.

    Returns their ids, in ascending order. A model with more rows than ids keeps them: many are padded.

    Raises:
        ModelError: if the model lacks rows for other tokens too, so the tokenizer is not the model's.
    """
    if not (folder / TOKENIZER_FILE).is_file():
        return []
    tokenizer, num_old = DocumentTokenizer(folder), model.get_input_embeddings().num_embeddings
    if tokenizer.num_text_ids > num_old:
        raise ModelError(
            f"{folder}: the tokenizer has {tokenizer.num_text_ids:,} entries, the model {num_old:,} rows. Save "
            "the model together with its tokenizer."
        )
    # Only a prepared base has tokens that were added; the weights of a fine-tuned folder know them.
    record = read_control_tokens(folder) if (folder / BASE_FILE).is_file() else None
    added = record.added_ids if record else []
    new = sorted({*added, *range(num_old, tokenizer.vocab_size)})
    if tokenizer.vocab_size > num_old:
        model.resize_token_embeddings(tokenizer.vocab_size, mean_resizing=False)
    if new:
        _start_rows(model, tokenizer, new)
    return new


def _start_rows(model: Any, tokenizer: DocumentTokenizer, new: Sequence[int]) -> None:
    """Set the new rows of the input and the output embedding, which may be one table."""
    import torch

    mixed = tokenizer.text_ids[:: max(1, -(-len(tokenizer.text_ids) // _MIXED_ROWS))]
    weights = torch.from_numpy(
        np.stack([_random_weights(tokenizer.name_of(id_) or str(id_), len(mixed)) for id_ in new])
    )
    infill = tokenizer.infill
    input_rows, output_rows = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    for table in [input_rows] if output_rows is input_rows else [input_rows, output_rows]:
        with _gather(table):
            # In float64 on the CPU, so that every process and thread count gets the same rows.
            rows = table.data[mixed].double().cpu()
            mean = rows.mean(dim=0)
            started = mean + weights @ (rows - mean) / len(mixed) ** 0.5
            table.data[list(new)] = started.to(table.device, table.dtype)
            if infill and infill.end in new:
                table.data[infill.end] = table.data[tokenizer.eos_id]
            if infill and infill.middle in new:
                line_feed = int(tokenizer.encode_infix(["\n"])[0][-1])
                table.data[infill.middle] = (table.data[infill.middle] + table.data[line_feed]) / 2


def _random_weights(name: str, count: int) -> np.ndarray:
    """Standard normal numbers that depend only on the name; float64."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return np.random.default_rng(seed).standard_normal(count)


def _gather(weight: torch.Tensor) -> AbstractContextManager:
    """Within this context a weight that ZeRO-3 has split is whole; changes by the first process are kept."""
    if not hasattr(weight, "ds_id"):
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager = deepspeed.zero.GatheredParameters([weight], modifier_rank=0)
    return gathered
