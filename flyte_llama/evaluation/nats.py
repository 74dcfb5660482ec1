"""A causal model's nats for every token of every document, and each token's rank among its rivals.

Windows of like length are batched together, padded on the right: under a causal mask what follows a token cannot
change its score, so neither batch size nor order moves the figures beyond the rounding of the model's own precision.
Logits are made of the real targets alone, `LOGITS_CHUNK` of them at a time, never of a whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from flyte_llama.config import EvaluationConfig
from flyte_llama.evaluation.logits import chunks_of_logits
from flyte_llama.evaluation.windows import Window, rolling_windows
from flyte_llama.model import sdpa_of_any_length
from flyte_llama.progress import track

if TYPE_CHECKING:
    import torch


TOP = 5
"""Ranks from here on are not told apart."""

_ROWS_ON_A_CPU = 32


class Scored(NamedTuple):
    """What each of a document's ids but the first cost."""

    nats: np.ndarray
    """float32 (n,): -ln p."""

    ranks: np.ndarray
    """int8 (n,): how many ids of the vocabulary were held for likelier, `TOP` where more; of equals the lower id goes
    first."""

    @property
    def sum_of_nats(self) -> float:
        """In float64, rounded once."""
        return math.fsum(self.nats.tolist())


class Job(Protocol):
    """Some ids of a document that are scored together."""

    @property
    def document(self) -> int: ...

    @property
    def window(self) -> Window: ...

    @property
    def places(self) -> np.ndarray:
        """Of the ids to be scored, in the document."""
        ...


J = TypeVar("J", bound=Job)


class _Job(NamedTuple):
    document: int
    window: Window

    @property
    def places(self) -> np.ndarray:
        return np.arange(self.window.first_target, self.window.end)


def token_nats(model: Any, documents: Sequence[np.ndarray], config: EvaluationConfig) -> list[float]:
    """The sum of -ln p over each document's ids but the first, summed in float64."""
    return [scored.sum_of_nats for scored in score_tokens(model, documents, config)]


def score_tokens(model: Any, documents: Sequence[np.ndarray], config: EvaluationConfig) -> list[Scored]:
    """-ln p and rank of each document's ids but the first.

    Args:
        documents: 1-D integer arrays; the first id of each only starts the document.
    """
    jobs = [
        _Job(number, window)
        for number, ids in enumerate(documents)
        for window in rolling_windows(len(ids), window=config.window, stride=config.stride)
    ]
    return scored_by_document(model, documents, jobs, _inputs, batch_tokens=config.batch_tokens)


def scored_by_document(
    model: Any,
    documents: Sequence[np.ndarray],
    jobs: Sequence[J],
    inputs: Callable[[Sequence[np.ndarray], Sequence[J]], dict[str, torch.Tensor]],
    *,
    batch_tokens: int,
) -> list[Scored]:
    """Runs the jobs in batches; together their places must be each document's ids but the first, each once.

    Args:
        inputs: Documents and some jobs, the longest first → what the model is called with, a row for each job. An id is
            predicted from the position before it.
        batch_tokens: Most tokens of a batch, padding counted.
    """
    import torch

    found = [Scored(np.empty(len(ids) - 1, np.float32), np.empty(len(ids) - 1, np.int8)) for ids in documents]
    batches = list(_batches(jobs, batch_tokens))
    model.eval()
    with torch.inference_mode(), sdpa_of_any_length():
        for batch in track(batches, what="scoring held-out", total=len(batches)):
            wanted = np.concatenate([documents[job.document][job.places] for job in batch])
            rows = np.concatenate([np.full(len(job.places), row) for row, job in enumerate(batch)])
            columns = np.concatenate([job.places - job.window.begin - 1 for job in batch])
            given = {name: tensor.to(model.device) for name, tensor in inputs(documents, batch).items()}
            nats, ranks = _scored(chunks_of_logits(model, given, rows, columns), wanted)
            begin = 0
            for job in batch:
                end = begin + len(job.places)
                found[job.document].nats[job.places - 1] = nats[begin:end]
                found[job.document].ranks[job.places - 1] = ranks[begin:end]
                begin = end
    return found


def padded(documents: Sequence[np.ndarray], batch: Sequence[Job]) -> np.ndarray:
    """The jobs' windows as rows, int64, filled up on the right."""
    inputs = np.zeros((len(batch), _length(batch[0])), dtype=np.int64)
    for row, job in zip(inputs, batch, strict=True):
        row[: _length(job)] = documents[job.document][job.window.begin : job.window.end]
    return inputs


def _inputs(documents: Sequence[np.ndarray], batch: Sequence[_Job]) -> dict[str, torch.Tensor]:
    import torch

    # Nothing is predicted from the last ids.
    return {"input_ids": torch.from_numpy(padded(documents, batch)[:, :-1])}


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


def _scored(chunks: Iterator[torch.Tensor], wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-ln softmax(logits)[wanted] and ranks; the chunks' rows follow each other as `wanted` does."""
    import torch

    nats, ranks, begin = [], [], 0
    for chunk in chunks:
        # On a CPU a few rows at a time, which stay in its cache from one step to the next.
        for logits in chunk.split(_ROWS_ON_A_CPU if chunk.device.type == "cpu" else len(chunk)):
            targets = torch.from_numpy(wanted[begin : begin + len(logits)].astype(np.int64)).to(logits.device)
            begin += len(logits)
            logits = logits.float()
            nats.append(torch.nn.functional.cross_entropy(logits, targets, reduction="none").cpu().numpy())
            ranks.append(_ranks(logits, targets).cpu().numpy())
    return np.concatenate(nats), np.concatenate(ranks)


def _ranks(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """As of `Scored`. Told by the `TOP` + 1 highest logits, but where equals of the target's may be elsewhere."""
    import torch

    own = logits.gather(1, targets[:, None])
    highest = logits.topk(min(TOP + 1, logits.shape[1])).values
    ranks = (highest > own).sum(1).clamp(max=TOP)
    has_equals = ((highest == own).sum(1) > 1) | (highest[:, -1] == own[:, 0])
    tied = (has_equals & (ranks < TOP)).nonzero().squeeze(1)
    if len(tied):
        lower = torch.arange(logits.shape[1], device=logits.device) < targets[tied, None]
        ranks[tied] = (ranks[tied] + ((logits[tied] == own[tied]) & lower).sum(1)).clamp(max=TOP)
    return ranks.to(torch.int8)
