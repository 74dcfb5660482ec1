"""The files of a saved adapter, in peft's format: what they hold, and whether this package takes it.

    adapter_config.json           peft's LoraConfig
    adapter_model.safetensors     A and B of each adapted layer, and all else that was trained or saved along: DoRA's
                                  norms, biases, whole modules (`modules_to_save`), token rows, embeddings

An adapter is taken if the base with it is exactly the model that was trained. Does not load one: see `adapters`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyte_llama.encoding import CONTROL_TOKENS_FILE, TOKENIZER_FILE
from flyte_llama.errors import ModelError
from flyte_llama.model.files import ADAPTER_FOLDER, download_files, verify_pinned
from flyte_llama.model.weights import weight_names
from flyte_llama.progress import say_once

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

PREFIX = "base_model.model."
"""What stands before the name of a module of the base, in the names of an adapter's tensors."""

_MERGE_ELSEWHERE = "Merge it into its base with peft, and give the merged model as model.name"
_CONVERT = (
    "Convert it with peft to a plain LoRA adapter (save_pretrained with path_initial_model_for_weight_conversion), or "
    "merge it where it was trained, and give the merged model as model.name"
)
# Key of adapter_config.json → why an adapter that sets it is not taken. Settings that are not listed leave the model
# W + s·B·A, DoRA's form of it, or whole weights in place of the base's.
_NOT_TAKEN = {
    "layer_replication": "it repeats layers of the base, which share one weight, so it cannot be merged",
    "target_parameters": "it adapts parameters that are not the weight of a linear layer or an embedding",
    "alora_invocation_tokens": "it acts only after some tokens, so it cannot be merged",
    "arrow_config": "it chooses among several adapters",
    "use_bdlora": "its matrices are block-diagonal",
    "use_qalora": "it is for a base quantised by GPTQ",
    "kasa_config": "it changes the weights of the base",
    "monteclora_config": "its weights are drawn at random",
    "velora_config": "its gradients are compressed",
    "megatron_config": "it is for Megatron's layers",
}
# `init_lora_weights` that lead to another base than the published one, where that cannot be repeated.
_INITS_NOT_TAKEN = {
    "pissa_niter": "its base is less a random approximation, which cannot be repeated",
    "loftq": "its base is quantised by LoftQ",
    "corda": "its base is less a part that depends on the data it was trained on",
    "lora_ga": "its base is less a part that depends on the data it was trained on",
}


def check_adapter(folder: Path, *, name: str, base: str) -> None:
    """Check that the folder holds a LoRA adapter in safetensors that is taken. Warn if it was made for another base.

    Raises:
        ModelError: if a file is missing or damaged, or the adapter is of another type, or of a kind that is not taken.
    """
    key = f"model.adapter = {name}"
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / file).is_file():
            raise ModelError(
                f"{key}: holds no {file}. Give the {ADAPTER_FOLDER}/ folder that an earlier run wrote. Pickled "
                "adapters (adapter_model.bin) are not read."
            )
    config = read_adapter_config(folder, name=key)
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{key}: is of type {config.get('peft_type')}. Only type LORA is supported (LoRA or DoRA).")
    for problem in _setting_problems(config, key=key):
        raise ModelError(problem)
    weight_names(folder / ADAPTER_WEIGHTS, name=key)
    made_for = config.get("base_model_name_or_path")
    if made_for and made_for not in (base, recorded_base(base)):
        say_once(f"{key}: was made for {made_for}, but the base is {base}")


def copy_adapter(adapter: str, revision: str, folder: Path, *, base: str) -> Path:
    """Copy the two files of an adapter to a new folder and return its source, where the names of its tokens may be.

    No other file is copied, since the rest of the source may hold pickles.

    Args:
        adapter: Hub id or absolute path, pinned at `revision`.
        base: The name of the base that it is put on.

    Raises:
        DataError: if a file is not as it was pinned.
        ModelError: as for `check_adapter`.
    """
    files, source = [ADAPTER_CONFIG, ADAPTER_WEIGHTS], Path(adapter)
    if source.is_absolute():
        verify_pinned(source, revision, key="model.adapter")
    else:
        source = download_files(adapter, revision, [*files, CONTROL_TOKENS_FILE, TOKENIZER_FILE])
    check_adapter(source, name=adapter, base=base)
    folder.mkdir()
    for file in files:
        shutil.copyfile(source / file, folder / file)
    return source


def read_adapter_config(folder: Path, *, name: str) -> dict[str, Any]:
    """Return the adapter_config.json of a folder.

    Raises:
        ModelError: if it cannot be read, or is not a JSON object.
    """
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{name}: its {ADAPTER_CONFIG} cannot be read ({error}). Save the adapter again.") from None
    return config


def learned_ids(config: Mapping[str, Any], *, name: str) -> list[int]:
    """Return the ids of the tokens whose embedding rows an adapter has learned, in ascending order.

    Raises:
        ModelError: if its adapter_config.json gives them in a form that peft does not know.
    """
    rows = config.get("trainable_token_indices") or []
    lists = list(rows.values()) if isinstance(rows, dict) else [rows]
    if not all(isinstance(ids, list) and all(type(id_) is int for id_ in ids) for ids in lists):
        raise ModelError(
            f"{name}: trainable_token_indices in its {ADAPTER_CONFIG} is not a list of ids, or lists by module. Save "
            "the adapter again."
        )
    return sorted({id_ for ids in lists for id_ in ids})


def read_tensors(folder: Path, *, name: str) -> dict[str, Any]:
    """Return tensor name → torch tensor of an adapter, on the CPU.

    Raises:
        ModelError: if a tensor holds a value that is not finite, as after a run whose loss became NaN.
    """
    import torch
    from safetensors.torch import load_file

    tensors: dict[str, Any] = load_file(folder / ADAPTER_WEIGHTS)
    for tensor, values in tensors.items():
        if not bool(torch.isfinite(values).all()):
            raise ModelError(
                f"{name}: its tensor {tensor} has values that are not finite. Use a checkpoint from before its "
                "training failed."
            )
    return tensors


def recorded_base(base: str) -> str:
    """Return the name of a base that an adapter records: the id on the hub, or the last name of a local folder's path.

    An adapter is published, and the path of a folder may tell who made it.
    """
    return Path(base).name if Path(base).is_absolute() else base


def _setting_problems(config: Mapping[str, Any], *, key: str) -> list[str]:
    """Return a line for each setting of an adapter_config.json that is not taken."""
    from dataclasses import fields

    from peft import LoraConfig

    problems = [
        f"{key}: its {ADAPTER_CONFIG} sets {setting}: {reason}. {_MERGE_ELSEWHERE}."
        for setting, reason in _NOT_TAKEN.items()
        if config.get(setting)
    ]
    init = str(config.get("init_lora_weights", True))
    problems += [
        f"{key}: init_lora_weights = {init}: {reason}. {_CONVERT}."
        for prefix, reason in _INITS_NOT_TAKEN.items()
        if init.lower().startswith(prefix)
    ]
    # peft ignores what it does not know. A number or a text may be the setting of something that is off; a switch that
    # is on, or a group of settings, changes the model.
    known = {field.name for field in fields(LoraConfig)} | {"runtime_config"}
    problems += [
        f"{key}: its {ADAPTER_CONFIG} sets {setting}, which the installed peft does not know. {_MERGE_ELSEWHERE}."
        for setting, value in config.items()
        if setting not in known and (value is True or (isinstance(value, dict | list) and value))
    ]
    return problems
