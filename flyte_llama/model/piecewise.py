"""Attention piece by piece: torch's sdpa on each document of a packed row alone.

A mask over the whole row makes sdpa compute seq_len² scores and throw most away. Here each piece is a call of its own:
Σ length² / 2 scores, no mask in memory, the causal kernel of the device, and nothing of one document in reach of
another. Registered with transformers as an attention implementation of that name; pieces are read off where
`position_ids` restart.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from flyte_llama.model.sdpa import sdpa_of_any_length

if TYPE_CHECKING:
    import torch

SDPA_BY_PIECE = "sdpa_by_piece"
_BOUNDS = "_flyte_llama_bounds"


def register_sdpa_by_piece() -> None:
    """Make transformers know it; a second time changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(SDPA_BY_PIECE, attend)
    AttentionMaskInterface.register(SDPA_BY_PIECE, _mask)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers' attention functions: (rows, heads, length, size) → (rows, length, heads, size).

    A mask, as rows that see both ways have, is taken as it is.

    Raises:
        ValueError: if the architecture does not tell its attention the positions.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_mask is not None or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if kwargs.get("position_ids") is None:
        raise ValueError(f"{type(module).__name__} passes no position_ids on. Use training.attention: sdpa.")
    rows = []
    for row, lengths in enumerate(_lengths(kwargs["position_ids"], num_rows=len(query))):
        queries, keys, values = (states[row : row + 1].split(lengths, dim=2) for states in (query, key, value))
        with sdpa_of_any_length():
            pieces = [
                sdpa_attention_forward(module, asking, asked, answers, None, **kwargs)[0]
                for asking, asked, answers in zip(queries, keys, values, strict=True)
            ]
        rows.append(torch.cat(pieces, dim=1))
    return torch.cat(rows), None


def _mask(
    *, attention_mask: torch.Tensor | None = None, local_size: int | None = None, **kwargs: Any
) -> torch.Tensor | None:
    """None where all that a mask would say is causality and packing; sdpa's mask for padding, windows and caches."""
    from transformers.masking_utils import sdpa_mask

    if attention_mask is None and local_size is None and kwargs.get("q_length") == kwargs.get("kv_length"):
        return None
    return sdpa_mask(attention_mask=attention_mask, local_size=local_size, **kwargs)


def _lengths(position_ids: torch.Tensor, *, num_rows: int) -> list[list[int]]:
    """Lengths of the pieces of each row. Kept on the tensor: every layer asks, and a GPU is waited for only once."""
    found: list[list[int]] | None = getattr(position_ids, _BOUNDS, None)
    if found is None:
        found = []
        for row in position_ids.tolist():
            begins = [0, *(place for place, position in enumerate(row) if position == 0 and place > 0), len(row)]
            found.append([end - begin for begin, end in itertools.pairwise(begins)])
        setattr(position_ids, _BOUNDS, found)
    return found if len(found) == num_rows else found * num_rows
