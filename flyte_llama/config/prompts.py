"""How a batch of prompts is completed: lengths, sampling, and how many pods share it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from flyte_llama.config.config_file import ConfigFile
from flyte_llama.config.problems import field_problems, report_problems
from flyte_llama.config.stage import MAX_SEED, MAX_TOKENS, StageConfig


class PromptsConfig(StageConfig):
    """How `complete_prompts` completes a folder of prompts."""

    max_new_tokens: int = Field(256, ge=1, le=MAX_TOKENS)
    """Maximum length of a completion, in tokens."""

    temperature: float = Field(0.0, ge=0, le=100, allow_inf_nan=False)
    """0 takes the likeliest token; above 0, completions are sampled."""

    samples: int = Field(1, ge=1, le=10_000)
    """Completions of each prompt; above 1, the temperature must be above 0."""

    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seed of sampled completions. Each is drawn by the seed and the prompt's id, so other prompts change nothing."""

    window: int = Field(4096, ge=16, le=MAX_TOKENS)
    """Maximum tokens of a prompt and its completion together; a longer prompt loses its first lines. Fewer if the model
    reads fewer. A completion gets half of them at most."""

    batch_tokens: int = Field(16384, ge=2, le=1_000_000_000)
    """Tokens in the model at once. Changes speed and memory, and the completions only by rounding."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """Of the weights and the forward pass."""

    shards: int = Field(1, ge=1, le=1000)
    """Pods that share the prompts. Changes the time alone."""

    @field_validator("samples")
    @classmethod
    def _differ(cls, samples: int, info: ValidationInfo) -> int:
        if samples > 1 and not info.data.get("temperature", 1):
            raise ValueError("at temperature 0 all samples are the same. Set temperature above 0")
        return samples


def read_prompts_config(file: ConfigFile) -> PromptsConfig:
    """Return the options that a parsed file describes.

    Raises:
        ConfigError: lists every problem.
    """
    try:
        return PromptsConfig.model_validate(file.values)
    except ValidationError as error:
        problems = field_problems(error.errors(include_url=False), PromptsConfig, file.values, file)
        raise report_problems([file.with_line(problem) for problem in problems], file=file) from None
