"""The base model: its name and revision, an adapter to continue, and the shape of a model from scratch."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, ValidationError, field_validator

from flyte_llama.config.source_url import check_ref
from flyte_llama.config.stage import MAX_SEED, MAX_TOKENS, StageConfig, check_day

# A model whose name begins with one of these is a folder.
_PATH_PREFIXES = ("/", "./", "../", "~")


def names_folder(name: str) -> bool:
    """Whether the name of a model is the path of a folder."""
    return name.startswith(_PATH_PREFIXES)


def hub_model(text: str) -> ModelConfig | None:
    """Return the hub model that `owner/name` or `owner/name@revision` means; None if the text is no such address."""
    name, _, revision = text.partition("@")
    if names_folder(name) or not names_model(name):
        return None
    try:
        return ModelConfig(name=name, revision=revision or None)
    except ValidationError:  # no revision can have this name
        return None


def names_model(name: str) -> bool:
    """Whether the text is a hub id or the path of a folder."""
    return names_folder(name) or re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


class ScratchConfig(StageConfig):
    """The shape of a Llama trained from scratch, with as many key-value heads as heads."""

    vocab_size: int = Field(4096, ge=300, le=10_000_000)
    """Entries of the byte-level BPE tokenizer that is trained on the corpus; 256 of them are single bytes."""

    hidden_size: int = Field(256, ge=8, le=131_072)
    num_layers: int = Field(4, ge=1, le=10_000)
    num_heads: int = Field(4, ge=1, le=65_536)
    intermediate_size: int = Field(688, ge=8, le=1_048_576)

    max_positions: int = Field(1024, ge=8, le=MAX_TOKENS)
    """Longest input, in tokens."""


class ModelConfig(StageConfig):
    """The base model to start from."""

    name: str = Field("codellama/CodeLlama-7b-hf", min_length=1)
    """A Hugging Face Hub id, the path of a folder in the hub's format (starts with `/`, `./`, `../` or `~`), or
    `scratch`."""

    revision: str | None = None
    """Branch, tag or commit of a hub model; resolved to a commit before anything is loaded. null is `main`."""

    released: str = ""
    """Release date of the base model, as "2023-08-24" with the quotes. A held-out file first committed later cannot
    have been in its training data, so the history of held-out git sources is read. Empty reads no history."""

    adapter: str | None = Field(None, min_length=1)
    """A LoRA adapter to continue training: a hub id, or the `adapter/` folder that an earlier run wrote. The base is
    then the model with this adapter. null starts a new adapter."""

    adapter_revision: str | None = None
    """Branch, tag or commit of a hub adapter; resolved like `revision`."""

    scratch: ScratchConfig = ScratchConfig()
    """Used only if `name` is `scratch`."""

    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seed of the initial weights of a scratch model."""

    @field_validator("released", mode="before")
    @classmethod
    def _date_as_text(cls, day: Any) -> Any:
        return check_day(day, otherwise="Write the day on which the base model was released")

    @field_validator("revision", "adapter_revision")
    @classmethod
    def _ref(cls, ref: str | None) -> str | None:
        return check_ref(ref)

    @property
    def is_scratch(self) -> bool:
        return self.name == "scratch"

    @property
    def is_local(self) -> bool:
        return names_folder(self.name)

    @property
    def adapter_is_local(self) -> bool:
        return self.adapter is not None and names_folder(self.adapter)
