"""An encoder's nats for every token of every document: pseudo-perplexity, the measure of masked language models.

Salazar et al. 2020 (arXiv 1910.14659) mask one token at a time and score it from all others, as many passes as there
are tokens. Here `mask_share` of a window's tokens is masked at a time, in groups that share no token and together are
all of them: a few passes, each of them what the model was trained on. With fewer tokens around it a token costs more
nats than by the original, so figures compare at equal shares only.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flyte_llama.config import EvaluationConfig
from flyte_llama.evaluation.nats import Scored, padded, scored_by_document
from flyte_llama.evaluation.windows import Window, rolling_windows
from flyte_llama.model import document_mask

if TYPE_CHECKING:
    import torch


class _Job(NamedTuple):
    document: int
    window: Window
    places: np.ndarray
    """Of the masked ids, in the document."""


def pseudo_score_tokens(
    model: Any, documents: Sequence[np.ndarray], config: EvaluationConfig, *, mask_id: int, mask_share: float
) -> list[Scored]:
    """-ln p and rank of each document's ids but the first, each masked once.

    A position sees its whole window, and a masked token is read one position before it, as in training (masked next
    token prediction: LLM2Vec, arXiv 2404.05961, section 2.2).

    Args:
        model: With torch's sdpa attention, which takes a boolean mask as it is.
        mask_share: Of a window's scored ids that are masked at a time, at least one: one whenever it is small enough.
    """
    jobs = [
        _Job(number, window, group)
        for number, ids in enumerate(documents)
        for window in rolling_windows(len(ids), window=config.window, stride=config.stride)
        for group in mask_groups(window, mask_share)
    ]
    inputs = functools.partial(_inputs, mask_id=mask_id)
    return scored_by_document(model, documents, jobs, inputs, batch_tokens=config.batch_tokens)


def mask_groups(window: Window, mask_share: float) -> list[np.ndarray]:
    """The window's targets in groups of `mask_share` of them, mixed always in the same way; the last may be smaller."""
    targets = np.random.default_rng(0).permutation(np.arange(window.first_target, window.end))
    size = max(1, round(mask_share * len(targets)))
    return [targets[begin : begin + size] for begin in range(0, len(targets), size)]


def _inputs(documents: Sequence[np.ndarray], batch: Sequence[_Job], *, mask_id: int) -> dict[str, torch.Tensor]:
    import torch

    inputs = padded(documents, batch)
    for row, job in zip(inputs, batch, strict=True):
        row[job.places - job.window.begin] = mask_id
    lengths = [job.window.end - job.window.begin for job in batch]
    mask = document_mask([[length] for length in lengths], [True] * len(batch), seq_len=lengths[0])
    return {"input_ids": torch.from_numpy(inputs), "attention_mask": mask}
