"""The training objective: one kind, or a mixture of several."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from flyte_llama.config.stage import MAX_SEED, StageConfig

Kind = Literal["clm", "fim", "causal_masked", "mlm"]


class ObjectiveConfig(StageConfig):
    """The training objective and its parameters."""

    kind: Literal["clm", "fim", "causal_masked", "mlm", "mixture"] = "clm"
    """`clm`: causal language modelling, the next token of a document. `fim`: fill-in-the-middle (Bavarian et al.,
    arXiv 2207.14255; Code Llama). `causal_masked`: spans moved to the end (CM3, arXiv 2201.07520). `mlm`: masked
    next-token prediction (LLM2Vec, arXiv 2404.05961), which makes an encoder. `mixture`: one of these per document.
    """

    mixture: dict[Kind, float] = Field(default_factory=dict)
    """kind → weight, used only if `kind` is `mixture`: a document gets a kind with a probability proportional to its
    weight."""

    rate: float = Field(0.9, ge=0, le=1, allow_inf_nan=False)
    """fim: share of documents to rewrite; the others stay plain causal language modelling. Code Llama used 0.9."""

    psm_share: float = Field(0.5, ge=0, le=1, allow_inf_nan=False)
    """fim: share of rewritten documents in the order prefix, suffix, middle; the rest are suffix, prefix, middle."""

    line_share: float = Field(0.5, ge=0, le=1, allow_inf_nan=False)
    """fim: share of rewritten documents whose middle is one or a few whole lines; the others are cut at random
    characters. Code Llama cut all of them at random characters."""

    short_infills: int = Field(8000, ge=0, le=1_000_000)
    """fim: short infillings that a run reads before its first epoch, if the base's infill tokens are new: without them
    it hardly learns to look back over a suffix. They take at most half of the rows that a run reads. 0: none."""

    mean_spans: float = Field(1.0, gt=0, le=100, allow_inf_nan=False)
    """causal_masked: mean of the Poisson distribution for the number of spans in a document, which is at least 1."""

    max_spans: int = Field(16, ge=1, le=10_000)
    """causal_masked: maximum number of spans in a document, and so of sentinel tokens in the vocabulary."""

    mask_share: float = Field(0.2, gt=0, lt=1, allow_inf_nan=False)
    """mlm: share of a document's tokens that are masked and predicted."""

    new_token_lr_scale: float = Field(1.0, gt=0, le=1_000, allow_inf_nan=False)
    """Learning rate of the embedding rows of control tokens that the base lacks, as a multiple of
    `training.learning_rate`. For adapters whose optimizer is not offloaded: `full` learns the whole table at one rate.
    """

    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seed of every random choice. A document's result depends only on this seed, the document and the epoch."""

    @model_validator(mode="after")
    def _weights(self) -> ObjectiveConfig:
        if self.kind == "mixture" and not any(weight > 0 for weight in self.mixture.values()):
            raise ValueError("a mixture needs weights, such as mixture: {clm: 1, fim: 3}")
        if not all(0 <= weight <= 1_000_000 for weight in self.mixture.values()):
            raise ValueError("the weights of a mixture must be finite numbers of at least 0 and at most 1,000,000")
        return self

    @property
    def kinds(self) -> list[Kind]:
        """The kinds in use, in alphabetical order."""
        if self.kind != "mixture":
            return [self.kind]
        return sorted(kind for kind, weight in self.mixture.items() if weight > 0)

    @property
    def makes_encoder(self) -> bool:
        """Whether training makes an encoder, which can no longer continue text."""
        return self.kinds == ["mlm"]

    @property
    def is_random(self) -> bool:
        """Whether a document is encoded differently in each epoch."""
        return self.kinds != ["clm"]
