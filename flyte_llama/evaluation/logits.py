"""A model's logits at chosen positions, a few at a time: a batch's in float32 would be the largest thing in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

LOGITS_CHUNK = 512
"""Positions whose logits are held at once."""

_ALIGNED = 64
"""A multiple of a cache line's numbers in every precision."""

_SAME_HEAD = "_flyte_llama_same_head"


class Logits:
    """Of one model. The memory that they are written to is used again by each call, so calls do not overlap."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._room: torch.Tensor | None = None

    def chunks(self, given: dict[str, torch.Tensor], rows: np.ndarray, columns: np.ndarray) -> Iterator[torch.Tensor]:
        """(at most LOGITS_CHUNK, vocabulary) tensors of the logits at the places (row, column), in their order.

        Each may lie in the memory of the one before: it is to be read before the next is asked for.

        The backbone runs once and the output head on the places alone. Where that is not the whole model, as in
        architectures that scale or cap their logits, all are made, and the places taken from them.

        Args:
            given: What the model is called with, `input_ids` of (rows, length) among it.
        """
        import torch

        model = self._model
        places = torch.from_numpy(rows * given["input_ids"].shape[1] + columns).to(given["input_ids"].device)
        if not _is_backbone_and_head(model, given):
            logits = model(**given, use_cache=False).logits
            yield from logits.reshape(-1, logits.shape[-1])[places].split(LOGITS_CHUNK)
            return
        hidden = model.get_decoder()(**given, use_cache=False).last_hidden_state
        states, head = hidden.reshape(-1, hidden.shape[-1])[places], model.get_output_embeddings()
        chunks = states.split(LOGITS_CHUNK)
        yield from (self._times(head.weight, some) if _is_plain(head, some) else head(some) for some in chunks)

    def _times(self, weight: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        import torch

        if self._room is None:
            # A CPU writes rows that do not begin at a cache line at half the speed.
            width = -(-len(weight) // _ALIGNED) * _ALIGNED
            self._room = states.new_empty((LOGITS_CHUNK, width))[:, : len(weight)]
        return torch.mm(states, weight.t(), out=self._room[: len(states)])


def _is_plain(head: Any, states: torch.Tensor) -> bool:
    """Whether the head is a product with its weight; one that ZeRO-3 has split is whole within its own call alone."""
    import torch

    if type(head) is not torch.nn.Linear or head.bias is not None or head.weight.dtype != states.dtype:
        return False
    return head.weight.shape == (head.out_features, head.in_features)


def _is_backbone_and_head(model: Any, given: dict[str, torch.Tensor]) -> bool:
    """Whether the head on the backbone's states gives the model's logits; tried once on a few ids."""
    import torch

    known: bool | None = getattr(model, _SAME_HEAD, None)
    if known is not None:
        return known
    if not hasattr(model, "get_decoder") or model.get_output_embeddings() is None:
        return False
    few = {"input_ids": given["input_ids"][:1, :4]}
    hidden = model.get_decoder()(**few, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden)
    same = bool(torch.equal(logits, model(**few, use_cache=False).logits))
    setattr(model, _SAME_HEAD, same)
    return same
