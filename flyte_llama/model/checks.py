"""The problems of a model that can be seen without loading its weights or asking the hub, one line each.

Every line begins with the key or the name that the caller gives to the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyte_llama.config import ModelConfig, ObjectiveConfig, TrainingConfig, positions_problems
from flyte_llama.encoding import TOKENIZER_FILE, DocumentTokenizer, control_names
from flyte_llama.errors import DataError, ModelError
from flyte_llama.model.adapters.files import ADAPTER_CONFIG, check_adapter, learned_ids, read_adapter_config
from flyte_llama.model.adapters.skeleton import check_adapters, scratch_config
from flyte_llama.model.adapters.tokens import learned_tokens, token_rows_problem
from flyte_llama.model.files import find_folder, verify_sealed
from flyte_llama.model.positions import find_shared_length
from flyte_llama.model.weights import weights_problems

TESTED_ARCHITECTURES = ("gpt_neox", "llama", "mistral", "qwen2", "qwen3", "starcoder2")
"""The architectures that can be trained on packed rows, as `model_type` names them in config.json.

Tests show that each keeps the documents of a row apart. In Jamba, Mamba, Falcon or OPT, documents of a row see each
other without any error, because some layers are not attention, or the attention does not receive the positions. Gemma 2
and Granite change the logits after the output head, which the lean loss would leave out. Both faults are silent, so
all other architectures are refused."""

# The names that architectures use for their longest input, in tokens.
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length")


def model_folder_problems(
    path: str | Path, lengths: Mapping[str, int], *, name: str, for_training: bool = True
) -> list[str]:
    """Return the problems of a model in a local folder. Of a folder with a manifest every file is read whole.

    Args:
        path: The folder, perhaps with `~` for a home.
        lengths: Key in the configuration → number of tokens that the model is given at once.
        name: The key and the folder, with which each line begins.
    """
    try:
        folder = find_folder(path, name=name)
    except ModelError as error:
        return [error.message]
    if not (folder / "config.json").is_file():
        if (folder / ADAPTER_CONFIG).is_file():
            advice = "Give a whole model"
            if (folder.parent / "config.json").is_file():
                advice = f"Give {folder.parent}, which is the merged model"
            return [f"{name}: holds an adapter alone. {advice}; model.adapter takes an adapter."]
        return [f"{name}: holds no config.json. Give a folder in hub format."]
    problems = config_problems(folder / "config.json", lengths, name=name, for_training=for_training)
    problems += tokenizer_problems(folder, name=name) + weights_problems(folder, name=name)
    return problems or sealed_problems(folder, name=name)


def adapter_folder_problems(path: str, model: ModelConfig) -> list[str]:
    """Return a line if the adapter to continue, a local folder, cannot be used."""
    key = f"model.adapter = {path}"
    try:
        base = str(find_folder(model.name, name="model.name")) if model.is_local else model.name
    except ModelError:
        base = model.name  # which has a line of its own
    try:
        folder = find_folder(path, name=key)
        check_adapter(folder, name=path, base=base)
    except ModelError as error:
        return [error.message]
    return sealed_problems(folder, name=key)


def adapting_problems(model: ModelConfig, training: TrainingConfig | None) -> list[str]:
    """Return a line if the base cannot be adapted as configured, or the adapter to continue does not fit it.

    Only what is on this machine is checked: not a hub model whose config.json is not in the hub's cache, and no hub
    adapter. The tokenizer of a scratch model is not made yet, so an adapter on one is not checked either.

    Args:
        training: None if it is not valid; the adapter is then checked without it.
    """
    if model.adapter is not None and (model.is_scratch or not model.adapter_is_local):
        return []
    try:
        adapter = find_folder(model.adapter, name="model.adapter") if model.adapter is not None else None
        weights = find_folder(model.name, name="model.name") if model.is_local else None
        config: Any = weights
        if model.is_scratch:
            config = scratch_config(model.scratch, vocab_size=model.scratch.vocab_size)
        elif weights is None and (file := cached_config(model)):
            config = file.parent
        # A run adds the tokens that the adapter has learned.
        key = f"model.adapter = {model.adapter}"
        learned = learned_ids(read_adapter_config(adapter, name=key), name=key) if adapter else []
        if config is not None:
            check_adapters(
                config,
                training,
                name=f"model.name = {model.name}",
                adapter=adapter,
                adapter_name=model.adapter or "",
                num_tokens=learned[-1] + 1 if learned else 0,
                weights=weights,
            )
    except ModelError as error:
        return [error.message]
    return []


def control_token_problems(model: ModelConfig, objective: ObjectiveConfig, training: TrainingConfig) -> list[str]:
    """Return a line if the run adds control tokens to the base that its training cannot learn, or cannot name.

    Nothing is said of a base or an adapter that is not on this machine. Those that are have no other problem.
    """
    # A scratch model has no control token but the ends of a text; the tokenizer of a hub model is not here.
    if model.is_scratch:
        return [problem] if (problem := token_rows_problem(training)) and objective.kinds != ["clm"] else []
    if not model.is_local:
        return []
    try:
        tokenizer = DocumentTokenizer(find_folder(model.name, name="model.name"))
        learned, adapter = {}, None
        if model.adapter is not None and model.adapter_is_local:
            adapter = find_folder(model.adapter, name="model.adapter")
            learned = learned_tokens(adapter, tokenizer, objective, name=model.adapter)
    except ModelError as error:
        return [error.message]
    names = [*learned, *control_names(objective, tokenizer)]
    if all(tokenizer.id_of(name) is not None for name in names):
        return []
    return [problem] if (problem := token_rows_problem(training, adapter)) else []


def sealed_problems(folder: Path, *, name: str) -> list[str]:
    """Return a line if the folder has a manifest that it does not match."""
    try:
        verify_sealed(folder)
    except DataError as error:
        return [f"{name}: {error.message}"]
    except OSError as error:
        return [f"{name}: {error.filename} cannot be read ({error.strerror}). Change its permissions."]
    return []


def hub_name_problems(key: str, name: str) -> list[str]:
    """Return a line if the hub allows no repository of this name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        return [f"{key} = {name}: is no name of a repository on the hub. {error}"]
    return []


