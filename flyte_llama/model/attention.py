"""The attention kernel of a run, and the inputs with which it keeps the documents of a packed row apart.

    auto                     on a GPU in bf16 `VARLEN`: one call of torch's varlen attention for all pieces of all rows;
                             elsewhere `SDPA_BY_PIECE`: a call of torch's sdpa for each piece of a row
    sdpa, eager, flex        transformers separates pieces where `position_ids` restart, if there is no KV cache or mask
    flash_attention_2        takes the bounds of the pieces, see `kernel_inputs`

With a mask over the whole row, sdpa computes seq_len² scores and discards most of them. `VARLEN` and `SDPA_BY_PIECE`,
registered here, compute Σ length² / 2 scores, need no mask, and cannot mix documents. Pieces begin where `position_ids`
restart; a training batch brings their bounds along, so that `VARLEN` need not read the positions back from the GPU.

Bidirectional rows come with a mask. transformers passes it on unchanged, so it must have the form that the kernel
expects.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from flyte_llama.errors import TrainingError

if TYPE_CHECKING:
    import torch

SDPA_BY_PIECE, VARLEN = "sdpa_by_piece", "varlen_by_piece"
# The attribute of a tensor of positions that holds the lengths of the pieces.
_LENGTHS = "_flyte_llama_lengths"


def register_kernels() -> None:
    """Register `SDPA_BY_PIECE` and `VARLEN` with transformers. Calling it again changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    for name, kernel in ((SDPA_BY_PIECE, attend_by_piece), (VARLEN, attend_varlen)):
        AttentionInterface.register(name, kernel)
        AttentionMaskInterface.register(name, _make_mask)


def piece_bounds(lengths: Sequence[Sequence[int]], *, seq_len: int) -> dict[str, Any]:
    """The bounds of the pieces of rows that are joined end to end, under the names that transformers uses.

    They are int32, of shape (pieces + 1,). The padding at the end of a row counts as one more piece. Rows of 6 with the
    lengths [2, 3] and [6] have the bounds 0, 2, 5, 6, 12.
    """
    import torch

    padded = [[*row, seq_len - sum(row)] for row in lengths]
    in_order = [length for row in padded for length in row if length]
    bounds = torch.tensor([0, *itertools.accumulate(in_order)], dtype=torch.int32)
    longest = max(in_order)
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}


