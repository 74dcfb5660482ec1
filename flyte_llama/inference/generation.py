"""Prompts → the ids that the model generates for each, greedy or sampled.

Prompts of similar length are decoded together, token by token with a key-value cache, the longest first. Used in place
of transformers' `generate` for three reasons: finished rows leave the batch, each row has a separate random generator,
and the generation settings stored with a model (temperature, penalties, lengths, stop tokens) are never read: the
arguments decide everything.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flyte_llama.errors import EvaluationError
from flyte_llama.inference.batches import batches_by_length, shared_length
from flyte_llama.model import sdpa_without_cudnn
from flyte_llama.progress import track

if TYPE_CHECKING:
    import torch


# Architectures with a recurrent state that tests show to leave padding out of it, and to keep it in the cache alone.
# RecurrentGemma does neither, and RWKV has a state of its own: each prompt of such a model is read anew for each token.
_STATE_IN_CACHE = {
    *("bamba", "falcon_mamba", "granitemoehybrid", "jamba", "mamba", "mamba2", "nemotron_h", "qwen3_next")
}

# Logits divided by a temperature far below this overflow; at it, the likeliest token has all of the probability.
_GREEDY_BELOW = 1e-6


@dataclass(frozen=True)
class Generated:
    """The continuation of one prompt."""

    ids: list[int]
    """The new ids, without the stop id."""

    stopped: bool
    """Whether a stop id or `ends` ended it, rather than `max_new_tokens`."""


@dataclass(frozen=True)
class Prompt:
    """A prompt in a batch."""

    index: int
    """Index among all prompts."""

    ids: np.ndarray
    max_new_tokens: int
    seed: int
    """Seed for sampling."""


class _OpenRow(NamedTuple):
    """A row of a batch that has not ended."""

    slot: int
    """Index in the tensors of the batch."""

    prompt: Prompt
    written: list[int]
    """The ids generated so far."""

    draws: np.ndarray
    """A random number in [0, 1) for each new token; empty for greedy decoding."""


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
    """Generate a continuation for each prompt, and return them in the order of the prompts.

    A result does not depend on the other prompts, except through rounding: if two tokens are equally likely to the last
    bits, as happens in bfloat16, the shape of the batch may decide between them. A prompt that would change the
    positions of others (`model.positions`) is alone in its batch, and so is each prompt of a model without a cache.

    Args:
        model: A transformers causal language model, already on the device to use; it is put into evaluation mode.
        prompts: 1-D integer arrays with at least one id each.
        max_new_tokens: Maximum new ids, at least 1; one number for all prompts, or one per prompt.
        stop_ids: Ids that end a continuation.
        batch_tokens: Maximum tokens in a batch, counting prompts, new tokens and padding; a longer prompt runs alone.
        ends: Called with a prompt's index and its new ids after each id; True ends the continuation, with that id kept.
        temperature: 0 takes the likeliest token; above 0, tokens are sampled from softmax(logits / temperature).
        seeds: One seed per prompt, used only if `temperature` is above 0.
        what: Label of the progress bar.

    Raises:
        EvaluationError: if a prompt is empty, if a prompt and its new tokens exceed the model's maximum length, or if
            the model gives logits that are not finite.
        ValueError: if a number in `max_new_tokens` is below 1 or there is not one per prompt, if `temperature` is
            negative, or if it is positive and there is not one seed per prompt.
    """
    import torch

    # Check the arguments.
    max_new = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    if len(max_new) != len(prompts) or any(limit < 1 for limit in max_new):
        raise ValueError(
            f"max_new_tokens = {max_new_tokens}: give one number, or one for each of {len(prompts)} prompts, "
            "at least 1 each"
        )
    if temperature < 0 or (temperature and len(seeds) != len(prompts)):
        raise ValueError(f"temperature = {temperature}: must be 0, or above 0 with one seed per prompt")
    prompt_seeds = seeds if temperature else [0] * len(prompts)
    _check_lengths(prompts, max_new, getattr(model.config, "max_position_embeddings", None))

    # Decode batch by batch; prompts end in any order.
    requests = [Prompt(index, *fields) for index, fields in enumerate(zip(prompts, max_new, prompt_seeds, strict=True))]
    stops = frozenset(stop_ids)
    results: dict[int, Generated] = {}
    model.eval()

    def decode_all() -> Iterator[tuple[int, list[int], bool]]:
        for batch in batches_by_length(
            requests,
            lambda prompt: (len(prompt.ids), prompt.max_new_tokens),
            batch_tokens=batch_tokens,
            shared_length=0 if _cache_argument(model) is None else shared_length(model),
        ):
            yield from decode_batch(model, batch, stops=stops, ends=ends, temperature=temperature)

    with torch.inference_mode(), sdpa_without_cudnn():
        for index, ids, stopped in track(decode_all(), what=what, total=len(prompts)):
            results[index] = Generated(ids, stopped)
    return [results[index] for index in range(len(prompts))]


def decode_batch(
    model: Any,
    batch: Sequence[Prompt],
    *,
    stops: frozenset[int],
    ends: Callable[[int, Sequence[int]], bool] | None,
    temperature: float,
    top_p: float = 1.0,
) -> Iterator[tuple[int, list[int], bool]]:
    """Yield each prompt's index, its new ids and whether a stop id or `ends` ended it, as soon as it ends.

    Run it without gradients. Arguments as in `generate`.

    Args:
        top_p: Sample among the likeliest tokens whose probabilities sum to this share; 1 samples among all.

    Raises:
        EvaluationError: if the model gives logits that are not finite.
    """
    import torch
    from transformers import DynamicCache

    # Prompts with the same ids, such as several samples of one, are read once: `copies` is the row of each prompt.
    texts = [prompt.ids.astype(np.int64).tobytes() for prompt in batch]
    different = dict(zip(texts, batch, strict=True))
    row_of = {text: row for row, text in enumerate(different)}
    # The mask has columns for the padded prompts, then for new tokens; the first `width` of them are in use.
    device, width = model.device, max(len(prompt.ids) for prompt in batch)
    most_new = max(prompt.max_new_tokens for prompt in batch)
    padded = _pad_left([*different.values()], width, most_new)
    next_ids, mask = (torch.from_numpy(array).to(device) for array in padded)
    copies: Any = torch.tensor([row_of[text] for text in texts], device=device)
    # Padding is masked, so its positions only have to be valid.
    positions = (mask[:, :width].cumsum(-1) - 1).clamp(min=0)
    cache_argument, longest = _cache_argument(model), shared_length(model)
    cache = DynamicCache(config=model.config)
    rows = [
        _OpenRow(slot, prompt, [], _draw_numbers(prompt) if temperature else np.empty(0))
        for slot, prompt in enumerate(batch)
    ]
    size = len(rows)
    while True:
        # Choose the next token of every row, also of rows that have ended but are still in the batch.
        inputs: dict[str, Any] = {"use_cache": False}
        if cache_argument is not None:
            inputs = {"use_cache": True, cache_argument: cache}
        # The state of a recurrent model holds its earlier tokens, so only the first step has padding to mask.
        if cache_argument != "cache_params" or next_ids.shape[1] == width:
            inputs["attention_mask"] = mask[:, :width]
        logits = model(input_ids=next_ids, position_ids=positions, logits_to_keep=1, **inputs).logits[:, -1]
        if len(logits) < size:
            cache.reorder_cache(copies)
            logits, mask, positions = logits[copies], mask[copies], positions[copies]
        draws = np.zeros(size)
        for row in rows if temperature else []:
            draws[row.slot] = row.draws[len(row.written)]
        chosen = _choose(logits.float(), temperature, draws, top_p)

        # Append the tokens, and yield the rows that end.
        open_rows = []
        for row, id_ in zip(rows, chosen[[row.slot for row in rows]].tolist(), strict=True):
            if id_ < 0:
                raise EvaluationError(
                    f"prompt {row.prompt.index}: the model gives logits that are not finite, so it is broken."
                )
            if id_ not in stops:
                row.written.append(id_)
            if id_ in stops or (ends is not None and ends(row.prompt.index, row.written)):
                yield row.prompt.index, row.written, True
            elif len(row.written) == row.prompt.max_new_tokens:
                yield row.prompt.index, row.written, False
            else:
                open_rows.append(row)
        if not open_rows:
            return
        rows = open_rows

        # Drop ended rows from the batch. Copying the cache costs about as much as one step reads of it, so wait
        # until half of the rows have ended.
        if 2 * len(rows) <= size:
            slots = torch.tensor([row.slot for row in rows], device=device)
            selected: Any = slots
            cache.reorder_cache(selected)  # unlike `batch_select_indices`, it knows the states of recurrent layers
            chosen, mask, positions = chosen[slots], mask[slots], positions[slots]
            rows = [row._replace(slot=slot) for slot, row in enumerate(rows)]
            size = len(rows)
        # A row that has ended may hold -1, which is not a valid id.
        next_ids, positions, width = chosen[:, None].clamp(min=0), positions[:, -1:] + 1, width + 1
        # Without a cache, and where all positions change with the length, a row is read anew. It is alone in its batch.
        if cache_argument is None or width - 1 == longest:
            whole = np.concatenate([rows[0].prompt.ids, rows[0].written])
            next_ids = torch.from_numpy(whole.astype(np.int64)).to(device)[None]
            positions, cache = torch.arange(width, device=device)[None], DynamicCache(config=model.config)


def _cache_argument(model: Any) -> str | None:
    """The name under which the model takes a `DynamicCache` that holds all of its state; None if it takes none."""
    is_untested = getattr(model, "_is_stateful", False) and model.config.model_type not in _STATE_IN_CACHE
    if is_untested or not getattr(model, "_supports_default_dynamic_cache", lambda: True)():
        return None
    known = inspect.signature(model.forward).parameters
    if "input_ids" not in known:  # a wrapper that passes everything on
        return "past_key_values"
    return next((name for name in ("past_key_values", "cache_params") if name in known), None)


def _check_lengths(prompts: Sequence[np.ndarray], max_new: Sequence[int], max_length: int | None) -> None:
    for index, (prompt, new) in enumerate(zip(prompts, max_new, strict=True)):
        if not len(prompt):
            raise EvaluationError(f"prompt {index} is empty. Give at least the id that starts a text.")
        if max_length is not None and len(prompt) + new > max_length:
            raise EvaluationError(
                f"prompt {index} has {len(prompt)} tokens and may get {new} more, but the model reads at most "
                f"{max_length}. Shorten the prompt or lower max_new_tokens."
            )


def _pad_left(batch: Sequence[Prompt], width: int, most_new: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the prompts, int64 (rows, width), and their attention mask with columns for the new tokens added."""
    ids = np.zeros((len(batch), width), dtype=np.int64)
    mask = np.ones((len(batch), width + most_new), dtype=np.int64)
    for row, prompt in enumerate(batch):
        ids[row, width - len(prompt.ids) :] = prompt.ids
        mask[row, : width - len(prompt.ids)] = 0
    return ids, mask


