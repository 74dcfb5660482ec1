"""A model's shape: how many parameters, and where, from its config.json. No weights are read.

Llama and what shares its keys: grouped key-value heads, tied embeddings, heads of a size of their own, biases.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyte_llama.config import ModelConfig, TrainingConfig
from flyte_llama.errors import ModelError
from flyte_llama.model.base import hub_failure

# model_type → biases of the projections to queries, keys and values, of that from attention, of the three others;
# a name is a key of config.json, false without one. transformers' modeling_llama, _mistral and _qwen2 say so.
BIASES: dict[str, tuple[bool | str, bool | str, bool | str]] = {
    "llama": ("attention_bias", "attention_bias", "mlp_bias"),
    "mistral": (False, False, False),
    "qwen2": (True, False, False),
}


@dataclass(frozen=True)
class Linear:
    """One linear layer: `num_inputs` times `num_outputs` weights."""

    num_inputs: int
    num_outputs: int
    has_bias: bool = False

    @property
    def num_weights(self) -> int:
        return self.num_inputs * self.num_outputs

    def num_adapter(self, rank: int, *, dora: bool) -> int:
        """Parameters of A, B, and with DoRA the outputs' norms."""
        return rank * (self.num_inputs + self.num_outputs) + dora * self.num_outputs


@dataclass(frozen=True)
class ModelShape:
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    max_positions: int | None
    """Longest input in tokens, if the model has a longest."""

    tied_embeddings: bool = False
    """Whether the output head is the input embedding."""

    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False

    @property
    def attention_size(self) -> int:
        """Outputs of all heads together."""
        return self.num_heads * self.head_dim

    @property
    def linears(self) -> dict[str, Linear]:
        """The linear layers of one decoder layer, in the order in which they run."""
        hidden, inner, heads = self.hidden_size, self.intermediate_size, self.attention_size
        kv = self.num_kv_heads * self.head_dim
        return {
            "self_attn.q_proj": Linear(hidden, heads, self.qkv_bias),
            "self_attn.k_proj": Linear(hidden, kv, self.qkv_bias),
            "self_attn.v_proj": Linear(hidden, kv, self.qkv_bias),
            "self_attn.o_proj": Linear(heads, hidden, self.o_bias),
            "mlp.gate_proj": Linear(hidden, inner, self.mlp_bias),
            "mlp.up_proj": Linear(hidden, inner, self.mlp_bias),
            "mlp.down_proj": Linear(inner, hidden, self.mlp_bias),
        }

    @property
    def num_linear(self) -> int:
        """Weights of the linear layers of all decoder layers, without the output head and without biases."""
        return self.num_layers * sum(linear.num_weights for linear in self.linears.values())

    @property
    def num_head(self) -> int:
        """Weights of the output head, also where they are the embedding's."""
        return self.vocab_size * self.hidden_size

    @property
    def num_embeddings(self) -> int:
        """Parameters of the input embedding and the output head; tied ones count once."""
        return self.num_head * (1 if self.tied_embeddings else 2)

    @property
    def num_small(self) -> int:
        """Parameters of norms and biases."""
        biases = sum(linear.num_outputs for linear in self.linears.values() if linear.has_bias)
        return self.num_layers * (biases + 2 * self.hidden_size) + self.hidden_size

    @property
    def num_parameters(self) -> int:
        return self.num_linear + self.num_embeddings + self.num_small

    def adapted(self, target_modules: Sequence[str]) -> dict[str, Linear]:
        """The linear layers of one decoder layer that get an adapter, as peft chooses them.

        Raises:
            ModelError: if a name is none of them. The output head and embeddings are not planned for.
        """
        if list(target_modules) == ["all-linear"]:
            return self.linears
        unknown = [name for name in target_modules if not any(_names(name, full) for full in self.linears)]
        if unknown:
            known = ", ".join(full.split(".")[1] for full in self.linears)
            raise ModelError(
                f"training.lora.target_modules = {unknown}: no linear layers of the model. Known: {known}."
            )
        return {full: linear for full, linear in self.linears.items() if any(_names(n, full) for n in target_modules)}

    def num_adapter(self, target_modules: Sequence[str], rank: int, *, dora: bool = False) -> int:
        """Trainable parameters of LoRA or DoRA, over all layers."""
        adapted = self.adapted(target_modules).values()
        return self.num_layers * sum(linear.num_adapter(rank, dora=dora) for linear in adapted)


def _names(name: str, full: str) -> bool:
    return full == name or full.endswith("." + name)


def read_shape(config: Mapping[str, Any]) -> ModelShape:
    """The shape that a config.json describes.

    Raises:
        ModelError: if it is of a kind whose parameters are counted otherwise, or lacks a number.
    """
    kind = config.get("model_type")
    if kind not in BIASES:
        raise ModelError(f"model_type = {kind!r}: cannot be planned for. Known: {', '.join(sorted(BIASES))}.")
    needed = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    if missing := [name for name in needed if not isinstance(config.get(name), int)]:
        raise ModelError(f"config.json: {', '.join(missing)} should be there and whole numbers. Use another base.")
    heads = config["num_attention_heads"]
    qkv, o, mlp = (bool(config.get(key, False)) if isinstance(key, str) else key for key in BIASES[str(kind)])
    return ModelShape(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        intermediate_size=config["intermediate_size"],
        max_positions=config.get("max_position_embeddings"),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=qkv,
        o_bias=o,
        mlp_bias=mlp,
    )


def base_shape(folder: Path, training: TrainingConfig) -> ModelShape | None:
    """Of a prepared base. None for a kind of model, or for adapters, that are not counted, as those on the output head:
    training goes on without a plan or an MFU.
    """
    try:
        shape = read_shape(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        shape.adapted(training.lora.target_modules)
    except ModelError:
        return None
    return shape


def model_shape(model: ModelConfig) -> ModelShape:
    """The shape of the configured model; of a hub model, config.json alone is downloaded.

    A scratch model's tokenizer may come out with fewer entries than `vocab_size` if the corpus is small.

    Raises:
        ModelError: if the model is not there, or of a kind that cannot be planned for.
    """
    if model.is_scratch:
        scratch = model.scratch
        return ModelShape(
            vocab_size=scratch.vocab_size,
            hidden_size=scratch.hidden_size,
            num_layers=scratch.num_layers,
            num_heads=scratch.num_heads,
            num_kv_heads=scratch.num_heads,
            head_dim=scratch.hidden_size // scratch.num_heads,
            intermediate_size=scratch.intermediate_size,
            max_positions=scratch.max_positions,
            tied_embeddings=True,
        )
    file = Path(model.name).expanduser() / "config.json" if model.is_local else _downloaded(model)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.name = {model.name}: {file} cannot be read ({error}). Give a folder in hub format."
        ) from None
    return read_shape(config)


def _downloaded(model: ModelConfig) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model.name, "config.json", revision=model.revision))
    except Exception as error:  # the client raises its own, its transport's and the system's
        raise hub_failure(model.name, model.revision or "main", error) from None
