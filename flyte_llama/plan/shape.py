"""A model's shape: how many parameters it has, and where, from its config.json. No weights are read.

Covers Llama and models with the same keys: grouped key-value heads, tied embeddings, an explicit head size, biases.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyte_llama.config import ModelConfig, TrainingConfig
from flyte_llama.errors import ModelError, hub_error

# model_type → biases of the query, key and value projections, of the attention output projection, and of the three MLP
# projections. A string names a key of config.json, which is false if absent. From transformers' modeling_llama,
# modeling_mistral and modeling_qwen2.
BIASES: dict[str, tuple[bool | str, bool | str, bool | str]] = {
    "llama": ("attention_bias", "attention_bias", "mlp_bias"),
    "mistral": (False, False, False),
    "qwen2": (True, False, False),
}


@dataclass(frozen=True)
class Linear:
    """One linear layer, with `num_inputs` times `num_outputs` weights."""

    num_inputs: int
    num_outputs: int
    has_bias: bool = False

    @property
    def num_weights(self) -> int:
        return self.num_inputs * self.num_outputs

    def num_adapter_parameters(self, rank: int, *, dora: bool) -> int:
        """Parameters of its adapter: A, B, and with DoRA one magnitude per output."""
        return rank * (self.num_inputs + self.num_outputs) + dora * self.num_outputs


@dataclass(frozen=True)
class ModelShape:
    """The sizes that determine a model's parameters, FLOPs and memory."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    max_positions: int | None
    """Longest input in tokens; None if the model has no limit."""

    tied_embeddings: bool = False
    """Whether the output head shares its weights with the input embedding."""

    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False

    @property
    def attention_size(self) -> int:
        """Number of outputs of all attention heads together."""
        return self.num_heads * self.head_dim

    @property
    def linears(self) -> dict[str, Linear]:
        """The linear layers of one decoder layer, in the order that they run."""
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
    def num_linear_weights(self) -> int:
        """Weights of all linear layers in all decoder layers, without biases and without the output head."""
        return self.num_layers * sum(linear.num_weights for linear in self.linears.values())

    @property
    def num_head_weights(self) -> int:
        """Weights of the output head, even if it shares them with the embedding."""
        return self.vocab_size * self.hidden_size

    @property
    def num_embedding_weights(self) -> int:
        """Parameters of the input embedding and the output head; counted once if tied."""
        return self.num_head_weights * (1 if self.tied_embeddings else 2)

    @property
    def num_norms_and_biases(self) -> int:
        """Parameters of norms and biases."""
        biases = sum(linear.num_outputs for linear in self.linears.values() if linear.has_bias)
        return self.num_layers * (biases + 2 * self.hidden_size) + self.hidden_size

    @property
    def num_parameters(self) -> int:
        return self.num_linear_weights + self.num_embedding_weights + self.num_norms_and_biases

    def adapter_layers(self, target_modules: Sequence[str]) -> dict[str, Linear]:
        """The linear layers of one decoder layer that get an adapter, chosen as peft does.

        Raises:
            ModelError: if a name matches none of them. That includes the output head and the embeddings, which peft
                allows but a plan does not cover.
        """
        if list(target_modules) == ["all-linear"]:
            return self.linears
        unknown = [name for name in target_modules if not any(_matches(name, full) for full in self.linears)]
        if unknown:
            known = ", ".join(full.split(".")[1] for full in self.linears)
            raise ModelError(
                f"training.lora.target_modules = {unknown}: not linear layers of the model. Known: {known}."
            )
        return {full: linear for full, linear in self.linears.items() if any(_matches(n, full) for n in target_modules)}

    def num_adapter_parameters(self, target_modules: Sequence[str], rank: int, *, dora: bool = False) -> int:
        """Trainable parameters of LoRA or DoRA over all layers."""
        adapted = self.adapter_layers(target_modules).values()
        return self.num_layers * sum(linear.num_adapter_parameters(rank, dora=dora) for linear in adapted)


def read_shape(config: Mapping[str, Any]) -> ModelShape:
    """The shape described by a config.json.

    Raises:
        ModelError: if its model_type is not in `BIASES`, or a size is missing or wrong.
    """
    model_type = str(config.get("model_type"))
    if model_type not in BIASES:
        raise ModelError(
            f"model_type = {model_type!r}: not supported by the plan. Supported: {', '.join(sorted(BIASES))}."
        )
    needed = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    optional = [n for n in ("num_key_value_heads", "head_dim", "max_position_embeddings") if config.get(n) is not None]
    if wrong := [name for name in (*needed, *optional) if type(config.get(name)) is not int or config[name] < 1]:
        raise ModelError(f"config.json: expected whole numbers above 0 for {', '.join(wrong)}. Use another base.")
    heads = config["num_attention_heads"]
    qkv, o, mlp = (bool(config.get(key, False)) if isinstance(key, str) else key for key in BIASES[model_type])
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
    """The shape of a prepared base; None if a plan does not cover the model or its adapters (on the output head, say).

    Training then runs without a check of memory and without an MFU.
    """
    earlier = folder / "adapter" / "adapter_config.json"
    try:
        shape = read_shape(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        shape.adapter_layers(training.lora.target_modules)
        if earlier.is_file():
            adapter = json.loads(earlier.read_text(encoding="utf-8"))
            targets = adapter.get("target_modules")
            shape.adapter_layers(targets if isinstance(targets, list) else [str(targets)])
            # Whole modules are trained, or biases.
            if adapter.get("modules_to_save") or adapter.get("bias", "none") != "none":
                return None
    except ModelError:
        return None
    return shape


def model_shape(model: ModelConfig) -> ModelShape:
    """The shape of the configured model. For a hub model only its config.json is downloaded.

    A scratch model trained on a small corpus may get a tokenizer with fewer entries than `vocab_size`.

    Raises:
        ModelError: if the model cannot be found, or a plan does not cover its model_type.
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
    file = Path(os.path.expanduser(model.name)) / "config.json" if model.is_local else _download_config(model)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"model.name = {model.name}: {file} cannot be read ({error}). Give a folder in hub format."
        ) from None
    return read_shape(config)


def _matches(name: str, full: str) -> bool:
    """Whether peft takes a target name for this layer: `q_proj` for `self_attn.q_proj`."""
    return full == name or full.endswith("." + name)


def _download_config(model: ModelConfig) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model.name, "config.json", revision=model.revision))
    except Exception as error:  # the client raises errors of the hub, of HTTP and of the system
        raise hub_error(model.name, model.revision or "main", error) from None
