"""An encoder's nats for every token of every document: pseudo-perplexity, the measure of masked language models.

Salazar et al. 2020 (arXiv 1910.14659) mask one token at a time and score it from all others, as many passes as there
are tokens. Here `mask_share` of a window's tokens is masked at a time, in groups that share no token and together are
all of them: a few passes, each of them what the model was trained on. With fewer tokens around it a token costs more
nats than by the original, so figures compare at equal shares only.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from flyte_llama.config import EvaluationConfig
from flyte_llama.evaluation.nats import nats_by_document, padded, sum_of_nats
from flyte_llama.evaluation.windows import Window, rolling_windows
from flyte_llama.model import document_mask


class _Job(NamedTuple):
    document: int
    window: Window
    masked: np.ndarray
    """Places in the document."""


def pseudo_nats(
    model: Any, documents: Sequence[np.ndarray], config: EvaluationConfig, *, mask_id: int, mask_share: float
) -> list[float]:
    """The sum of -ln p over each document's ids but the first, each masked once, summed in float64.

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
    batch_nats = functools.partial(_batch_nats, mask_id=mask_id)
    return nats_by_document(model, documents, jobs, batch_nats, batch_tokens=config.batch_tokens)


def mask_groups(window: Window, mask_share: float) -> list[np.ndarray]:
    """The window's targets in groups of `mask_share` of them, mixed always in the same way; the last may be smaller."""
    targets = np.random.default_rng(0).permutation(np.arange(window.first_target, window.end))
    size = max(1, round(mask_share * len(targets)))
    return [targets[begin : begin + size] for begin in range(0, len(targets), size)]


def _batch_nats(model: Any, documents: Sequence[np.ndarray], batch: Sequence[_Job], *, mask_id: int) -> list[float]:
    import torch

    lengths = [job.window.end - job.window.begin for job in batch]
    inputs = padded(documents, batch)
    for row, job in zip(inputs, batch, strict=True):
        row[job.masked - job.window.begin] = mask_id
    mask = document_mask([[length] for length in lengths], [True] * len(batch), seq_len=lengths[0])
    given = {"input_ids": torch.from_numpy(inputs), "attention_mask": mask}
    logits = model(**{name: value.to(model.device) for name, value in given.items()}, use_cache=False).logits
    sums = []
    for number, job in enumerate(batch):
        wanted = torch.from_numpy(documents[job.document][job.masked].astype(np.int64)).to(logits.device)
        places = torch.from_numpy(job.masked - job.window.begin - 1).to(logits.device)
        sums.append(sum_of_nats(logits[number, places], wanted))
    return sums
