"""Sums of nats: one a document, added up and divided once, at the end; stored so that every figure regenerates."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.manifest import seal, verify

TABLE = "scores.parquet"


@dataclass(frozen=True)
class Loss:
    """What a set of tokens cost, as sums."""

    nats: float
    num_tokens: int
    """Scored tokens."""

    num_bytes: int
    """UTF-8 bytes of the text that the tokens encode."""

    num_documents: int

    def __add__(self, other: Loss) -> Loss:
        return Loss(
            self.nats + other.nats,
            self.num_tokens + other.num_tokens,
            self.num_bytes + other.num_bytes,
            self.num_documents + other.num_documents,
        )

    @property
    def perplexity(self) -> float:
        """exp(nats / tokens); depends on the tokenizer."""
        try:
            return math.exp(self.nats / self.num_tokens)
        except OverflowError:
            return math.inf

    @property
    def bits_per_byte(self) -> float:
        """nats / (ln 2 · bytes); compares models with different tokenizers."""
        return self.nats / (math.log(2) * self.num_bytes)


NO_LOSS = Loss(0.0, 0, 0, 0)


@dataclass(frozen=True)
class DocumentLoss:
    """One held-out document's row of the table of scores."""

    repository: str
    path: str
    language: str
    kind: str
    num_bytes: int
    num_tokens: int
    nats: float

    @property
    def loss(self) -> Loss:
        return Loss(self.nats, self.num_tokens, self.num_bytes, 1)


@dataclass(frozen=True)
class Breakdown:
    overall: Loss
    by_repository: dict[str, Loss]
    by_language: dict[str, Loss]


def breakdown(scores: Iterable[DocumentLoss]) -> Breakdown:
    """Sums over all documents, by repository and by language, keys in order."""
    scores = list(scores)
    return Breakdown(
        overall=_total(scores),
        by_repository=_grouped(scores, lambda score: score.repository),
        by_language=_grouped(scores, lambda score: score.language),
    )


def write_scores(folder: Path, scores: list[DocumentLoss], **facts: Any) -> None:
    """Write one Parquet row a document and seal the folder; `facts` state the protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([asdict(score) for score in scores]), folder / TABLE)
    seal(folder, {TABLE: len(scores)}, **facts)


def read_scores(folder: Path) -> tuple[list[DocumentLoss], dict[str, Any]]:
    """The scores of a sealed folder and its manifest.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    manifest = verify(folder)
    return [DocumentLoss(**row) for row in pq.read_table(folder / TABLE).to_pylist()], manifest


def _total(scores: Iterable[DocumentLoss]) -> Loss:
    # fsum rounds once, so the order of documents does not move the sum.
    scores = list(scores)
    counts = sum((score.loss for score in scores), NO_LOSS)
    return Loss(math.fsum(score.nats for score in scores), counts.num_tokens, counts.num_bytes, counts.num_documents)


def _grouped(scores: list[DocumentLoss], key: Callable[[DocumentLoss], str]) -> dict[str, Loss]:
    groups = defaultdict(list)
    for score in scores:
        groups[key(score)].append(score)
    return {name: _total(groups[name]) for name in sorted(groups)}
