"""A causal model's nats for every token of every document.

Windows of like length are batched together, padded on the right: under a causal mask what follows a token cannot
change its score, so neither batch size nor order moves the figures beyond float32 rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from flyte_llama.config import EvaluationConfig
from flyte_llama.evaluation.windows import Window, rolling_windows
from flyte_llama.model.loss import LOSS_CHUNK
from flyte_llama.progress import track

if TYPE_CHECKING:
    import torch


class Job(Protocol):
    """Some ids of a document that are scored together."""

    @property
    def document(self) -> int: ...

    @property
    def window(self) -> Window: ...


J = TypeVar("J", bound=Job)


class _Job(NamedTuple):
    document: int
    window: Window


def token_nats(model: Any, documents: Sequence[np.ndarray], config: EvaluationConfig) -> list[float]:
    """The sum of -ln p over each document's ids but the first, summed in float64.

    Args:
        documents: 1-D integer arrays; the first id of each only starts the document.
    """
    jobs = [
        _Job(number, window)
        for number, ids in enumerate(documents)
        for window in rolling_windows(len(ids), window=config.window, stride=config.stride)
    ]
    return nats_by_document(model, documents, jobs, _batch_nats, batch_tokens=config.batch_tokens)


def nats_by_document(
    model: Any,
    documents: Sequence[np.ndarray],
    jobs: Sequence[J],
    batch_nats: Callable[[Any, Sequence[np.ndarray], list[J]], list[float]],
    *,
    batch_tokens: int,
) -> list[float]:
    """The sum of its jobs' nats for each document, in float64.

    Args:
        batch_nats: Model, documents and some jobs, the longest first → nats of each of these jobs.
        batch_tokens: Most tokens of a batch, padding counted.
    """
    import torch

    total = np.zeros(len(documents), dtype=np.float64)
    batches = list(_batches(jobs, batch_tokens))
    model.eval()
    with torch.inference_mode():
        for batch in track(batches, what="scoring held-out", total=len(batches)):
            for job, nats in zip(batch, batch_nats(model, documents, batch), strict=True):
                total[job.document] += nats
    return [float(nats) for nats in total]


def padded(documents: Sequence[np.ndarray], batch: Sequence[Job]) -> np.ndarray:
    """The jobs' windows as rows, int64, filled up on the right."""
    inputs = np.zeros((len(batch), _length(batch[0])), dtype=np.int64)
    for row, job in zip(inputs, batch, strict=True):
        row[: _length(job)] = documents[job.document][job.window.begin : job.window.end]
    return inputs


def _batches(jobs: Sequence[J], batch_tokens: int) -> Iterator[list[J]]:
    """Longest first, so that memory peaks at once if at all; each batch is at most `batch_tokens` when padded."""
    batch: list[J] = []
    for job in sorted(jobs, key=_length, reverse=True):
        if batch and (len(batch) + 1) * _length(batch[0]) > batch_tokens:
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _length(job: Job) -> int:
    return job.window.end - job.window.begin


def _batch_nats(model: Any, documents: Sequence[np.ndarray], batch: list[_Job]) -> list[float]:
    import torch

    input_ids = torch.from_numpy(padded(documents, batch)).to(model.device)
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
    for begin in range(0, len(targets), LOSS_CHUNK):
        some, wanted = logits[begin : begin + LOSS_CHUNK].float(), targets[begin : begin + LOSS_CHUNK]
        nats = torch.nn.functional.cross_entropy(some, wanted, reduction="none")
        total += float(nats.double().sum())
    return total
