"""What a model writes behind each prompt: prompts of like length are decoded together, the longest first.

A model's own generation settings (temperature, penalties, lengths, stop tokens) are never read: the arguments say all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flyte_llama.errors import EvaluationError
from flyte_llama.generation.decode import Row, decode
from flyte_llama.model import sdpa_of_any_length
from flyte_llama.progress import track


@dataclass(frozen=True)
class Generated:
    ids: list[int]
    """Without the stop id."""

    stopped: bool
    """Whether a stop id came, or `ends` said so, within `max_new_tokens`."""


def generate(
    model: Any,
    prompts: Sequence[np.ndarray],
    *,
    max_new_tokens: int | Sequence[int],
    stop_ids: Collection[int],
    batch_tokens: int,
    ends: Callable[[int, Sequence[int]], bool] | None = None,
    temperature: float = 0.0,
    seeds: Sequence[int] = (),
    what: str,
) -> list[Generated]:
    """What the model writes behind each prompt, in the order of the prompts.

    Each result is that of its prompt alone, but for rounding: where two tokens are equally likely to the last bits,
    as happens in bfloat16, the batch's shape may tip the balance.

    Args:
        model: A causal language model of transformers on the device it is to run on; it is put into evaluation mode.
        prompts: 1-D integer arrays of at least one id.
        max_new_tokens: Most ids written, at least 1; one number for all prompts, or one a prompt.
        stop_ids: Ids that end a row.
        batch_tokens: Most tokens of a batch, prompts, new tokens and padding counted; one prompt may be more than that.
        ends: Prompt's number, ids written so far → whether this row is complete; asked after each id of a row that has
            not ended. The last id is kept.
        temperature: 0 takes the likeliest token; above it tokens are drawn from softmax(logits / temperature).
        seeds: One a prompt, of what is drawn behind it, if anything is.
        what: Says in the progress what is done.

    Raises:
        EvaluationError: if a prompt is empty, or with its new tokens longer than the model can read, or if the model
            gives logits that are not finite.
        ValueError: if `max_new_tokens` is below 1 or is not one a prompt, `temperature` is below 0, or above it without
            a seed for each prompt.
    """
    import torch

    most = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    if len(most) != len(prompts) or any(number < 1 for number in most):
        raise ValueError(
            f"max_new_tokens = {max_new_tokens}: must be at least 1, one for each of {len(prompts)} prompts"
        )
    if temperature < 0 or (temperature and len(seeds) != len(prompts)):
        raise ValueError(f"temperature = {temperature}: must be 0, or above with a seed for each prompt")
    own_seeds = seeds if temperature else [0] * len(prompts)
    _check_lengths(prompts, most, getattr(model.config, "max_position_embeddings", None))
    rows = [Row(number, *own) for number, own in enumerate(zip(prompts, most, own_seeds, strict=True))]
    stops = frozenset(stop_ids)
    found: dict[int, Generated] = {}
    model.eval()

    def finished() -> Iterator[tuple[int, list[int], bool]]:
        for batch in _batches(rows, batch_tokens):
            yield from decode(model, batch, stops=stops, ends=ends, temperature=temperature)

    with torch.inference_mode(), sdpa_of_any_length():
        for number, ids, stopped in track(finished(), what=what, total=len(prompts)):
            found[number] = Generated(ids, stopped)
    return [found[number] for number in range(len(prompts))]


def _check_lengths(prompts: Sequence[np.ndarray], most: Sequence[int], longest: int | None) -> None:
    for number, (prompt, new) in enumerate(zip(prompts, most, strict=True)):
        if not len(prompt):
            raise EvaluationError(f"prompt {number} is empty. Give at least the id that starts a text.")
        if longest is not None and len(prompt) + new > longest:
            raise EvaluationError(
                f"prompt {number} has {len(prompt)} tokens and is to get {new} more, the model reads at most {longest}."
                " Cut the prompt or lower max_new_tokens."
            )


def _batches(rows: Sequence[Row], batch_tokens: int) -> Iterator[list[Row]]:
    """Longest first, so that memory peaks at once if at all."""
    batch: list[Row] = []
    most = 0
    for row in sorted(rows, key=lambda row: (len(row.prompt), row.max_new_tokens), reverse=True):
        most = max(most, row.max_new_tokens)
        if batch and (len(batch) + 1) * (len(batch[0].prompt) + most) > batch_tokens:
            yield batch
            batch, most = [], row.max_new_tokens
        batch.append(row)
    if batch:
        yield batch
