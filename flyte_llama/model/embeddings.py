"""Rows for the tokens that were added to a base's tokenizer: one more of the input and of the output embedding each.

A new row starts as the mean of the old ones (Hewitt 2021, "Initializing new word embeddings for pretrained language
models"): then no old token becomes much less likely. No chance is in it, so all processes agree.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def grow_embeddings(model: Any, num_tokens: int) -> range:
    """Give the model `num_tokens` rows if it has fewer; the ids of the new ones.

    A model that has more keeps them: many are padded to a round number.
    """
    num_old: int = model.get_input_embeddings().num_embeddings
    if num_tokens <= num_old:
        return range(0)
    model.resize_token_embeddings(num_tokens, mean_resizing=False)
    input_rows, output_rows = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    for weight in [input_rows] if output_rows is input_rows else [input_rows, output_rows]:
        with _whole(weight):
            _fill(weight, num_old)
    return range(num_old, num_tokens)


def _fill(weight: torch.Tensor, num_old: int) -> None:
    # Where ZeRO-3 has split the weight, every process has it whole here, and the first one's counts.
    weight.data[num_old:] = weight.data[:num_old].float().mean(dim=0).to(weight.dtype)


def _whole(weight: torch.Tensor) -> AbstractContextManager:
    """The weight in one piece, changes kept, if ZeRO-3 has split it."""
    if not hasattr(weight, "ds_id"):
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager = deepspeed.zero.GatheredParameters([weight], modifier_rank=0)
    return gathered