def cached_config(model: ModelConfig) -> Path | None:
    """Return the config.json of a hub model in the hub's cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    if hub_name_problems("model.name", model.name):
        return None
    found = try_to_load_from_cache(model.name, "config.json", revision=model.revision or "main")
    return Path(found) if isinstance(found, str) else None


def architecture_problems(model_type: str, *, name: str) -> list[str]:
    """Return a line if the architecture is not in `TESTED_ARCHITECTURES`."""
    if model_type in TESTED_ARCHITECTURES:
        return []
    return [
        f"{name}: is a {model_type}, an architecture not tested to keep the documents of a packed row apart. "
        f"Use one of {', '.join(TESTED_ARCHITECTURES)}."
    ]


def causal_problems(model_type: str, *, name: str) -> list[str]:
    """Return a line if transformers has no causal language model of this architecture."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return []
    return [
        f"{name}: is a {model_type}, which transformers does not know as a causal language model, so it has no "
        "perplexity. Use a causal model."
    ]


def config_problems(file: Path, lengths: Mapping[str, int], *, name: str, for_training: bool) -> list[str]:
    """Return the problems of a config.json: damaged, asks to run code, of an untested architecture, too short.

    Args:
        lengths: Key in the configuration → number of tokens that the model is given at once.
        for_training: Whether the model will be trained, which not every architecture supports, or only evaluated.
    """
    try:
        config: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return [f"{name}: its config.json cannot be read ({error}). Save the model again."]
    if not isinstance(config, dict):
        return [f"{name}: its config.json is not a JSON object. Save the model again."]
    problems = []
    if "auto_map" in config:
        problems.append(
            f"{name}: its config.json asks to run code from the model's repository (auto_map). Use another base."
        )
    if for_training:
        problems += architecture_problems(str(config.get("model_type")), name=name)
        problems += shared_length_problems(lengths.get("training.seq_len", 0), config, name=name)
    else:
        problems += causal_problems(str(config.get("model_type")), name=name)
    positions = next((config[key] for key in _POSITIONS if _is_count(config.get(key))), None)
    return problems + positions_problems(lengths, positions, limit=f"the {positions} positions of {name}")


def shared_length_problems(seq_len: int, config: Mapping[str, Any], *, name: str) -> list[str]:
    """Return a line if documents of a row of `seq_len` tokens would change each other's positions."""
    shared = find_shared_length(config)
    if shared is None or seq_len <= shared:
        return []
    return [
        f"training.seq_len = {seq_len}: above {shared} tokens {name} numbers all positions in another way (rope_type "
        f"longrope or dynamic), so the documents of a row would change each other. Use at most {shared}."
    ]


def tokenizer_problems(folder: Path, *, name: str) -> list[str]:
    """Return a line if the folder holds no fast tokenizer, a damaged one, or one that loses characters."""
    if not (folder / TOKENIZER_FILE).is_file():
        return [f"{name}: has no {TOKENIZER_FILE}. Use a base with a fast tokenizer."]
    try:
        DocumentTokenizer(folder).check_lossless()
    except ModelError as error:
        return [f"{name}: {error.message}"]
    return []


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
