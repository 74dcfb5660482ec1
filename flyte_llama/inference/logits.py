"""A model's logits at chosen positions, in small chunks: a whole batch's logits would dominate memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


LOGITS_CHUNK = 512
"""Number of positions per chunk of logits."""

_ALIGNED = 64
"""Rows are padded to a multiple of this many elements, which is whole cache lines in every precision."""

_SAME_HEAD = "_flyte_llama_same_head"


class Logits:
    """Computes one model's logits. Calls share one output buffer, so one has to end before the next starts."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._buffer: torch.Tensor | None = None

    def chunks(self, inputs: dict[str, torch.Tensor], rows: np.ndarray, columns: np.ndarray) -> Iterator[torch.Tensor]:
        """Yield the logits at the positions (row, column), in order, as (at most LOGITS_CHUNK, vocabulary) tensors.

        A chunk may reuse the memory of the chunk before it, so read each before asking for the next.

        The backbone runs once, and the output head at the chosen positions only. In architectures that scale or cap
        their logits, backbone and head are not the whole model; then all logits are computed and the positions
        selected.

        Args:
            inputs: Keyword arguments for the model, including `input_ids` of shape (rows, length).
            rows: The row of each position in `input_ids`.
            columns: The column of each position.
        """
        import torch

        model = self._model
        positions = torch.from_numpy(rows * inputs["input_ids"].shape[1] + columns).to(inputs["input_ids"].device)
        if not is_backbone_and_head(model, inputs["input_ids"]):
            logits = model(**inputs, use_cache=False).logits
            yield from logits.reshape(-1, logits.shape[-1])[positions].split(LOGITS_CHUNK)
            return
        hidden = model.get_decoder()(**inputs, use_cache=False).last_hidden_state
        states, head = hidden.reshape(-1, hidden.shape[-1])[positions], model.get_output_embeddings()
        chunks = states.split(LOGITS_CHUNK)
        yield from (
            self._multiply(head.weight, chunk) if _is_plain_linear(head, chunk) else head(chunk) for chunk in chunks
        )

    def _multiply(self, weight: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Return `states @ weight.T`, written into the buffer."""
        import torch

        if self._buffer is None:
            # A CPU writes rows at half the speed if they do not start at a cache line.
            width = -(-len(weight) // _ALIGNED) * _ALIGNED
            self._buffer = states.new_empty((LOGITS_CHUNK, width))[:, : len(weight)]
        return torch.mm(states, weight.t(), out=self._buffer[: len(states)])


def _is_plain_linear(head: Any, states: torch.Tensor) -> bool:
    """Whether calling the head is the same as multiplying by its weight.

    A weight that ZeRO-3 has split across processes is whole only while its module runs, so it fails the shape check.
    """
    import torch

    if type(head) is not torch.nn.Linear or head.bias is not None or head.weight.dtype != states.dtype:
        return False
    return head.weight.shape == (head.out_features, head.in_features)


def is_backbone_and_head(model: Any, input_ids: torch.Tensor) -> bool:
    """Whether the model's logits are its output head applied to its backbone's states.

    Tested once on at most four of the ids; the answer is stored on the model.
    """
    import torch

    known: bool | None = getattr(model, _SAME_HEAD, None)
    if known is not None:
        return known
    if not hasattr(model, "get_decoder") or model.get_output_embeddings() is None:
        return False
    few = input_ids[:1, :4]
    hidden = model.get_decoder()(input_ids=few, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden)
    same = bool(torch.equal(logits, model(input_ids=few, use_cache=False).logits))
    setattr(model, _SAME_HEAD, same)
    return same
