"""A causal model's nats for every token of every document, and each token's rank among its rivals.

Windows of like length are batched together, padded on the right: under a causal mask what follows a token cannot
change its score, so neither batch size nor order moves the figures beyond the rounding of the model's own precision.
Logits are made of the real targets alone, a few hundred of them at a time, never of a whole batch. On a CPU several
batches run side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from flyte_llama.config import EvaluationConfig
from flyte_llama.evaluation.logits import Logits
from flyte_llama.evaluation.ranks import ranks_of
from flyte_llama.evaluation.streams import in_streams, num_streams
from flyte_llama.evaluation.windows import Window, rolling_windows
from flyte_llama.model import sdpa_of_any_length
from flyte_llama.progress import track

if TYPE_CHECKING:
    import torch

_ROWS_ON_A_CPU = 32


class Scored(NamedTuple):
    """What each of a document's ids but the first cost."""

    nats: np.ndarray
    """float32 (n,): -ln p."""

    ranks: np.ndarray
    """int8 (n,): as `ranks_of` has them."""

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

Inputs = Callable[[Sequence[np.ndarray], Sequence[J]], "dict[str, torch.Tensor]"]
"""Documents and some jobs, the longest first → what the model is called with, a row for each job."""


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
    inputs: Inputs[J],
    *,
    batch_tokens: int,
) -> list[Scored]:
    """Runs the jobs in batches; together their places must be each document's ids but the first, each once.

    Args:
        inputs: An id is predicted from the position before it.
        batch_tokens: Most tokens of the batches that run at a time, padding counted.
    """
    found = [Scored(np.empty(len(ids) - 1, np.float32), np.empty(len(ids) - 1, np.int8)) for ids in documents]
    streams = num_streams(model, most=batch_tokens // max(map(_length, jobs), default=1))
    batches = list(_batches(jobs, batch_tokens // streams))
    model.eval()

    def begin_stream(own: Any) -> _Stream[J]:
        return _Stream(own, documents, inputs)

    with sdpa_of_any_length():
        scored = in_streams(model, batches, begin_stream, streams=streams)
        for batch, (nats, ranks) in zip(
            batches, track(scored, what="scoring held-out", total=len(batches)), strict=True
        ):
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


class _Stream(Generic[J]):
    """Scores batches, one after the other, in memory that each uses again."""

    def __init__(self, model: Any, documents: Sequence[np.ndarray], inputs: Inputs[J]) -> None:
        self._device, self._logits = model.device, Logits(model)
        self._documents, self._inputs = documents, inputs
        self._log_p: torch.Tensor | None = None

    def __call__(self, batch: Sequence[J]) -> Scored:
        """Of the batch's places, job by job."""
        import torch

        wanted = np.concatenate([self._documents[job.document][job.places] for job in batch])
        rows = np.concatenate([np.full(len(job.places), row) for row, job in enumerate(batch)])
        columns = np.concatenate([job.places - job.window.begin - 1 for job in batch])
        nats, ranks, begin = [], [], 0
        # Each thread has to be told.
        with torch.inference_mode():
            given = {name: tensor.to(self._device) for name, tensor in self._inputs(self._documents, batch).items()}
            for chunk in self._logits.chunks(given, rows, columns):
                # On a CPU a few rows at a time, which stay in its cache from one step to the next.
                for logits in chunk.split(_ROWS_ON_A_CPU if chunk.device.type == "cpu" else len(chunk)):
                    targets = torch.from_numpy(wanted[begin : begin + len(logits)].astype(np.int64)).to(self._device)
                    begin += len(logits)
                    logits = logits.float()
                    nats.append(self._nats(logits, targets).cpu().numpy())
                    ranks.append(ranks_of(logits, targets).cpu().numpy())
        return Scored(np.concatenate(nats), np.concatenate(ranks))

    def _nats(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        import torch

        if self._log_p is None or len(self._log_p) < len(logits):
            self._log_p = torch.empty_like(logits)
        log_p = torch.log_softmax(logits, dim=1, out=self._log_p[: len(logits)])
        return -log_p.gather(1, targets[:, None]).squeeze(1)
