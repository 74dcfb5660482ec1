"""The typed report: every figure once, base beside fine-tuned, on the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from flyte_llama.corpus import CorpusCard
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation import Loss, breakdown, read_scores
from flyte_llama.model import PinnedModel
from flyte_llama.training import TrainingSummary


class Line(BaseModel):
    """Base and fine-tuned on one set of held-out documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    num_documents: int
    num_bytes: int
    num_tokens: int
    base_perplexity: float
    tuned_perplexity: float
    base_bits_per_byte: float
    tuned_bits_per_byte: float


class Protocol(BaseModel):
    """How the figures were measured; without it they mean nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: str
    """`perplexity`, or `pseudo-perplexity` of an encoder."""

    window: int
    stride: int
    precision: str
    start: str
    """What a document's first token is predicted from: `bos` or `eos`."""

    tokenizer_sha256: str


class EvaluationReport(BaseModel):
    """What came out, and from which inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overall: Line
    by_repository: list[Line]
    by_language: list[Line]
    protocol: Protocol
    base: PinnedModel
    corpus: CorpusCard
    training: TrainingSummary

    @property
    def is_better(self) -> bool:
        """Whether the fine-tuned model needs fewer bits for the held-out text than its base."""
        return self.overall.tuned_bits_per_byte < self.overall.base_bits_per_byte

    def __repr__(self) -> str:
        """Short: `pyflyte run` prints it."""
        line = self.overall
        return (
            f"EvaluationReport({self.protocol.measure} {line.base_perplexity:.2f} → {line.tuned_perplexity:.2f}, "
            f"bits per byte {line.base_bits_per_byte:.3f} → {line.tuned_bits_per_byte:.3f})"
        )


def summarise(
    base_scores: Path, tuned_scores: Path, *, base: PinnedModel, corpus: CorpusCard, training: TrainingSummary
) -> EvaluationReport:
    """The report of two folders of scores.

    Raises:
        DataError: if a folder is damaged.
        EvaluationError: if the two were not measured alike on the same documents and tokens.
    """
    before, before_manifest = read_scores(base_scores)
    after, after_manifest = read_scores(tuned_scores)
    protocols = [_protocol(manifest) for manifest in (before_manifest, after_manifest)]
    if protocols[0] != protocols[1]:
        raise EvaluationError(f"base and fine-tuned were measured differently: {protocols[0]} and {protocols[1]}.")
    if [(s.repository, s.path, s.num_tokens) for s in before] != [(s.repository, s.path, s.num_tokens) for s in after]:
        raise EvaluationError("base and fine-tuned were not measured on the same tokens. Evaluate both anew.")
    old, new = breakdown(before), breakdown(after)
    return EvaluationReport(
        overall=_line("overall", old.overall, new.overall),
        by_repository=[_line(name, old.by_repository[name], loss) for name, loss in new.by_repository.items()],
        by_language=[_line(name, old.by_language[name], loss) for name, loss in new.by_language.items()],
        protocol=protocols[0],
        base=base,
        corpus=corpus,
        training=training,
    )


def _protocol(manifest: dict[str, Any]) -> Protocol:
    return Protocol(**{name: manifest[name] for name in Protocol.model_fields})


def _line(name: str, base: Loss, tuned: Loss) -> Line:
    return Line(
        name=name,
        num_documents=tuned.num_documents,
        num_bytes=tuned.num_bytes,
        num_tokens=tuned.num_tokens,
        base_perplexity=base.perplexity,
        tuned_perplexity=tuned.perplexity,
        base_bits_per_byte=base.bits_per_byte,
        tuned_bits_per_byte=tuned.bits_per_byte,
    )
