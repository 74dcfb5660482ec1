"""An encoder's nats for every token of every document: pseudo-perplexity, the measure of masked language models.

Salazar et al. 2020 (arXiv 1910.14659) mask one token at a time and score it from all others, as many passes as there
are tokens. Here `mask_share` of a window's tokens is masked at a time, in groups that share no token and together are
all of them: a few passes, each of them what the model was trained on. With fewer tokens around it a token costs more
nats than by the original, so figures compare at equal shares only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from flyte_llama.config import EvaluationConfig
from flyte_llama.evaluation.nats import sum_of_nats
from flyte_llama.evaluation.windows import Window, rolling_windows
from flyte_llama.model import document_mask
from flyte_llama.progress import track


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
    import torch

    jobs = [
        _Job(number, window, group)
        for number, ids in enumerate(documents)
        for window in rolling_windows(len(ids), window=config.window, stride=config.stride)
        for group in mask_groups(window, mask_share)
    ]
    jobs.sort(key=lambda job: (job.window.begin - job.window.end, job.document, job.window, job.masked[0]))
    total = np.zeros(len(documents), dtype=np.float64)
    model.eval()
    with torch.inference_mode():
        for begin, end in track(spans := _batches(jobs, config.batch_tokens), what="scoring", total=len(spans)):
            batch = jobs[begin:end]
            for job, nats in zip(batch, _batch_nats(model, documents, batch, mask_id), strict=True):
                total[job.document] += nats
    return [float(nats) for nats in total]


def mask_groups(window: Window, mask_share: float) -> list[np.ndarray]:
    """The window's targets in groups of `mask_share` of them, mixed always in the same way; the last may be smaller."""
    targets = np.random.default_rng(0).permutation(np.arange(window.first_target, window.end))
    size = max(1, round(mask_share * len(targets)))
    return [targets[begin : begin + size] for begin in range(0, len(targets), size)]


def _batches(jobs: Sequence[_Job], batch_tokens: int) -> list[tuple[int, int]]:
    """Bounds of runs of jobs, longest first, each at most `batch_tokens` when padded."""
    bounds, begin = [], 0
    while begin < len(jobs):
        longest = jobs[begin].window.end - jobs[begin].window.begin
        end = min(len(jobs), begin + max(1, batch_tokens // longest))
        bounds.append((begin, end))
        begin = end
    return bounds


def _batch_nats(model: Any, documents: Sequence[np.ndarray], batch: Sequence[_Job], mask_id: int) -> list[float]:
    import torch

    lengths = [job.window.end - job.window.begin for job in batch]
    inputs = np.zeros((len(batch), lengths[0]), dtype=np.int64)
    for row, job, length in zip(inputs, batch, lengths, strict=True):
        row[:length] = documents[job.document][job.window.begin : job.window.end]
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
