"""The typed report of one to three models measured on the same text. It holds every figure once.

`measurements.make_report` makes it. The report has figures and samples, but no prose: `sentences`, `tables`, `plots`
and `dots` turn its figures into text and pictures.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from flyte_llama.config import Frozen, HeldOutPart
from flyte_llama.corpus import CorpusCard
from flyte_llama.evaluation import Change, ComparableText, Comparison, Line, Memorisation
from flyte_llama.model import PinnedModel
from flyte_llama.report.ladder import ItemLevels
from flyte_llama.report.pairs import WrittenChange
from flyte_llama.report.plots import Histogram, PositionLosses
from flyte_llama.report.provenance import Provenance
from flyte_llama.report.samples import Sample
from flyte_llama.report.writing import CompletionSummary, FlyteEvalSummary
from flyte_llama.training import TrainingSummary


class Protocol(Frozen):
    """How the figures were measured. All models of a report must share it, or their figures do not compare."""

    measure: str
    """`perplexity`, or `pseudo-perplexity` for an encoder."""

    window: int
    stride: int
    precision: str


class ReportedModel(Frozen):
    """A model as the report names it, and its tokenizer."""

    name: str
    """`base`, `published` or `fine-tuned`; in a report of `flyte-llama evaluate`, its model is `evaluated`."""

    identity: PinnedModel
    tokenizer_sha256: str
    start: str
    """The token that precedes a document's first token: `bos`, or `eos` if the tokenizer has no bos."""


class Unchanged(Frozen):
    """A run that made nothing: every result came from the cache."""

    since: datetime
    """When the newest of the results was made."""

    num_results: int
    """Folders that cached tasks returned: documents, corpus, rows, model, scores and so on."""


class EvaluationReport(Frozen):
    """All figures of an evaluation, the samples, and the corpus and training run they belong to."""

    models: list[ReportedModel]
    """One to three: the base, the published model if there is one, and last the model that the report is about."""

    protocol: Protocol
    heldout: Comparison
    general: Comparison | None
    """General code, unlike the corpus; None if not measured. Its lines by stratum tell how much of it is in train."""

    memorisation: Memorisation | None
    """None if there is too little text that can be compared."""

    comparable: ComparableText
    """The train and held-out text that can be compared to check for memorisation."""

    positions: list[PositionLosses]
    histogram: Histogram
    completions: list[CompletionSummary]
    flyte_eval: list[FlyteEvalSummary]
    flyte_eval_levels: list[ItemLevels] = Field(default_factory=list)
    """The items one by one."""

    flyte_eval_reason: str = ""
    """Why FlyteEval has no items, as a sentence; empty if it has some, or was not asked for."""

    written_changes: list[WrittenChange]
    """How completions and FlyteEval changed from each reference, on the same cases."""

    left_out: list[str]
    """Sentences on completions and answers that were not measured on all models, so they are not compared."""

    samples: list[Sample]
    corpus: CorpusCard | None
    parts: list[HeldOutPart] = Field([])
    """Held-out parts of repositories that train has other files of; the figures then say nothing about others."""

    training: TrainingSummary | None
    provenance: Provenance | None = None
    """None if that is not known."""

    unchanged: Unchanged | None = None
    """None if the run made some of its results, or that is not known."""

    @property
    def overall(self) -> Line:
        """All held-out text together."""
        return self.heldout.overall

    @property
    def same_tokens(self) -> bool:
        """Whether the models split text into the same tokens, so that their perplexities compare."""
        return self.heldout.same_tokens and len({model.tokenizer_sha256 for model in self.models}) == 1

    @property
    def change(self) -> Change | None:
        """The change from the base; None if the report has one model."""
        return self.overall.changes[0] if self.overall.changes else None

    @property
    def change_from_published(self) -> Change | None:
        """The change from the published model; None if none was measured."""
        return self.overall.changes[1] if len(self.overall.changes) > 1 else None

    @property
    def is_better(self) -> bool:
        """Whether the model is better than its base, on other repositories than the held-out ones too."""
        return self.change is not None and self.change.is_better and not self.parts

    @property
    def beats_published(self) -> bool | None:
        """Whether it is better than the published model in the same way; None if none was measured."""
        change = self.change_from_published
        return None if change is None else change.is_better and not self.parts

    @property
    def general_clean(self) -> Line | None:
        """The general code that shares no text with train; None if there is none, or it was not compared with train."""
        strata = self.general.by.get("stratum", []) if self.general else []
        return next((line for line in strata if line.name == "clean"), None)

    @property
    def general_change(self) -> Change | None:
        """The change from the base on `general_clean`; None without such code, or without a base."""
        return self.general_clean.changes[0] if self.general_clean and self.general_clean.changes else None

    @property
    def forgotten(self) -> float | None:
        """Additional bits per byte that the model needs for `general_clean`; negative if fewer than its base."""
        return None if self.general_change is None else self.general_change.difference

    def __repr__(self) -> str:
        """One line, since `pyflyte run` prints the report."""
        figures = self.overall.figures
        perplexities = " → ".join(f"{figure.perplexity:.2f}" for figure in figures)
        bits = " → ".join(f"{figure.bits_per_byte:.3f}" for figure in figures)
        return f"EvaluationReport({self.protocol.measure} {perplexities}, bits per byte {bits})"
