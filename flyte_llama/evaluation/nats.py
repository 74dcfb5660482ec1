"""A causal model's nats for every token of every document.

Windows of like length are batched together, padded on the right: under a causal mask what follows a token cannot
change its score, so neither batch size nor order moves the figures beyond float32 rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flyte_llama.config import EvaluationConfig
from flyte_llama.evaluation.windows import Window, rolling_windows
from flyte_llama.progress import track

if TYPE_CHECKING:
    import torch

_LOGITS_CHUNK = 2048
"""Positions whose logits are held in float32 at once."""


class _Job(NamedTuple):
    document: int
    window: Window


def token_nats(model: Any, documents: Sequence[np.ndarray], config: EvaluationConfig) -> list[float]:
    """The sum of -ln p over each document's ids but the first, summed in float64.

    Args:
        documents: 1-D integer arrays; the first id of each only starts the document.
    """
    import torch

    jobs = [
        _Job(number, window)
        for number, ids in enumerate(documents)
        for window in rolling_windows(len(ids), window=config.window, stride=config.stride)
    ]
    total = np.zeros(len(documents), dtype=np.float64)
    batches = list(_batches(jobs, config.batch_tokens))
    model.eval()
    with torch.inference_mode():
        for batch in track(batches, what="scoring held-out", total=len(batches)):
            for job, nats in zip(batch, _batch_nats(model, documents, batch), strict=True):
                total[job.document] += nats
    return [float(nats) for nats in total]


def _batches(jobs: list[_Job], batch_tokens: int) -> Iterator[list[_Job]]:
    """Longest first, so that memory peaks at once if at all; each batch is at most `batch_tokens` when padded."""
    ordered = sorted(jobs, key=lambda job: (job.window.begin - job.window.end, job))
    batch: list[_Job] = []
    for job in ordered:
        longest = (batch or [job])[0].window
        if (len(batch) + 1) * (longest.end - longest.begin) > batch_tokens and batch:
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _batch_nats(model: Any, documents: Sequence[np.ndarray], batch: list[_Job]) -> list[float]:
    import torch

    longest = batch[0].window.end - batch[0].window.begin
    inputs = np.zeros((len(batch), longest), dtype=np.int64)
    for row, (document, window) in zip(inputs, batch, strict=True):
        row[: window.end - window.begin] = documents[document][window.begin : window.end]
    input_ids = torch.from_numpy(inputs).to(model.device)
    logits = model(input_ids=input_ids, use_cache=False).logits
    sums = []
    for number, (_, window) in enumerate(batch):
        first, end = window.first_target - window.begin, window.end - window.begin
        sums.append(sum_of_nats(logits[number, first - 1 : end - 1], input_ids[number, first:end]))
    return sums


def sum_of_nats(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """The sum of -log softmax(logits)[target]; (n, vocabulary) and (n,)."""
    import torch

    total = 0.0
    for begin in range(0, len(targets), _LOGITS_CHUNK):
        some, wanted = logits[begin : begin + _LOGITS_CHUNK].float(), targets[begin : begin + _LOGITS_CHUNK]
        nats = torch.nn.functional.cross_entropy(some, wanted, reduction="none")
        total += float(nats.double().sum())
    return total
