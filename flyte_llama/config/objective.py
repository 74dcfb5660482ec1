"""What the model is asked to do with a document: the objective, and its shares."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from flyte_llama.config.stage import StageConfig

Kind = Literal["clm", "fim", "causal_masked", "mlm"]


class ObjectiveConfig(StageConfig):
    kind: Literal["clm", "fim", "causal_masked", "mlm", "mixture"] = "clm"
    """`clm`: causal language modelling, the next token of a document. `fim`: fill-in-the-middle (Bavarian et al.,
    arXiv 2207.14255; Code Llama). `causal_masked`: spans moved to the end (CM3, arXiv 2201.07520). `mlm`: masked
    next-token prediction (LLM2Vec, arXiv 2404.05961), which makes an encoder. `mixture`: each document by one of them.
    """

    mixture: dict[Kind, float] = Field(default_factory=dict)
    """kind → weight, read only where `kind` is `mixture`: the chance that a document is learned by that kind."""

    rate: float = Field(0.9, ge=0, le=1, allow_inf_nan=False)
    """fim: share of documents rewritten; the others stay plain causal language modelling. 0.9 is Code Llama's."""

    psm_share: float = Field(0.5, ge=0, le=1, allow_inf_nan=False)
    """fim: share of rewritten documents in the order prefix, suffix, middle; the others are suffix, prefix, middle."""

    mean_spans: float = Field(1.0, gt=0, allow_inf_nan=False)
    """causal_masked: mean of the Poisson distribution of the number of spans, which is at least 1."""

    max_spans: int = Field(16, ge=1)
    """causal_masked: most spans of a document, and so the number of sentinels in the vocabulary."""

    mask_share: float = Field(0.2, gt=0, lt=1, allow_inf_nan=False)
    """mlm: share of a document's tokens that are masked and learned."""

    seed: int = Field(0, ge=0)
    """Of every choice; what happens to a document depends on it, the document and the epoch alone."""

    @model_validator(mode="after")
    def _weights(self) -> ObjectiveConfig:
        if self.kind == "mixture" and not any(weight > 0 for weight in self.mixture.values()):
            raise ValueError("a mixture needs weights, as mixture: {clm: 1, fim: 3}")
        if not all(0 <= weight < float("inf") for weight in self.mixture.values()):
            raise ValueError("the weights of a mixture are finite numbers of at least 0")
        return self

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that documents are learned by, in order of name."""
        if self.kind != "mixture":
            return [self.kind]
        return sorted(kind for kind, weight in self.mixture.items() if weight > 0)

    @property
    def makes_encoder(self) -> bool:
        """Whether the model comes out as an encoder, which no longer continues text."""
        return self.kinds == ["mlm"]

    @property
    def is_random(self) -> bool:
        """Whether a document is another one in another epoch."""
        return self.kinds != ["clm"]