def attend_by_piece(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function for transformers: (rows, heads, length, size) → (rows, length, heads, size).

    If there is a mask, as for bidirectional rows, or a KV cache, this is plain sdpa.

    Raises:
        ValueError: if the architecture does not pass `position_ids` to its attention.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_mask is not None or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    _check_positions(module, kwargs)
    rows = []
    for row, lengths in enumerate(_lengths(kwargs["position_ids"], num_rows=len(query))):
        queries, keys, values = (states[row : row + 1].split(lengths, dim=2) for states in (query, key, value))
        with sdpa_without_cudnn():
            pieces = [
                sdpa_attention_forward(module, piece_query, piece_key, piece_value, None, **kwargs)[0]
                for piece_query, piece_key, piece_value in zip(queries, keys, values, strict=True)
            ]
        rows.append(torch.cat(pieces, dim=1))
    return torch.cat(rows), None


def attend_varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """As `attend_by_piece`, in one call of `torch.nn.attention.varlen` for all pieces of all rows. Runs on a GPU.

    Where that kernel cannot be used (a mask, a KV cache, dropout, or heads whose size is above 256 or not a multiple of
    8), this is `attend_by_piece`.

    Raises:
        ValueError: if the architecture does not pass `position_ids` to its attention.
    """
    num_rows, num_heads, length, size = query.shape
    if attention_mask is not None or length != key.shape[2] or kwargs.get("dropout") or size % 8 or size > 256:
        return attend_by_piece(module, query, key, value, attention_mask, **kwargs)
    _check_positions(module, kwargs)
    if kwargs.get("cu_seq_lens_q") is None:
        kwargs |= _bounds(kwargs["position_ids"], num_rows=num_rows)
    bounds, longest = kwargs["cu_seq_lens_q"], kwargs["max_length_q"]
    varlen_attn, options = _causal_varlen(num_heads != key.shape[1])
    flat = [states.transpose(1, 2).reshape(num_rows * length, -1, size) for states in (query, key, value)]
    out = varlen_attn(*flat, bounds, bounds, longest, longest, scale=kwargs.get("scaling"), **options)
    return out.view(num_rows, length, num_heads, size), None


def document_mask(lengths: list[list[int]], bidirectional: list[bool], *, seq_len: int) -> torch.Tensor:
    """The attention mask of packed rows, bool of shape (rows, 1, seq_len, seq_len), as sdpa takes it.

    True at [row, 0, i, j] lets position i see position j. In a bidirectional row a position sees its whole piece, in a
    causal row the piece up to itself. The padding at the end counts as one more piece. A causal row with pieces of 2
    and 3 tokens and 1 of padding:

        1 . . . . .
        1 1 . . . .
        . . 1 . . .
        . . 1 1 . .
        . . 1 1 1 .
        . . . . . 1
    """
    import torch

    mask = torch.zeros((len(lengths), 1, seq_len, seq_len), dtype=torch.bool)
    for row, row_lengths, both_ways in zip(mask, lengths, bidirectional, strict=True):
        begin = 0
        for length in [*row_lengths, seq_len - sum(row_lengths)]:
            piece = torch.ones((length, length), dtype=torch.bool)
            row[0, begin : begin + length, begin : begin + length] = piece if both_ways else piece.tril()
            begin += length
    return mask


def kernel_inputs(
    model: Any, position_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, *, num_rows: int
) -> dict[str, Any]:
    """Convert a mask of `document_mask` to the form that the model's kernel takes.

    FlashAttention and `VARLEN` take no mask; without one they get the bounds of the pieces, from positions that
    restart. The returned inputs are added to the model's, or replace them.

    Raises:
        TrainingError: if there is a mask and the kernel takes none.
    """
    import torch

    kernel = model.config._attn_implementation
    if attention_mask is None:
        if position_ids is None or kernel not in ("flash_attention_2", VARLEN):
            return {}
        return _bounds(position_ids, num_rows=num_rows)
    if kernel == "flash_attention_2":
        raise TrainingError("training.attention = 'flash_attention_2': cannot see both ways as mlm must. Use auto.")
    if attention_mask.dim() != 4:
        return {}
    if kernel == "eager":
        # Eager attention adds the mask to the scores: 0 to see, a very negative number to hide.
        additive = torch.zeros(attention_mask.shape, dtype=model.dtype, device=attention_mask.device)
        return {"attention_mask": additive.masked_fill(~attention_mask, torch.finfo(model.dtype).min)}
    if kernel == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        def sees(row: Any, head: Any, query: Any, key: Any) -> Any:
            return attention_mask[row, 0, query, key]

        rows, _, seq_len, _ = attention_mask.shape
        block_mask = create_block_mask(sees, rows, None, seq_len, seq_len, device=attention_mask.device)
        return {"attention_mask": block_mask}
    return {}


def sdpa_without_cudnn() -> AbstractContextManager[None]:
    """Within this context, torch's scaled dot product attention does not use cuDNN's kernel.

    cuDNN plans its kernel for each new shape, which takes longer than the attention of one document. The other kernels
    need no preparation.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    context: AbstractContextManager[None] = sdpa_kernel(
        [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    )
    return context


def _make_mask(
    *, attention_mask: torch.Tensor | None = None, local_size: int | None = None, **kwargs: Any
) -> torch.Tensor | None:
    """None if the attention is only causal and packed, which needs no mask; else sdpa's: padding, windows, caches."""
    from transformers.masking_utils import sdpa_mask

    if attention_mask is None and local_size is None and kwargs.get("q_length") == kwargs.get("kv_length"):
        return None
    return sdpa_mask(attention_mask=attention_mask, local_size=local_size, **kwargs)


def _lengths(position_ids: torch.Tensor, *, num_rows: int) -> list[list[int]]:
    """The lengths of the pieces of each row.

    They are stored on the tensor, since every layer needs them and reading them has to wait for the GPU.
    """
    lengths: list[list[int]] | None = getattr(position_ids, _LENGTHS, None)
    if lengths is None:
        lengths = []
        for row in position_ids.tolist():
            begins = [0, *(index for index, position in enumerate(row) if position == 0 and index > 0), len(row)]
            lengths.append([end - begin for begin, end in itertools.pairwise(begins)])
        setattr(position_ids, _LENGTHS, lengths)
    # One row of positions can stand for the whole batch.
    return lengths if len(lengths) == num_rows else lengths * num_rows


def _bounds(position_ids: torch.Tensor, *, num_rows: int) -> dict[str, Any]:
    """The bounds of the pieces in the rows joined end to end, on the device of the positions."""
    lengths = _lengths(position_ids, num_rows=num_rows)
    inputs = piece_bounds(lengths, seq_len=position_ids.shape[1])
    bounds = inputs["cu_seq_lens_q"].to(position_ids.device)
    return inputs | {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds}


def _check_positions(module: torch.nn.Module, kwargs: dict[str, Any]) -> None:
    if kwargs.get("position_ids") is None:
        raise ValueError(
            f"{type(module).__name__} does not pass position_ids to its attention. Use training.attention: sdpa."
        )


@functools.cache
def _causal_varlen(grouped: bool) -> tuple[Any, dict[str, Any]]:
    """torch's varlen attention, and the arguments that make it causal, which depend on the version of torch."""
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    return varlen_attn, options | ({"enable_gqa": True} if grouped and "enable_gqa" in known else {})
