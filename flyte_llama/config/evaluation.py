"""How models are measured: perplexity on held-out text, and beyond it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from flyte_llama.config.corpus import SourceConfig
from flyte_llama.config.stage import StageConfig


class CompletionConfig(StageConfig):
    """Lines and spans of held-out documents that the model is to write, greedily."""

    lines: int = Field(200, ge=0)
    """Lines, each with all the window holds before it; 0 measures none."""

    spans: int = Field(100, ge=0)
    """Spans of each kind (one line, several lines, random), infilled in both orders; 0 measures none. Needs a model
    with infill tokens."""

    max_new_tokens: int = Field(64, ge=1)
    """Most tokens written for one of them; longer ones are not asked for."""

    seed: int = Field(0, ge=0)
    """Of the choice."""


class FlyteEvalConfig(StageConfig):
    """Functions of Flyte examples that the model is to write, decided by running what it wrote."""

    source: Literal["heldout", "small", "none"] = "heldout"
    """`heldout` makes the tasks from the held-out documents, `small` from the examples that come with this package,
    `none` makes none."""

    tasks: int = Field(200, ge=1)
    """Most tasks; fewer are chosen from all by chance."""

    samples: int = Field(1, ge=1)
    """Answers to each task, n of pass@k."""

    temperature: float = Field(0.0, ge=0, allow_inf_nan=False)
    """0 takes the likeliest token; above it, answers are drawn."""

    max_new_tokens: int = Field(256, ge=1)
    """Most tokens of an answer."""

    seed: int = Field(0, ge=0)
    """Of the choice, and of answers that are drawn."""


class EvaluationConfig(StageConfig):
    window: int = Field(4096, ge=2)
    """Tokens the model sees at once."""

    stride: int = Field(2048, ge=1)
    """Tokens by which the window moves; every scored token but a document's first has at least
    `window - stride` tokens before it, or all that there are."""

    batch_tokens: int = Field(8192, ge=2)
    """Tokens in the model at once: a GPU's forward pass, or those that a CPU's cores run side by side, each its own, if
    there is room for a window each. Changes speed and memory, and of the figures only what rounding does: in fp32 less
    than 1e-6 of them."""

    shards: int = Field(1, ge=1, le=64)
    """Pods that share the measuring of one model; changes time, and of the figures only what rounding does."""

    general: list[SourceConfig] = Field(
        [SourceConfig(url=f"package:{name}") for name in ("click", "jinja2", "requests")]
    )
    """Code that is not the corpus's kind, measured before and after training for what was forgotten: installed
    distributions, `package:NAME`. One that is of the corpus is left out; an empty list measures none."""

    probe_bytes: int = Field(1_000_000, ge=0)
    """Most bytes of train text, of the held-out documents' languages and kinds, and of general code, that are measured
    beside the held-out text; 0 measures neither."""

    published: str | None = Field(None, min_length=1)
    """The last published model, a hub id or a folder, measured on the same text; a new one is then published only if it
    beats that too. null measures none."""

    completion: CompletionConfig = CompletionConfig()
    flyte_eval: FlyteEvalConfig = FlyteEvalConfig()

    @field_validator("general")
    @classmethod
    def _installed(cls, general: list[SourceConfig]) -> list[SourceConfig]:
        for source in general:
            if not source.url.startswith("package:"):
                raise ValueError(f"holds {source.url}. Name installed distributions, as package:click")
        return general
