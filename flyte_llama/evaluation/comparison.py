"""Several models' scores on the same documents → lines: overall and by what the documents are, with intervals.

Sums are carried and divided once; beside each figure stand the documents and bytes that it is of.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation.bootstrap import FEWEST, REPLICATES, Scheme, bits_per_byte_replicates
from flyte_llama.evaluation.interval import Interval, percentile_interval
from flyte_llama.evaluation.loss import DocumentLoss, total_loss
from flyte_llama.evaluation.roles import HELDOUT
from flyte_llama.progress import track

Key = tuple[str, str, str, int]
Scores = Mapping[str, Sequence[DocumentLoss]]
"""Model → its scores; the references first, the model that they are compared with last."""


class _Figures(BaseModel):
    # A broken model's perplexity may be infinite, which JSON has no number for.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Figure(_Figures):
    """One model on the documents of a line."""

    model: str
    num_tokens: int
    perplexity: float
    bits_per_byte: float
    interval: Interval | None
    """95 % of its bits per byte, repositories resampled too where there are several; None of too few documents."""

    document_bits_per_byte: float
    """The mean of the documents' own bits per byte: a short document weighs as much as a long one."""

    top1_accuracy: float
    top5_accuracy: float


class Change(_Figures):
    """In bits per byte, from a reference to the subject; negative is better."""

    reference: str
    subject: str
    difference: float
    documents: Interval | None
    """95 %, documents resampled within their repositories; None of fewer than `bootstrap.FEWEST` documents."""

    clustered: Interval | None
    """95 %, repositories resampled too; None of one repository, or of too few documents."""

    @property
    def widest(self) -> Interval | None:
        """The one that carries furthest."""
        return self.clustered or self.documents


class Line(_Figures):
    name: str
    num_documents: int
    num_repositories: int
    num_bytes: int
    figures: list[Figure]
    """Of each model, in their order."""

    changes: list[Change]
    """From each reference, in their order."""


class Comparison(_Figures):
    overall: Line
    by: dict[str, list[Line]]
    """repository, language, kind, stratum, freshness, length → lines; none of what no document says."""

    same_tokens: bool
    """Whether all models cut each document into as many tokens; if not, only bits per byte compare."""


def matched(scores: Scores) -> dict[str, list[DocumentLoss]]:
    """The same scores, each model's ordered by document.

    Raises:
        EvaluationError: unless all models were measured on the same documents and texts.
    """
    ordered = {model: sorted(own, key=key_of) for model, own in scores.items()}
    first, *others = ordered
    for model in ordered:
        if not ordered[model]:
            raise EvaluationError(f"{model}: was measured on no document. Hold out some, and measure it anew.")
        _check_once(model, ordered[model])
    for model in others:
        texts = [{(*key_of(score), score.num_bytes) for score in ordered[name]} for name in (first, model)]
        if texts[0] != texts[1]:
            some = min(texts[0] ^ texts[1])
            raise EvaluationError(
                f"{first} and {model} were not measured on the same documents: {some[1]} {some[2]}, byte {some[3]}, "
                f"{some[4]} bytes ({some[0]}) is not of both. Measure both anew on one set."
            )
    return ordered


def compare(scores: Scores, *, role: str = HELDOUT, replicates: int = REPLICATES, seed: int = 0) -> Comparison | None:
    """Lines of the documents of one role; None if there is none.

    Args:
        scores: As `matched` gives them.
    """
    chosen = {model: [score for score in own if score.role == role] for model, own in scores.items()}
    first = next(iter(chosen.values()))
    if not first:
        return None
    groups = {"": {"overall": list(range(len(first)))}} | {name: _grouped(first, of) for name, of in _BY.items()}
    named = [(title, name, rows) for title, group in groups.items() for name, rows in group.items()]
    by: dict[str, list[Line]] = defaultdict(list)
    for title, name, rows in track(named, what=f"comparing {role}", total=len(named)):
        own = {model: [losses[row] for row in rows] for model, losses in chosen.items()}
        by[title].append(_line(name, own, replicates, seed))
    (overall,) = by.pop("")
    counts = {tuple(score.num_tokens for score in own) for own in chosen.values()}
    return Comparison(overall=overall, by=dict(by), same_tokens=len(counts) == 1)


