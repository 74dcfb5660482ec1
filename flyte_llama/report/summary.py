"""The typed report: every figure once, of one to three models on the same text."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from flyte_llama.corpus import CorpusCard
from flyte_llama.evaluation import Change, Comparison, Histogram, Line, Memorisation, Positions
from flyte_llama.model import PinnedModel
from flyte_llama.report.samples import Sample
from flyte_llama.report.written import CompletionSummary, FlyteEvalSummary
from flyte_llama.training import TrainingSummary


class Protocol(BaseModel):
    """How the figures were measured; without it they mean nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: str
    """`perplexity`, or `pseudo-perplexity` of an encoder."""

    window: int
    stride: int
    precision: str


class ReportedModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """As the report calls it: base, published, fine-tuned."""

    identity: PinnedModel
    tokenizer_sha256: str
    start: str
    """What a document's first token is predicted from: `bos`, or `eos` of a model without."""


class EvaluationReport(BaseModel):
    """What came out, and from which inputs."""

    # A broken model's perplexity may be infinite, which JSON has no number for.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    models: list[ReportedModel]
    """One to three: the references first, the base before all, and the model that the report is about last."""

    protocol: Protocol
    heldout: Comparison
    general: Comparison | None
    """Code that is not of the corpus's kind, for what was forgotten; None if not measured."""

    memorisation: Memorisation | None
    """None if train text was not measured, or is unlike the held-out text."""

    positions: list[Positions]
    histogram: Histogram
    completions: list[CompletionSummary]
    flyte_eval: list[FlyteEvalSummary]
    samples: list[Sample]
    corpus: CorpusCard | None
    training: TrainingSummary | None

    @property
    def overall(self) -> Line:
        return self.heldout.overall

    @property
    def same_tokens(self) -> bool:
        """Whether perplexities of the models compare."""
        return self.heldout.same_tokens and len({model.tokenizer_sha256 for model in self.models}) == 1

    @property
    def change(self) -> Change | None:
        """From the base; None of a model alone."""
        return self.overall.changes[0] if self.overall.changes else None

    @property
    def change_from_published(self) -> Change | None:
        return self.overall.changes[1] if len(self.overall.changes) > 1 else None

    @property
    def is_better(self) -> bool:
        """Whether the model needs fewer bits for the held-out text than its base, told apart from chance."""
        return self.change is not None and needs_fewer_bits(self.change)

    @property
    def beats_published(self) -> bool | None:
        """The same against the published model; None where none was measured."""
        change = self.change_from_published
        return None if change is None else needs_fewer_bits(change)

    @property
    def forgotten(self) -> float | None:
        """Bits per byte of general code that the model needs more than its base; below 0 if fewer."""
        return self.general.overall.changes[0].difference if self.general and self.general.overall.changes else None

    def __repr__(self) -> str:
        """Short: `pyflyte run` prints it."""
        figures = self.overall.figures
        perplexities = " → ".join(f"{figure.perplexity:.2f}" for figure in figures)
        bits = " → ".join(f"{figure.bits_per_byte:.3f}" for figure in figures)
        return f"EvaluationReport({self.protocol.measure} {perplexities}, bits per byte {bits})"


def needs_fewer_bits(change: Change) -> bool:
    """Whether the 95 % interval, documents resampled, lies below 0."""
    return change.documents is not None and change.documents.high < 0


def needs_more_bits(change: Change) -> bool:
    return change.documents is not None and change.documents.low > 0
