"""An encoder's nats for each token of each sequence: pseudo-perplexity, the measure for masked language models.

Salazar et al. 2020 (arXiv 1910.14659) mask one token at a time and predict it from all others, which takes one pass per
token. Here a window's tokens are split into disjoint groups of `mask_share` of them, and each pass masks one group: a
few passes, each with the share of masked tokens that the model was trained on. A token has fewer visible tokens around
it than in the original method and so costs more nats: compare figures only at equal shares.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flyte_llama.config import EvaluationConfig
from flyte_llama.inference.nats import Scored, Window, pad_right, rolling_windows, score_segments
from flyte_llama.model import document_mask

if TYPE_CHECKING:
    import torch


class _MaskedSegment(NamedTuple):
    """A window of one sequence with one group of its targets masked."""

    sequence_index: int
    window: Window
    positions: np.ndarray
    """Positions of the masked ids in the sequence."""


def pseudo_score_tokens(
    model: Any, sequences: Sequence[np.ndarray], config: EvaluationConfig, *, mask_id: int, mask_share: float
) -> list[Scored]:
    """Return -ln p and rank of each sequence's ids except the first; each id is masked once.

    Every position attends to its whole window. A masked token is predicted at the position before it, as in training
    (masked next token prediction: LLM2Vec, arXiv 2404.05961, section 2.2).

    Args:
        model: A model with torch's sdpa attention, which accepts a boolean mask.
        mask_share: Share of a window's targets to mask at a time; at least one is masked, so a tiny share masks one.
    """
    segments = [
        _MaskedSegment(index, window, group)
        for index, ids in enumerate(sequences)
        for window in rolling_windows(len(ids), window=config.window, stride=config.stride)
        for group in mask_groups(window, mask_share)
    ]
    inputs = functools.partial(_inputs, mask_id=mask_id)
    return score_segments(model, sequences, segments, inputs, batch_tokens=config.batch_tokens)


def mask_groups(window: Window, mask_share: float) -> list[np.ndarray]:
    """Shuffle the window's targets with a fixed seed and cut them into groups; the last group may be smaller."""
    targets = np.random.default_rng(0).permutation(np.arange(window.first_target, window.end))
    size = max(1, round(mask_share * len(targets)))
    return [targets[begin : begin + size] for begin in range(0, len(targets), size)]


def _inputs(
    sequences: Sequence[np.ndarray], batch: Sequence[_MaskedSegment], *, mask_id: int
) -> dict[str, torch.Tensor]:
    import torch

    inputs = pad_right(sequences, batch)
    for row, segment in zip(inputs, batch, strict=True):
        row[segment.positions - segment.window.begin] = mask_id
    lengths = [segment.window.end - segment.window.begin for segment in batch]
    mask = document_mask([[length] for length in lengths], [True] * len(batch), seq_len=lengths[0])
    return {"input_ids": torch.from_numpy(inputs), "attention_mask": mask}
