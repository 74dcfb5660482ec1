"""Gaps in texts → the text that a model writes into each.

    Gap           the text before and after a position, and the layout of the prompt
    → prompt      as many ids as fit into the window with the new ones, see `prompts`
    → new ids     in batches, greedy or sampled, see `generation`
    → Filling     the new ids as text, continuing where the prefix ends

Does not cut or compare the written text: that depends on the task, so the callers do it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.inference.generation import generate
from flyte_llama.inference.prompts import LEFT_TO_RIGHT, infill_prompt, plain_prompt


class Gap(NamedTuple):
    """A position in a text at which a model writes."""

    prefix: str
    suffix: str
    """The text after the gap; a left-to-right prompt does not show it to the model."""

    layout: str
    """LEFT_TO_RIGHT, PSM or SPM; the last two need infill tokens."""

    is_filled: Callable[[str], bool] | None = None
    """Called with the text so far after each token; True ends it. None leaves the end to the model."""

    seed: int = 0
    """Seed for sampling; unused if the temperature is 0."""


class Filling(NamedTuple):
    """The text that a model wrote into a gap."""

    text: str
    stopped: bool
    """Whether the model or `is_filled` ended it, rather than `max_new_tokens`."""

    num_tokens: int


def fill_gaps(
    model: Any,
    tokenizer: DocumentTokenizer,
    gaps: Sequence[Gap],
    *,
    window: int,
    max_new_tokens: int,
    batch_tokens: int,
    temperature: float = 0.0,
    stop_ids: Collection[int] | None = None,
    what: str,
) -> list[Filling]:
    """Let a model write into each gap, and return the texts in the order of the gaps.

    Args:
        window: Maximum ids in a prompt and its new ids together.
        max_new_tokens: Maximum new ids for a gap; half the window at most.
        batch_tokens: Maximum tokens in a batch; changes the texts only by rounding.
        temperature: 0 takes the likeliest token; above 0, tokens are sampled with the seed of each gap.
        stop_ids: Ids that end a text; None is `tokenizer.stop_ids`.
        what: Label of the progress bar.

    Raises:
        EvaluationError: if the model gives logits that are not finite, or reads fewer tokens than `window`.
        ValueError: if a layout needs infill tokens, and the tokenizer has none.
    """
    max_new_tokens = min(max_new_tokens, window // 2)

    def ends(index: int, ids: Sequence[int]) -> bool:
        is_filled = gaps[index].is_filled
        return is_filled is not None and is_filled(tokenizer.decode_infix(ids))

    generated = generate(
        model,
        [make_prompt(gap, tokenizer, window - max_new_tokens) for gap in gaps],
        max_new_tokens=max_new_tokens,
        stop_ids=tokenizer.stop_ids if stop_ids is None else stop_ids,
        batch_tokens=batch_tokens,
        ends=ends,
        temperature=temperature,
        seeds=[gap.seed for gap in gaps],
        what=what,
    )
    return [Filling(tokenizer.decode_infix(output.ids), output.stopped, len(output.ids)) for output in generated]


def choose_layout(layout: str | None, suffix: str | None) -> str:
    """Return `layout` for a gap with a suffix, and LEFT_TO_RIGHT for any other gap.

    Args:
        layout: The layout that the model infills in, PSM or SPM; None, and so LEFT_TO_RIGHT, if it does not infill.
    """
    return layout if layout is not None and suffix else LEFT_TO_RIGHT


def make_prompt(gap: Gap, tokenizer: DocumentTokenizer, max_ids: int) -> np.ndarray:
    """Return the ids that a model continues at a gap, at most `max_ids`.

    Raises:
        ValueError: if the layout needs infill tokens, and the tokenizer has none.
    """
    if gap.layout == LEFT_TO_RIGHT:
        return plain_prompt(gap.prefix, tokenizer, max_ids=max_ids)
    if tokenizer.infill is None:
        raise ValueError(f"the layout {gap.layout} needs a tokenizer with infill tokens")
    return infill_prompt(gap.prefix, gap.suffix, tokenizer, tokenizer.infill, layout=gap.layout, max_ids=max_ids)
