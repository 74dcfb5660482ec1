"""Compare several models' scores on the same documents: overall, and by repository, language, length and so on.

Scores come in by model; a `Comparison` comes out, made of lines with the figures of every model, each reference's
change and its interval. Sums are divided once, at the end. Each line states how many documents and bytes its figures
cover. How the figures are printed is up to the report.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flyte_llama.config import Frozen
from flyte_llama.config.source_url import distinct_names
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation.intervals import (
    MIN_DOCUMENTS,
    REPLICATES,
    Cases,
    Interval,
    bits_per_byte_replicates,
    mean_interval,
    merge_near_copies,
    percentile_interval,
    repository_figures,
)
from flyte_llama.evaluation.scores import DocumentScore, total_loss
from flyte_llama.evaluation.suite import HELDOUT
from flyte_llama.progress import track

Scores = Mapping[str, Sequence[DocumentScore]]
"""Scores by model. The last model is the subject; it is compared with each model before it, the references."""

_SIZES = ("under 256 bytes", "256 bytes to 1 KiB", "1 to 4 KiB", "4 to 16 KiB", "16 to 64 KiB", "64 KiB or more")


class Figure(Frozen):
    """One model's figures on the documents of a line."""

    model: str
    num_tokens: int
    perplexity: float
    bits_per_byte: float
    interval: Interval | None
    """95 % interval of `bits_per_byte`, documents resampled within repositories; None with fewer than `MIN_DOCUMENTS`
    documents."""

    document_bits_per_byte: float
    """Mean of each document's bits per byte: a short document weighs as much as a long one."""

    top1_accuracy: float
    top5_accuracy: float


class Change(Frozen):
    """The subject's bits per byte minus a reference's; negative means that the subject is better.

    In `documents` near-copies count as one, and a repository of near-copies alone does not count in `clustered`.
    """

    reference: str
    subject: str
    difference: float
    documents: Interval | None
    """95 % interval, documents resampled within repositories; None with fewer than `MIN_DOCUMENTS` documents."""

    num_repositories: int
    repository_mean: float
    """Mean of the changes of the repositories: a small one weighs as much as a large one."""

    clustered: Interval | None
    """95 % interval of `repository_mean`, with a degree of freedom fewer than repositories; None with fewer than
    `MIN_REPOSITORIES`, or too few documents."""

    @property
    def is_better_here(self) -> bool:
        """Whether the subject is better on these documents: their interval lies below 0."""
        return self.documents is not None and self.documents.high < 0

    @property
    def is_better(self) -> bool:
        """Whether the subject is better on others like them too: the interval over repositories lies below 0 too."""
        return self.is_better_here and self.clustered is not None and self.clustered.high < 0

    @property
    def is_worse_here(self) -> bool:
        """Whether the subject is worse on these documents: their interval lies above 0."""
        return self.documents is not None and self.documents.low > 0

    @property
    def is_worse(self) -> bool:
        """Whether the subject is worse on others like them too: the interval over repositories lies above 0 too."""
        return self.is_worse_here and self.clustered is not None and self.clustered.low > 0

    @property
    def has_few_repositories(self) -> bool:
        """Whether the repositories are too few for an interval over them."""
        return self.clustered is None


class Line(Frozen):
    """The figures of all models on one group of documents."""

    name: str
    num_documents: int
    num_cases: int
    """Documents with near-copies counted once: what intervals are made from."""

    num_repositories: int
    num_bytes: int
    figures: list[Figure]
    """One per model, in the order of the models."""

    changes: list[Change]
    """One per reference, in the order of the models."""


class Comparison(Frozen):
    """The overall line, and the lines by each property of the documents."""

    overall: Line
    by: dict[str, list[Line]]
    """Lines by repository, language, kind, stratum, freshness and length; a property unknown for all is left out."""

    same_tokens: bool
    """Whether all models have the same number of tokens in each document; if not, only bits per byte are comparable."""


def align_scores(scores: Scores) -> dict[str, list[DocumentScore]]:
    """Sort each model's scores by document, so that the same index means the same document in all of them.

    Raises:
        EvaluationError: if the models were not measured on the same documents and texts, or on none, or one scored a
            document twice.
    """
    ordered = {model: sorted(model_scores, key=lambda score: score.sort_key) for model, model_scores in scores.items()}
    first, *others = ordered
    for model in ordered:
        if not ordered[model]:
            raise EvaluationError(f"{model}: was measured on no documents. Hold out some, then measure it again.")
        _check_once(model, ordered[model])
    for model in others:
        texts = [{(*score.sort_key, score.num_bytes) for score in ordered[name]} for name in (first, model)]
        if texts[0] != texts[1]:
            role, _, url, path, start, num_bytes = min(texts[0] ^ texts[1])
            raise EvaluationError(
                f"{first} and {model} were not measured on the same documents: only one of them has {url} {path}, "
                f"byte {start}, {num_bytes} bytes ({role}). Measure both again on the same documents."
            )
    return ordered


