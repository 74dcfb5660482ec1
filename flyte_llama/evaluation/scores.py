"""The scores of a model: one row per document with its sums of nats, from which every figure can be recomputed.

Sums are added up and divided once, at the end. The table also stores the nats of each single token; `read_scores`
leaves them out. How a document is scored is in `scoring`, the figures of a report are in `comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.documents import DocumentId
from flyte_llama.errors import DataError, EvaluationError
from flyte_llama.storage import check_columns, read_table, seal, verify, write_unsealed_table

TABLE = "scores.parquet"
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("role", "repository", "url", "path"), pa.string()),
        "start": pa.int64(),
        **dict.fromkeys(("language", "kind", "stratum", "freshness"), pa.string()),
        **dict.fromkeys(("num_bytes", "num_tokens"), pa.int64()),
        "near_copies": pa.int64(),
        "nats": pa.float64(),
        **dict.fromkeys(("top1", "top5"), pa.int64()),
        "position_nats": pa.list_(pa.float64()),
        "position_tokens": pa.list_(pa.int64()),
        "token_nats": pa.list_(pa.float32()),
    }
)
"""The fields of `DocumentScore`, and `token_nats`: -ln p of each scored token, so every sum can be recomputed."""

ORDER = ("role", "repository", "url", "path", "start")
"""Columns by which scores are sorted. Bootstrap draws follow this order, so another order gives other intervals."""


@dataclass(frozen=True)
class Loss:
    """The loss of a set of tokens, as sums that can be added."""

    nats: float
    num_tokens: int
    """Scored tokens."""

    num_bytes: int
    """UTF-8 bytes of the text that these tokens encode."""

    num_documents: int
    top1: int = 0
    """Scored tokens that the model ranked first."""

    top5: int = 0
    """Scored tokens that the model ranked among its first five."""

    def __add__(self, other: Loss) -> Loss:
        return Loss(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def perplexity(self) -> float:
        """exp(nats / tokens); comparable only between models with the same tokenizer."""
        try:
            return math.exp(self.nats / self.num_tokens)
        except OverflowError:
            return math.inf

    @property
    def bits_per_byte(self) -> float:
        """nats / (ln 2 · bytes).

        Comparable between models with different tokenizers: a tokenizer that makes fewer, longer tokens raises the loss
        per token, but the bytes stay the same.
        """
        return self.nats / (math.log(2) * self.num_bytes)

    @property
    def top1_accuracy(self) -> float:
        return self.top1 / self.num_tokens

    @property
    def top5_accuracy(self) -> float:
        return self.top5 / self.num_tokens


NO_LOSS = Loss(0.0, 0, 0, 0)


@dataclass(frozen=True)
class DocumentScore:
    """One document's row in the table of scores."""

    role: str
    """`heldout`, `train` (to check for memorisation) or `general` (code unlike the corpus)."""

    repository: str
    """The name shown to people. Repositories on two hosts may share it, so look documents up by `document`."""

    url: str
    path: str
    start: int
    """Byte offset in the file at which the text starts."""

    language: str
    kind: str
    stratum: str
    """How much of a held-out document, or of general code, also occurs in train: clean, partial or contaminated; empty
    if unknown."""

    freshness: str
    """Whether a held-out document is newer than the base model: fresh, not fresh or unknown."""

    num_bytes: int
    num_tokens: int
    nats: float
    top1: int
    top5: int
    position_nats: tuple[float, ...]
    """Nats by position: entry k sums the scored tokens 2**k - 1 to 2**(k+1) - 2, counted from 0."""

    position_tokens: tuple[int, ...]
    """Number of scored tokens in each entry of `position_nats`."""

    near_copies: int = -1
    """Documents with the same number are near-copies of one another, and count once in intervals; -1 if unknown."""

    @property
    def document(self) -> DocumentId:
        return DocumentId(self.url, self.path, self.start)

    @property
    def sort_key(self) -> tuple[str, str, str, str, int]:
        """The values of `ORDER`; unique in a suite, and the same for all models."""
        return self.role, self.repository, *self.document

    @property
    def loss(self) -> Loss:
        """The sums alone, ready to be added to others."""
        return Loss(self.nats, self.num_tokens, self.num_bytes, 1, self.top1, self.top5)