def key_of(score: DocumentLoss) -> Key:
    return score.role, score.repository, score.path, score.start


def nats_of(scores: Scores) -> np.ndarray:
    """(documents, models + references): each model's nats, then the subject's less each reference's."""
    nats = np.array([[score.nats for score in own] for own in scores.values()]).T
    return np.column_stack([nats, nats[:, -1:] - nats[:, :-1]])


def _check_once(model: str, ordered: Sequence[DocumentLoss]) -> None:
    for one, after in itertools.pairwise(ordered):
        if key_of(one) == key_of(after):
            raise EvaluationError(f"{model}: {one.repository} {one.path} was scored twice. Measure it anew.")


def _line(name: str, scores: Scores, replicates: int, seed: int) -> Line:
    models = list(scores)
    first = next(iter(scores.values()))
    repositories = [score.repository for score in first]
    documents: list[Interval] | None = None
    clustered: list[Interval] | None = None
    if len(first) >= FEWEST:
        num_bytes, keys = np.array([score.num_bytes for score in first]), [key_of(score) for score in first]
        nats = nats_of(scores)

        def intervals(scheme: Scheme) -> list[Interval]:
            found = bits_per_byte_replicates(
                nats, num_bytes, repositories, keys, scheme=scheme, replicates=replicates, seed=seed
            )
            return [percentile_interval(column, cases=len(first)) for column in found.T]

        documents = intervals("documents")
        clustered = intervals("clustered") if len(set(repositories)) > 1 else None
    widest = clustered or documents
    totals = {model: total_loss(own) for model, own in scores.items()}
    figures = [
        Figure(
            model=model,
            num_tokens=total.num_tokens,
            perplexity=total.perplexity,
            bits_per_byte=total.bits_per_byte,
            interval=widest[number] if widest else None,
            document_bits_per_byte=math.fsum(score.loss.bits_per_byte for score in scores[model]) / len(first),
            top1_accuracy=total.top1_accuracy,
            top5_accuracy=total.top5_accuracy,
        )
        for number, (model, total) in enumerate(totals.items())
    ]
    changes = [
        Change(
            reference=reference,
            subject=models[-1],
            difference=totals[models[-1]].bits_per_byte - totals[reference].bits_per_byte,
            documents=documents[len(models) + number] if documents else None,
            clustered=clustered[len(models) + number] if clustered else None,
        )
        for number, reference in enumerate(models[:-1])
    ]
    return Line(
        name=name,
        num_documents=len(first),
        num_repositories=len(set(repositories)),
        num_bytes=sum(score.num_bytes for score in first),
        figures=figures,
        changes=changes,
    )


_SIZES = ("under 256 bytes", "256 bytes to 1 KiB", "1 to 4 KiB", "4 to 16 KiB", "16 to 64 KiB", "64 KiB or more")


def _length(score: DocumentLoss) -> str:
    """Powers of 4 of its bytes, which are the same for all tokenizers."""
    return _SIZES[min(max(0, (score.num_bytes.bit_length() - 7) // 2), len(_SIZES) - 1)]


_BY: dict[str, Callable[[DocumentLoss], str]] = {
    "repository": lambda score: score.repository,
    "language": lambda score: score.language,
    "kind": lambda score: score.kind,
    "stratum": lambda score: score.stratum or "unknown",
    "freshness": lambda score: score.freshness or "unknown",
    "length": _length,
}


def _grouped(scores: Sequence[DocumentLoss], of: Callable[[DocumentLoss], str]) -> dict[str, list[int]]:
    """Name → rows, lengths from short to long, others by name; empty if nothing is known."""
    groups = defaultdict(list)
    for row, score in enumerate(scores):
        groups[of(score)].append(row)
    if set(groups) == {"unknown"}:
        return {}
    return {
        name: groups[name] for name in sorted(groups, key=lambda name: (name in _SIZES and _SIZES.index(name), name))
    }
