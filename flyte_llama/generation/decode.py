"""One batch of prompts, token by token, on the cache of keys and values.

A loop of our own rather than transformers' `generate`: rows that have ended leave the batch, each row draws from its
own random numbers, and no setting that came with the model can slip in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flyte_llama.errors import EvaluationError

if TYPE_CHECKING:
    import torch


class Row(NamedTuple):
    number: int
    """Of the prompt, among all prompts."""

    prompt: np.ndarray
    max_new_tokens: int
    seed: int
    """Of what is drawn."""


class _Open(NamedTuple):
    """A row that has not ended."""

    place: int
    """In the tensors of the batch."""

    row: Row
    written: list[int]
    draws: np.ndarray
    """A number in [0, 1) for each new token; empty if nothing is drawn."""


def decode(
    model: Any,
    batch: Sequence[Row],
    *,
    stops: frozenset[int],
    ends: Callable[[int, Sequence[int]], bool] | None,
    temperature: float,
) -> Iterator[tuple[int, list[int], bool]]:
    """Each row's number, the ids written and whether it stopped, as soon as it has ended. To be run without gradients.

    Raises:
        EvaluationError: if the model gives logits that are not finite.
    """
    import torch
    from transformers import DynamicCache

    device, width = model.device, max(len(row.prompt) for row in batch)
    next_ids, mask = (torch.from_numpy(array).to(device) for array in _padded_on_the_left(batch, width))
    # The padding's own positions are never seen; they only have to be valid.
    positions = (mask[:, :width].cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    rows = [_Open(place, row, [], _draws(row) if temperature else np.empty(0)) for place, row in enumerate(batch)]
    size = len(rows)
    while True:
        logits = model(
            input_ids=next_ids,
            attention_mask=mask[:, :width],
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        draws = np.zeros(size)
        for row in rows if temperature else []:
            draws[row.place] = row.draws[len(row.written)]
        chosen = _chosen(logits.float(), temperature, draws)
        open_rows = []
        for row, id_ in zip(rows, chosen[[row.place for row in rows]].tolist(), strict=True):
            if id_ < 0:
                raise EvaluationError(
                    f"prompt {row.row.number}: the model gives logits that are not finite. It is broken."
                )
            if id_ not in stops:
                row.written.append(id_)
            if id_ in stops or (ends is not None and ends(row.row.number, row.written)):
                yield row.row.number, row.written, True
            elif len(row.written) == row.row.max_new_tokens:
                yield row.row.number, row.written, False
            else:
                open_rows.append(row)
        if not open_rows:
            return
        rows = open_rows
        # To copy the cache costs about as much as a step reads of it, so rows leave it once half of them have ended.
        if 2 * len(rows) <= size:
            places = torch.tensor([row.place for row in rows], device=device)
            cache.batch_select_indices(places)
            chosen, mask, positions = chosen[places], mask[places], positions[places]
            rows = [row._replace(place=place) for place, row in enumerate(rows)]
            size = len(rows)
        next_ids, positions, width = chosen[:, None].clamp(min=0), positions[:, -1:] + 1, width + 1


def _padded_on_the_left(batch: Sequence[Row], width: int) -> tuple[np.ndarray, np.ndarray]:
    """The prompts as (rows, width), int64, and what of them and of the tokens to come is seen."""
    ids = np.zeros((len(batch), width), dtype=np.int64)
    mask = np.ones((len(batch), width + max(row.max_new_tokens for row in batch)), dtype=np.int64)
    for number, row in enumerate(batch):
        ids[number, width - len(row.prompt) :] = row.prompt
        mask[number, : width - len(row.prompt)] = 0
    return ids, mask


def _draws(row: Row) -> np.ndarray:
    return np.random.default_rng(row.seed).random(row.max_new_tokens)


def _chosen(logits: torch.Tensor, temperature: float, draws: np.ndarray) -> torch.Tensor:
    """An id for each row of (rows, vocabulary); -1 where a logit is NaN or the highest is infinite.

    Drawn by inverting the cumulative distribution: one number a token, the same on every device.
    """
    import torch

    highest = logits.amax(-1)
    if not temperature:
        chosen = logits.argmax(-1)
    else:
        cumulative = (logits.double() / temperature).softmax(-1).cumsum(-1)
        at = torch.from_numpy(draws).to(logits.device)[:, None] * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, at, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return torch.where(highest.isfinite(), chosen, -1)
