"""Sums of nats: one a document, added up and divided once, at the end; stored so that every figure regenerates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.errors import EvaluationError
from flyte_llama.manifest import seal, verify

TABLE = "scores.parquet"
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("role", "repository", "path"), pa.string()),
        "start": pa.int64(),
        **dict.fromkeys(("language", "kind", "stratum", "freshness"), pa.string()),
        **dict.fromkeys(("num_bytes", "num_tokens"), pa.int64()),
        "nats": pa.float64(),
        **dict.fromkeys(("top1", "top5"), pa.int64()),
        "position_nats": pa.list_(pa.float64()),
        "position_tokens": pa.list_(pa.int64()),
        "token_nats": pa.list_(pa.float32()),
    }
)
"""Beside a document's own columns `token_nats`, -ln p of each scored token, of which every sum can be made again."""


@dataclass(frozen=True)
class Loss:
    """What a set of tokens cost, as sums."""

    nats: float
    num_tokens: int
    """Scored tokens."""

    num_bytes: int
    """UTF-8 bytes of the text that the tokens encode."""

    num_documents: int
    top1: int = 0
    """Scored tokens that the model held for the likeliest."""

    top5: int = 0
    """Scored tokens among the five likeliest."""

    def __add__(self, other: Loss) -> Loss:
        return Loss(*(own + others for own, others in zip(astuple(self), astuple(other), strict=True)))

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

    @property
    def top1_accuracy(self) -> float:
        return self.top1 / self.num_tokens

    @property
    def top5_accuracy(self) -> float:
        return self.top5 / self.num_tokens


NO_LOSS = Loss(0.0, 0, 0, 0)


@dataclass(frozen=True)
class DocumentLoss:
    """One document's row of the table of scores."""

    role: str
    """`heldout`; `train`, the memorisation probe; `general`, code that is not the corpus's kind."""

    repository: str
    path: str
    start: int
    """Byte of the file at which the text begins."""

    language: str
    kind: str
    stratum: str
    """How far a held-out document stood in train: clean, partial, contaminated; empty if unknown."""

    freshness: str
    """Whether it is younger than the base model: fresh, not fresh, unknown."""

    num_bytes: int
    num_tokens: int
    nats: float
    top1: int
    top5: int
    position_nats: tuple[float, ...]
    """By position in the document: entry k is of its scored tokens 2**k - 1 to 2**(k+1) - 2, counted from 0."""

    position_tokens: tuple[int, ...]

    @property
    def loss(self) -> Loss:
        return Loss(self.nats, self.num_tokens, self.num_bytes, 1, self.top1, self.top5)


def total_loss(scores: Iterable[DocumentLoss]) -> Loss:
    """The sums over all documents; their order does not move them."""
    scores = list(scores)
    counts = sum((score.loss for score in scores), NO_LOSS)
    # fsum rounds once.
    return replace(counts, nats=math.fsum(score.nats for score in scores))


class ScoresWriter:
    """Writes `scores.parquet` row by row, and seals the folder when it is left without an error."""

    def __init__(self, folder: Path, **facts: Any) -> None:
        """`facts` state the protocol."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._facts, self._rows = folder, facts, 0

    def __enter__(self) -> ScoresWriter:
        self._writer = pq.ParquetWriter(self._folder / TABLE, SCHEMA, compression="zstd")
        return self

    def write(self, scores: Sequence[DocumentLoss], token_nats: Sequence[np.ndarray | None]) -> None:
        """Some documents, with the nats of each scored token as they came from the model, float32."""
        if scores:
            rows = [{**asdict(score), "token_nats": nats} for score, nats in zip(scores, token_nats, strict=True)]
            self._writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            self._rows += len(rows)

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        self._writer.close()
        if failed is None:
            seal(self._folder, {TABLE: self._rows}, **self._facts)


def write_scores(folder: Path, scores: Sequence[DocumentLoss], **facts: Any) -> None:
    """Scores of which the tokens' own nats are not known, as a sealed folder."""
    with ScoresWriter(folder, **facts) as writer:
        writer.write(scores, [None] * len(scores))


def read_scores(folder: Path) -> tuple[list[DocumentLoss], dict[str, Any]]:
    """The scores of a sealed folder, without the tokens' own nats, and its manifest.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    manifest = verify(folder)
    names = [field.name for field in fields(DocumentLoss)]
    columns = [column.to_pylist() for column in pq.read_table(folder / TABLE, columns=names).columns]
    for name in ("position_nats", "position_tokens"):
        columns[names.index(name)] = [tuple(values) for values in columns[names.index(name)]]
    return [DocumentLoss(*row) for row in zip(*columns, strict=True)], manifest


def join_scores(parts: Sequence[Path], folder: Path) -> None:
    """The scores of all shards as one sealed folder, ordered by role, repository, path and start.

    Raises:
        DataError: if a part is damaged.
        EvaluationError: if the parts were not measured alike.
    """
    manifests = [{**verify(part), "files": None} for part in parts]
    if any(manifest != manifests[0] for manifest in manifests):
        raise EvaluationError(f"{parts[0].name}: the shards were not measured alike. Evaluate them anew.")
    table = pa.concat_tables([pq.read_table(part / TABLE) for part in parts])
    table = table.sort_by([(name, "ascending") for name in ("role", "repository", "path", "start")])
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / TABLE, compression="zstd")
    seal(folder, {TABLE: table.num_rows}, **{name: fact for name, fact in manifests[0].items() if name != "files"})
