"""How models are measured (perplexity on held-out text, completions, FlyteEval), and when one is published."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from pydantic import Field, field_validator

from flyte_llama.config.source import SourceConfig
from flyte_llama.config.source_url import is_package, same_repository_key
from flyte_llama.config.stage import MAX_SEED, MAX_TOKENS, StageConfig

MIN_REPOSITORIES = 3
"""Held-out repositories that a claim about others like them needs."""


class CompletionConfig(StageConfig):
    """Lines and spans of held-out documents for the model to complete, by greedy decoding."""

    lines: int = Field(200, ge=0, le=10_000_000)
    """Lines to complete, each from as much preceding text as fits the window; 0 measures none."""

    spans: int = Field(100, ge=0, le=10_000_000)
    """Spans of each kind (one line, several lines, random) to infill, in both orders; 0 measures none. Needs a model
    with infill tokens."""

    max_new_tokens: int = Field(64, ge=1, le=MAX_TOKENS)
    """Maximum length of a line or span, in tokens; longer ones are not chosen."""

    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seed of the choice of lines and spans."""


class FlyteEvalConfig(StageConfig):
    """Functions of Flyte examples for the model to write; running its code decides whether it passes."""

    source: Literal["heldout", "small", "none"] = "heldout"
    """`heldout` makes the tasks from the held-out documents, `small` from the examples that come with this package,
    `none` skips FlyteEval."""

    tasks: int = Field(200, ge=1, le=1_000_000)
    """Maximum number of tasks; if there are more, a random sample. Bounds the runs of held-out code: 200 for each."""

    parts: int = Field(0, ge=0, le=1_000_000)
    """Maximum number of small parts of Flyte functions to write, measured apart from the tasks: a statement, an
    argument, a type or a decorator. Models that write no whole task differ in them. 0 measures none."""

    samples: int = Field(1, ge=1, le=10_000)
    """Answers to each task: the n of pass@k."""

    temperature: float = Field(0.0, ge=0, le=100, allow_inf_nan=False)
    """0 takes the likeliest token; above 0, answers are sampled."""

    max_new_tokens: int = Field(256, ge=1, le=MAX_TOKENS)
    """Maximum length of an answer, in tokens."""

    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seed of the choice of tasks and of sampled answers."""


class EvaluationConfig(StageConfig):
    """What to measure, and how much of it the model sees at once."""

    window: int = Field(4096, ge=2, le=MAX_TOKENS)
    """Tokens that the model sees at once."""

    stride: int = Field(2048, ge=1, le=MAX_TOKENS)
    """Tokens that the window advances at a time. Every scored token except a document's first has at least
    `window - stride` tokens of context, or all the tokens before it."""

    batch_tokens: int = Field(8192, ge=2, le=1_000_000_000)
    """Tokens in the model at once: one forward pass on a GPU; on a CPU the sum over the cores, which run one batch each
    if every batch has room for a window. Changes speed and memory; the figures change only by rounding, in fp32 by
    less than 1e-6 of their value."""

    shards: int = Field(1, ge=1, le=64)
    """Pods that share the measuring of one model. Changes the time; the figures change only by rounding."""

    general: list[SourceConfig] = Field(
        [SourceConfig(url=f"package:{name}") for name in ("click", "jinja2", "requests")]
    )
    """Code unlike the corpus, measured before and after training to see how much the model forgot: installed
    distributions, as `package:NAME`. One that is in the corpus is skipped, and a file that shares text with train does
    not count; an empty list measures none."""

    probe_bytes: int = Field(1_000_000, ge=0, le=1_000_000_000_000)
    """Maximum bytes of train text, and of general code, to measure in addition to the held-out text; 0 measures
    neither. The train text is chosen to match the held-out documents in language and kind."""

    published: str | None = Field(None, min_length=1)
    """The model that is published now, a hub id or a folder, measured on the same text. A new model is then published
    only if it also beats this one. `none` states that nothing is published yet. null does not say, so it is refused if
    `publish.repository` is set."""

    completion: CompletionConfig = CompletionConfig()
    flyte_eval: FlyteEvalConfig = FlyteEvalConfig()

    @property
    def published_model(self) -> str | None:
        """The model that is published now; None if there is none, or if the configuration does not say."""
        return None if self.published is None or self.published.lower() == "none" else self.published

    @field_validator("general")
    @classmethod
    def _installed(cls, general: list[SourceConfig]) -> list[SourceConfig]:
        problems = []
        if others := [source.url for source in general if not is_package(source.url)]:
            problems.append(f"contains {', '.join(others)}. List installed distributions, such as package:click")
        if pinned := [source.url for source in general if is_package(source.url) and source.ref is not None]:
            problems.append(f"has a ref for {', '.join(pinned)}. Remove it: the installed version is used")
        counts = Counter(same_repository_key(source.url) for source in general)
        if twice := [name for name, count in counts.items() if count > 1]:
            problems.append(f"lists {', '.join(twice)} more than once. Keep one of each")
        if problems:
            raise ValueError(". It ".join(problems))
        return general


class PublishConfig(StageConfig):
    """Where to publish the fine-tuned model, and how much it may forget."""

    repository: str | None = None
    """Hub repository, `owner/name`, that receives the fine-tuned model if it beats its base; null publishes nothing."""

    private: bool = True

    accept_few_repositories: bool = False
    """With fewer than three held-out repositories, or with parts of repositories that are trained on, publish a model
    that is better on their documents and in the mean of the repositories; false asks for a claim about others."""

    forgetting_budget: float | None = Field(0.05, ge=0, le=100, allow_inf_nan=False)
    """How much worse than its base, in bits per byte on general code, the fine-tuned model may be and still be
    published; null sets no limit."""

    @field_validator("repository")
    @classmethod
    def _owner_and_name(cls, repository: str | None) -> str | None:
        if repository is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repository):
            raise ValueError("is not a repository of the hub. Write owner/name")
        return repository
