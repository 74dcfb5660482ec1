"""A causal model's nats for each id of each sequence, and the rank of each id among the logits.

A sequence longer than the model's window is scored in rolling windows, which partition its ids: every id except the
first is scored in exactly one. Windows of similar length share a batch and are padded on the right. Under a causal
mask, tokens after a target cannot change its score, so batch size and order change the figures only by the rounding of
the model's precision. A window that would change the positions of others (`model.positions`) is alone in its batch.
Logits are computed for the scored ids only, a few hundred at a time. On a CPU several batches run at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from flyte_llama.config import EvaluationConfig
from flyte_llama.inference.batches import batches_by_length, num_streams, run_in_streams, shared_length
from flyte_llama.inference.logits import Logits, is_backbone_and_head
from flyte_llama.model import sdpa_without_cudnn
from flyte_llama.progress import track

if TYPE_CHECKING:
    import torch

TOP = 5
"""Ranks are capped at this value: all that matters is whether a target is first, or among the first five."""

# On a CPU so many rows of logits at a time stay in its cache through all operations.
_ROWS_ON_A_CPU = 32
# Neighbouring logits that share a maximum, see `ranks_of`.
_GROUP = 64


class Scored(NamedTuple):
    """Nats and ranks of a sequence's ids, except the first."""

    nats: np.ndarray
    """float32 (n,): -ln p."""

    ranks: np.ndarray
    """int8 (n,): see `ranks_of`."""

    @property
    def sum_of_nats(self) -> float:
        """The sum in float64, rounded once."""
        return math.fsum(self.nats.tolist())


class Window(NamedTuple):
    """A range of a sequence's ids, and the part of it that is scored."""

    begin: int
    end: int
    """The model sees `ids[begin:end]`, at most `window` ids."""

    first_target: int
    """`ids[first_target:end]` are scored; each is predicted from the window's ids before it."""


class Segment(Protocol):
    """A window of one sequence, and the ids in it that are scored together."""

    @property
    def sequence_index(self) -> int: ...

    @property
    def window(self) -> Window: ...

    @property
    def positions(self) -> np.ndarray:
        """Positions in the sequence of the ids to score."""
        ...


S = TypeVar("S", bound=Segment)

Inputs = Callable[[Sequence[np.ndarray], Sequence[S]], "dict[str, torch.Tensor]"]
"""Makes the model's keyword arguments from all sequences and a batch of segments, the longest first: one row each."""


class _WindowSegment(NamedTuple):
    """Scores all targets of a window of a causal model."""

    sequence_index: int
    window: Window

    @property
    def positions(self) -> np.ndarray:
        return np.arange(self.window.first_target, self.window.end)


def token_nats(model: Any, sequences: Sequence[np.ndarray], config: EvaluationConfig) -> list[float]:
    """Return the sum of -ln p over each sequence's ids except the first, summed in float64."""
    return [scored.sum_of_nats for scored in score_tokens(model, sequences, config)]


def score_tokens(model: Any, sequences: Sequence[np.ndarray], config: EvaluationConfig) -> list[Scored]:
    """Return -ln p and rank of each sequence's ids except the first.

    Args:
        sequences: 1-D integer arrays; the first id of each only starts the sequence and is not scored.
    """
    segments = [
        _WindowSegment(index, window)
        for index, ids in enumerate(sequences)
        for window in rolling_windows(len(ids), window=config.window, stride=config.stride)
    ]
    return score_segments(model, sequences, segments, _inputs, batch_tokens=config.batch_tokens)


