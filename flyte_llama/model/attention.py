"""Which attention kernel a run uses, and what that kernel must be told so that documents of a row stay apart.

transformers takes documents apart where `position_ids` restart, with sdpa, eager and flex, if there is neither a KV
cache nor an attention mask. Rows in which positions see later ones too come with a mask, which it takes as it is, so
the mask has to have the kernel's own form.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from flyte_llama.errors import TrainingError
from flyte_llama.model.piecewise import SDPA_BY_PIECE, register_sdpa_by_piece

if TYPE_CHECKING:
    import torch


def choose_attention(wanted: str, *, on_gpu: bool) -> str:
    """transformers' name of the kernel for `training.attention`.

    Raises:
        TrainingError: if the kernel cannot train on this device, or its package is missing.
    """
    if wanted == "auto":
        register_sdpa_by_piece()
        return SDPA_BY_PIECE
    if wanted in ("flex_attention", "flash_attention_2") and not on_gpu:
        raise TrainingError(
            f"training.attention = '{wanted}': has no backward pass on a CPU. Use auto, sdpa or eager, or a GPU."
        )
    if wanted == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise TrainingError(
            "training.attention = 'flash_attention_2': needs the package flash-attn. Install it, or use auto."
        )
    return wanted


def document_mask(lengths: list[list[int]], bidirectional: list[bool], *, seq_len: int) -> torch.Tensor:
    """Who sees whom, bool of shape (rows, 1, seq_len, seq_len), as sdpa takes it.

    A position sees the positions of its own piece: those up to itself, in a bidirectional row all. Padding behind the
    last piece is a piece by itself.
    """
    import torch

    mask = torch.zeros((len(lengths), 1, seq_len, seq_len), dtype=torch.bool)
    for row, own, both_ways in zip(mask, lengths, bidirectional, strict=True):
        begin = 0
        for length in [*own, seq_len - sum(own)]:
            piece = torch.ones((length, length), dtype=torch.bool)
            row[0, begin : begin + length, begin : begin + length] = piece if both_ways else piece.tril()
            begin += length
    return mask


def kernel_inputs(model: Any, position_ids: torch.Tensor | None, attention_mask: torch.Tensor | None) -> dict[str, Any]:
    """What to give the model's kernel instead of a mask of `document_mask`, or beside positions that restart.

    Raises:
        TrainingError: if the kernel knows no such mask.
    """
    import torch

    kernel = model.config._attn_implementation
    if kernel == "flash_attention_2":
        if attention_mask is not None:
            raise TrainingError("training.attention = 'flash_attention_2': cannot see both ways as mlm must. Use auto.")
        return {} if position_ids is None else _lengths_for_flash(position_ids)
    if attention_mask is None or attention_mask.dim() != 4:
        return {}
    if kernel == "eager":
        # Added to the scores; a boolean mask would be added as 0 and 1.
        form = torch.zeros(attention_mask.shape, dtype=model.dtype, device=attention_mask.device)
        return {"attention_mask": form.masked_fill(~attention_mask, torch.finfo(model.dtype).min)}
    if kernel == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        def sees(row: Any, head: Any, query: Any, key: Any) -> Any:
            return attention_mask[row, 0, query, key]

        rows, _, seq_len, _ = attention_mask.shape
        block_mask = create_block_mask(sees, rows, None, seq_len, seq_len, device=attention_mask.device)
        return {"attention_mask": block_mask}
    return {}


def _lengths_for_flash(position_ids: torch.Tensor) -> dict[str, Any]:
    """Where pieces begin in the rows laid end to end: FlashAttention finds that out for itself for one row only."""
    import torch

    flat = position_ids.reshape(-1)
    begins = (flat == 0).nonzero().squeeze(-1).to(torch.int32)
    end = torch.tensor([len(flat)], dtype=torch.int32, device=flat.device)
    bounds = torch.cat([begins, end])
    longest = int(bounds.diff().max())
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}