def total_loss(scores: Iterable[DocumentScore]) -> Loss:
    """Return the sums over all documents; their order has no effect."""
    scores = list(scores)
    counts = sum((score.loss for score in scores), NO_LOSS)
    # Adding floats one by one depends on their order; fsum rounds only once.
    return replace(counts, nats=math.fsum(score.nats for score in scores))


class ScoresWriter:
    """Context manager that writes `scores.parquet` batch by batch, and seals the folder if no error occurred."""

    def __init__(self, folder: Path, **facts: Any) -> None:
        """Create the folder.

        Args:
            facts: Stored in the manifest: how the scores were measured.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._facts, self._rows = folder, facts, 0

    def __enter__(self) -> ScoresWriter:
        self._writer = pq.ParquetWriter(self._folder / TABLE, SCHEMA, compression="zstd")
        return self

    def write(self, scores: Sequence[DocumentScore], token_nats: Sequence[np.ndarray | None]) -> None:
        """Append documents, each with its tokens' nats as the model gave them (float32), or None if unknown."""
        if scores:
            rows = [{**asdict(score), "token_nats": nats} for score, nats in zip(scores, token_nats, strict=True)]
            self._writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            self._rows += len(rows)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._writer.close()
        if error is None:
            seal(self._folder, {TABLE: self._rows}, **self._facts)


def write_scores(folder: Path, scores: Sequence[DocumentScore], **facts: Any) -> None:
    """Write scores without the nats of single tokens to a sealed folder; `facts` as in `ScoresWriter`."""
    with ScoresWriter(folder, **facts) as writer:
        writer.write(scores, [None] * len(scores))


def read_scores(folder: Path) -> tuple[list[DocumentScore], dict[str, Any]]:
    """Return the scores in a sealed folder, without the nats of single tokens, and the folder's manifest.

    Raises:
        DataError: if the folder is unfinished or damaged, or an earlier version wrote it.
    """
    rows, manifest = read_table(folder, TABLE, [field.name for field in fields(DocumentScore)])
    for row in rows:
        row["position_nats"], row["position_tokens"] = tuple(row["position_nats"]), tuple(row["position_tokens"])
    return [DocumentScore(**row) for row in rows], manifest


def measured_model(folder: Path, manifest: dict[str, Any] | None = None) -> str:
    """Return which model the scores in a sealed folder were measured on, as `model.model_identity` names it.

    Args:
        manifest: The folder's manifest, if it is verified already.

    Raises:
        DataError: if the folder is unfinished or damaged, or an earlier version wrote it.
    """
    identity = (manifest or verify(folder)).get("model_identity")
    if not isinstance(identity, str):
        raise DataError(
            f"{folder}: does not say which model was measured, so an earlier version of Flyte Llama wrote it. "
            "Measure again."
        )
    return identity


def join_scores(parts: Sequence[Path], folder: Path) -> None:
    """Join the scores of all shards into one sealed folder, in the order of `ORDER`.

    Raises:
        DataError: if a part is damaged, or an earlier version wrote it.
        EvaluationError: if the parts are of different models, or were measured with different settings.
    """
    # The file list differs between parts by nature; everything else must be equal.
    manifests = [{**verify(part), "files": None} for part in parts]
    names = sorted({name for manifest in manifests for name in manifest})
    differing = [name for name in names if any(each.get(name) != manifests[0].get(name) for each in manifests)]
    if differing:
        raise EvaluationError(
            f"{parts[0].name}: the shards were measured with different {', '.join(differing)}. Measure all of them "
            "again."
        )
    for part in parts:
        check_columns(part / TABLE, SCHEMA.names)
    table = pa.concat_tables([pq.read_table(part / TABLE) for part in parts])
    table = table.sort_by([(name, "ascending") for name in ORDER])
    facts = {name: fact for name, fact in manifests[0].items() if name != "files"}
    seal(folder, {TABLE: write_unsealed_table(folder, TABLE, table)}, **facts)