def score_segments(
    model: Any,
    sequences: Sequence[np.ndarray],
    segments: Sequence[S],
    inputs: Inputs[S],
    *,
    batch_tokens: int,
) -> list[Scored]:
    """Score the segments in batches, and return the scores of each sequence.

    The segments together must cover each sequence's ids, except the first, exactly once.

    Args:
        inputs: Makes the model's inputs for a batch; the logits at one position predict the id at the next.
        batch_tokens: Maximum tokens, padding included, in all batches that run at the same time.
    """
    import torch

    scores = [Scored(np.empty(len(ids) - 1, np.float32), np.empty(len(ids) - 1, np.int8)) for ids in sequences]
    # All streams together get `batch_tokens`, and each needs room for the longest segment.
    streams = num_streams(model, max_streams=batch_tokens // max(map(_length, segments), default=1))
    batches = list(
        batches_by_length(
            segments,
            lambda segment: (_length(segment), 0),
            batch_tokens=batch_tokens // streams,
            shared_length=shared_length(model),
        )
    )
    model.eval()
    if sequences:
        # Some models change shared weights in their first pass (RWKV), so it comes before the streams copy the model.
        few = torch.from_numpy(max(sequences, key=len)[:4].astype(np.int64))[None].to(model.device)
        with torch.inference_mode():
            is_backbone_and_head(model, few)

    def open_stream(stream_model: Any) -> _Stream[S]:
        return _Stream(stream_model, sequences, inputs)

    with sdpa_without_cudnn():
        results = run_in_streams(model, batches, open_stream, streams=streams)
        for batch, (nats, ranks) in zip(batches, track(results, what="scoring", total=len(batches)), strict=True):
            # A batch's results lie end to end, segment by segment: copy each segment's back to its sequence.
            begin = 0
            for segment in batch:
                end = begin + len(segment.positions)
                scores[segment.sequence_index].nats[segment.positions - 1] = nats[begin:end]
                scores[segment.sequence_index].ranks[segment.positions - 1] = ranks[begin:end]
                begin = end
    return scores


def rolling_windows(num_ids: int, *, window: int, stride: int) -> Iterator[Window]:
    """Yield the windows over a sequence of `num_ids` ids; the first id starts the sequence and is never a target.

    The first window scores every target it sees. Each later window ends `stride` ids further (the last one at the end
    of the sequence) and scores only the new ids, so each of its targets has at least `window - stride` ids of context.

    Example: 10 ids, window 4, stride 2.

        [0 1 2 3]                 scores 1 2 3
            [2 3 4 5]             scores 4 5
                [4 5 6 7]         scores 6 7
                    [6 7 8 9]     scores 8 9

    Raises:
        ValueError: unless 1 <= stride < window.
    """
    if not 1 <= stride < window:
        raise ValueError(f"stride = {stride}: must be at least 1 and below window = {window}")
    first_target, end = 1, min(window, num_ids)
    while first_target < num_ids:
        yield Window(max(0, end - window), end, first_target)
        first_target, end = end, min(end + stride, num_ids)


def pad_right(sequences: Sequence[np.ndarray], batch: Sequence[Segment]) -> np.ndarray:
    """Return the windows of a batch as rows, int64, padded on the right with 0.

    Args:
        batch: The segments, the longest first.
    """
    inputs = np.zeros((len(batch), _length(batch[0])), dtype=np.int64)
    for row, segment in zip(inputs, batch, strict=True):
        row[: _length(segment)] = sequences[segment.sequence_index][segment.window.begin : segment.window.end]
    return inputs


def ranks_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the number of logits above each target's, at most `TOP`, as int8 (rows,); ties go to the lower id.

    Reads every logit once, to find the maximum of each group of `_GROUP` neighbours, then only the groups with the
    highest maxima. A top-k over the whole vocabulary takes several times as long.

    Args:
        logits: (rows, vocabulary).
        targets: int64 (rows,).
    """
    import torch

    size, targets = logits.shape[1], targets[:, None]
    target_logits = logits.gather(1, targets)
    # the maximum of each group; the last group may be smaller
    whole, rest = logits.split([size - size % _GROUP, size % _GROUP], dim=1)
    highest = whole.unflatten(1, (-1, _GROUP)).amax(2)
    if rest.shape[1]:
        highest = torch.cat([highest, rest.amax(1, keepdim=True)], dim=1)
    # The TOP likelier ids may lie in TOP different groups; one group more shows whether the rest can hold ties.
    best, groups = highest.topk(min(TOP + 1, highest.shape[1]))
    ids = (groups[:, :, None] * _GROUP + torch.arange(_GROUP, device=logits.device)).flatten(1)
    near = logits.gather(1, ids.clamp(max=size - 1))
    ranks = (_ranks_above(near, ids, target_logits, targets) & (ids < size)).sum(1).clamp(max=TOP)
    # Groups that were left out may hold logits equal to the target's: count those rows over the whole vocabulary.
    unsure = ((best[:, -1:] == target_logits).squeeze(1) & (ranks < TOP)).nonzero().squeeze(1)
    if len(unsure):
        every = torch.arange(size, device=logits.device)
        above = _ranks_above(logits[unsure], every, target_logits[unsure], targets[unsure])
        ranks[unsure] = above.sum(1).clamp(max=TOP)
    return ranks.to(torch.int8)


class _Stream(Generic[S]):
    """Scores batches one after the other and reuses the same memory for each."""

    def __init__(self, model: Any, sequences: Sequence[np.ndarray], inputs: Inputs[S]) -> None:
        self._device, self._logits = model.device, Logits(model)
        self._sequences, self._inputs = sequences, inputs
        self._log_p: torch.Tensor | None = None

    def __call__(self, batch: Sequence[S]) -> Scored:
        """Return the scores of the batch's segments, end to end."""
        import torch

        # The logits at column c of a row predict the id at column c + 1.
        target_ids = np.concatenate([self._sequences[segment.sequence_index][segment.positions] for segment in batch])
        rows = np.concatenate([np.full(len(segment.positions), row) for row, segment in enumerate(batch)])
        columns = np.concatenate([segment.positions - segment.window.begin - 1 for segment in batch])
        nats, ranks, begin = [], [], 0
        # Inference mode holds for one thread, and each stream runs in another.
        with torch.inference_mode():
            inputs = {name: tensor.to(self._device) for name, tensor in self._inputs(self._sequences, batch).items()}
            for chunk in self._logits.chunks(inputs, rows, columns):
                for logits in chunk.split(_ROWS_ON_A_CPU if chunk.device.type == "cpu" else len(chunk)):
                    targets = torch.from_numpy(target_ids[begin : begin + len(logits)].astype(np.int64)).to(
                        self._device
                    )
                    begin += len(logits)
                    logits = logits.float()
                    nats.append(self._nats(logits, targets).cpu().numpy())
                    ranks.append(ranks_of(logits, targets).cpu().numpy())
        return Scored(np.concatenate(nats), np.concatenate(ranks))

    def _nats(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return -ln p of each row's target."""
        import torch

        if self._log_p is None or len(self._log_p) < len(logits):
            self._log_p = torch.empty_like(logits)
        log_p = torch.log_softmax(logits, dim=1, out=self._log_p[: len(logits)])
        return -log_p.gather(1, targets[:, None]).squeeze(1)


def _inputs(sequences: Sequence[np.ndarray], batch: Sequence[_WindowSegment]) -> dict[str, torch.Tensor]:
    import torch

    # A window's last id predicts nothing.
    return {"input_ids": torch.from_numpy(pad_right(sequences, batch)[:, :-1])}


def _length(segment: Segment) -> int:
    return segment.window.end - segment.window.begin


def _ranks_above(
    logits: torch.Tensor, ids: torch.Tensor, target_logits: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Mask of the ids that rank above the target: a higher logit, or an equal one and a lower id."""
    return (logits > target_logits) | ((logits == target_logits) & (ids < targets))