def _draw_numbers(prompt: Prompt) -> np.ndarray:
    return np.random.default_rng(prompt.seed).random(prompt.max_new_tokens)


def _choose(logits: torch.Tensor, temperature: float, draws: np.ndarray, top_p: float) -> torch.Tensor:
    """Choose an id for each row of (rows, vocabulary); -1 if a logit is NaN or the highest is infinite.

    Samples by inverting the cumulative distribution: one random number per token, the same on every device. With
    `top_p` below 1 this is nucleus sampling (Holtzman et al. 2020, arXiv 1904.09751, section 3.1).
    """
    import torch

    highest = logits.amax(-1)
    if temperature < _GREEDY_BELOW:
        chosen = logits.argmax(-1)
    else:
        probabilities = (logits.double() / temperature).softmax(-1)
        if top_p < 1:
            ordered, ids = probabilities.sort(-1, descending=True)
            # The token at which the sum reaches `top_p` stays, and so does the likeliest one.
            is_rest = ordered.cumsum(-1) - ordered >= top_p
            probabilities = probabilities.scatter(-1, ids, ordered.masked_fill(is_rest, 0))
        cumulative = probabilities.cumsum(-1)
        at = torch.from_numpy(draws).to(logits.device)[:, None] * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, at, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return torch.where(highest.isfinite(), chosen, -1)