def compare(scores: Scores, *, role: str = HELDOUT, replicates: int = REPLICATES, seed: int = 0) -> Comparison | None:
    """Compare the models on the documents with one role; returns None if there are no such documents.

    Args:
        scores: The result of `align_scores`; the last model is the subject.
    """
    chosen = {model: [score for score in model_scores if score.role == role] for model, model_scores in scores.items()}
    first = next(iter(chosen.values()))
    if not first:
        return None
    # the rows of each line; the overall line has all of them
    groups = [("", "overall", list(range(len(first))))]
    for title, name_of in _properties(repository_names(scores)).items():
        groups += [(title, name, rows) for name, rows in _group_rows(first, name_of).items()]
    by: dict[str, list[Line]] = defaultdict(list)
    for title, name, rows in track(groups, what=f"comparing {role}", total=len(groups)):
        group_scores = {model: [model_scores[row] for row in rows] for model, model_scores in chosen.items()}
        by[title].append(_make_line(name, group_scores, replicates, seed))
    (overall,) = by.pop("")
    counts = {tuple(score.num_tokens for score in model_scores) for model_scores in chosen.values()}
    return Comparison(overall=overall, by=dict(by), same_tokens=len(counts) == 1)


def repository_names(scores: Scores) -> dict[str, str]:
    """URL → the name that a report shows for it: its repository's name, with the host if two repositories share it."""
    return distinct_names({score.url: score.repository for model_scores in scores.values() for score in model_scores})


def stack_nats(scores: Scores) -> np.ndarray:
    """Return (documents, models + references): each model's nats, then the subject's minus each reference's.

    With models [a, b, subject] the columns are a, b, subject, subject - a, subject - b.
    """
    nats = np.array([[score.nats for score in model_scores] for model_scores in scores.values()]).T
    return np.column_stack([nats, nats[:, -1:] - nats[:, :-1]])


def _check_once(model: str, ordered: Sequence[DocumentScore]) -> None:
    for score, following in itertools.pairwise(ordered):
        if score.sort_key == following.sort_key:
            raise EvaluationError(
                f"{model}: {score.repository} {score.path} was scored twice. Measure the model again."
            )


def _properties(names: Mapping[str, str]) -> dict[str, Callable[[DocumentScore], str]]:
    """The properties to group documents by: title → the name of a document's group.

    Args:
        names: The result of `repository_names`.
    """
    return {
        "repository": lambda score: names[score.url],
        "language": lambda score: score.language,
        "kind": lambda score: score.kind,
        "stratum": lambda score: score.stratum or "unknown",
        "freshness": lambda score: score.freshness or "unknown",
        "length": _length,
    }


def _length(score: DocumentScore) -> str:
    """The document's size class in bytes, the same for all tokenizers; each limit is 4 times the one before."""
    return _SIZES[min(max(0, (score.num_bytes.bit_length() - 7) // 2), len(_SIZES) - 1)]


def _group_rows(scores: Sequence[DocumentScore], name_of: Callable[[DocumentScore], str]) -> dict[str, list[int]]:
    """Rows by name, with lengths from short to long and others by name; empty if the property is unknown for all."""
    groups = defaultdict(list)
    for row, score in enumerate(scores):
        groups[name_of(score)].append(row)
    if set(groups) == {"unknown"}:
        return {}
    return {
        name: groups[name] for name in sorted(groups, key=lambda name: (name in _SIZES and _SIZES.index(name), name))
    }


def _make_line(name: str, scores: Scores, replicates: int, seed: int) -> Line:
    # near-copies as one case; one column for each column of `stack_nats`
    models = list(scores)
    first = next(iter(scores.values()))
    repositories = [(score.repository, score.url) for score in first]
    num_bytes = np.array([score.num_bytes for score in first])
    whole = Cases(stack_nats(scores), num_bytes, repositories, [score.sort_key for score in first])
    cases = merge_near_copies(whole, [score.near_copies for score in first])
    # Intervals over documents, and over repositories: the figures of these are of all their documents, as elsewhere in
    # the report, but one that holds nothing but near-copies of others does not count.
    by_repository = repository_figures(whole, of=set(cases.repositories))
    documents: list[Interval] | None = None
    if len(cases.keys) >= MIN_DOCUMENTS:
        spread = bits_per_byte_replicates(*cases, replicates=replicates, seed=seed)
        documents = [percentile_interval(column, cases=len(cases.keys)) for column in spread.T]
    # the figures of each model
    totals = {model: total_loss(model_scores) for model, model_scores in scores.items()}
    figures = [
        Figure(
            model=model,
            num_tokens=total.num_tokens,
            perplexity=total.perplexity,
            bits_per_byte=total.bits_per_byte,
            interval=documents[index] if documents else None,
            document_bits_per_byte=math.fsum(score.loss.bits_per_byte for score in scores[model]) / len(first),
            top1_accuracy=total.top1_accuracy,
            top5_accuracy=total.top5_accuracy,
        )
        for index, (model, total) in enumerate(totals.items())
    ]
    # the change from each reference to the subject; its columns come after the models'
    changes = [
        Change(
            reference=reference,
            subject=models[-1],
            difference=totals[models[-1]].bits_per_byte - totals[reference].bits_per_byte,
            documents=documents[len(models) + index] if documents else None,
            num_repositories=len(by_repository),
            repository_mean=float(by_repository[:, len(models) + index].mean()),
            clustered=mean_interval(by_repository[:, len(models) + index]) if documents else None,
        )
        for index, reference in enumerate(models[:-1])
    ]
    return Line(
        name=name,
        num_documents=len(first),
        num_cases=len(cases.keys),
        num_repositories=len(set(repositories)),
        num_bytes=sum(score.num_bytes for score in first),
        figures=figures,
        changes=changes,
    )
