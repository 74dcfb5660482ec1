"""Low-rank adapters: add new ones, continue earlier ones, merge them into the weights. Files are in peft's format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyte_llama.config import LoraConfig, TrainingConfig
from flyte_llama.errors import ModelError
from flyte_llama.model.weights import weight_names
from flyte_llama.progress import say_once

if TYPE_CHECKING:
    from transformers import PreTrainedModel


ADAPTER_FOLDER = "adapter"
"""Subfolder with the adapter: in a prepared base the one to continue, in a fine-tuned folder the trained one."""

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def add_adapters(model: PreTrainedModel, training: TrainingConfig, *, new_tokens: Sequence[int] = ()) -> Any:
    """Add new adapters in float32 to the model and freeze all other weights.

    LoRA: Hu et al., arXiv 2106.09685. DoRA: Liu et al., arXiv 2402.09353.

    Args:
        new_tokens: Ids of added tokens; their embedding rows are learned too.

    Raises:
        ModelError: if the model has no modules that match `training.lora.target_modules`, or one of them shares its
            weight with another.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    lora = training.lora
    targets = _targets(lora)
    config = PeftLoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        use_dora=training.method == "dora",
        trainable_token_indices=_token_rows(model, new_tokens),
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(f"training.lora.target_modules = {targets}: {error}") from None
    if tied := _tied_target(adapted):
        raise ModelError(
            f"training.lora.target_modules = {targets}: {tied} shares its weight with another layer of this base, "
            f"which the adapter would change too. Leave {tied} out, or use method: full."
        )
    return adapted


def continue_adapter(
    model: PreTrainedModel, folder: Path, training: TrainingConfig, *, new_tokens: Sequence[int] = ()
) -> Any:
    """Add an earlier adapter to the model, to continue its training.

    The adapter keeps the rank, alpha, DoRA setting and target modules that it was trained with; if the configuration
    differs, a message lists the differences. Only the dropout comes from the configuration.

    Raises:
        ModelError: if the adapter does not fit the model.
    """
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(folder))
    configured = {"rank": training.lora.rank, "alpha": training.lora.alpha, "dora": training.method == "dora"}
    saved = {"rank": config.r, "alpha": config.lora_alpha, "dora": config.use_dora}
    differing = [f"{name} {saved[name]}, not {configured[name]}" for name in saved if saved[name] != configured[name]]
    targets = _targets(training.lora)
    if targets != "all-linear" and set(targets) != set(config.target_modules):
        differing.append(f"target_modules {sorted(config.target_modules)}")
    if differing:
        say_once(f"model.adapter: keeps the settings that it was trained with: {'; '.join(differing)}")
    if new_tokens and not config.trainable_token_indices:
        config.trainable_token_indices = _token_rows(model, new_tokens)
    config.lora_dropout = training.lora.dropout
    return load_adapter(model, folder, config=config, is_trainable=True)


def load_adapter(model: PreTrainedModel, folder: Path, **options: Any) -> Any:
    """Add a saved adapter to the model. The model is frozen, and so is the adapter unless `is_trainable` is given.

    Raises:
        ModelError: if the adapter lacks a tensor that this model needs, has one that it does not use, or adapts a layer
            that shares its weight with another.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError

    try:
        adapted = PeftModel.from_pretrained(model, str(folder), **options)
        expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    except (SafetensorError, RuntimeError, ValueError, TypeError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(f"{folder}: this adapter does not fit the base: {' '.join(reason[:3])}") from None
    if tied := _tied_target(adapted):
        raise ModelError(
            f"{folder}: this adapter changes {tied}, which shares its weight with another layer of the base, so it "
            "cannot be merged. Use an adapter without it, or the base that the adapter was trained on."
        )
    names = weight_names(folder / ADAPTER_WEIGHTS, name=str(folder))
    present = {name for name in names if "lora_" in name or "token_adapter" in name}
    # An adapter trained before tokens were added has no rows for them.
    missing = {name for name in expected if "token_adapter" not in name} - present
    if missing or present - expected:
        name = min(missing or present - expected)
        problem = "lacks the tensor" if missing else "has a tensor that the model does not use:"
        raise ModelError(f"{folder}: this adapter {problem} {name}. It is incomplete, or made for another base.")
    return adapted


def merge(adapted: Any) -> PreTrainedModel:
    """Merge the adapter into the weights of the model.

    Raises:
        ModelError: if a merged weight is not finite.
    """
    try:
        merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelError(f"the adapter cannot be merged: {error}") from None
    return merged


def check_adapter(folder: Path, *, name: str, base: str) -> None:
    """Check that the folder holds a LoRA adapter in safetensors. Warn if the adapter was made for another base.

    Raises:
        ModelError: if a file is missing or damaged, or the adapter is of another type.
    """
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / file).is_file():
            raise ModelError(
                f"model.adapter = {name}: holds no {file}. Give the {ADAPTER_FOLDER}/ folder that an earlier run "
                "wrote. Pickled adapters (adapter_model.bin) are not read."
            )
    try:
        config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        peft_type, made_for = config.get("peft_type"), config.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"model.adapter = {name}: its {ADAPTER_CONFIG} cannot be read ({error}). Save the adapter again."
        ) from None
    if peft_type != "LORA":
        raise ModelError(f"model.adapter = {name}: is of type {peft_type}. Only type LORA is supported (LoRA or DoRA).")
    weight_names(folder / ADAPTER_WEIGHTS, name=f"model.adapter = {name}")
    if made_for and made_for not in (base, recorded_base(base)):
        say_once(f"model.adapter = {name}: was made for {made_for}, but the base is {base}")


def recorded_base(base: str) -> str:
    """Return the name of a base that an adapter records: the id on the hub, or the last name of a local folder's path.

    An adapter is published, and the path of a folder may tell who made it.
    """
    return Path(base).name if Path(base).is_absolute() else base


def _targets(lora: LoraConfig) -> str | list[str]:
    return "all-linear" if lora.target_modules == ["all-linear"] else lora.target_modules


def _tied_target(adapted: Any) -> str | None:
    """The name of an adapted layer whose weight is both the input and the output embedding; None if there is none."""
    from peft.tuners.lora.layer import LoraLayer

    model = adapted.get_base_model()
    embeddings = [model.get_input_embeddings(), model.get_output_embeddings()]
    input_weight, output_weight = (getattr(layer, "base_layer", layer).weight for layer in embeddings)
    if input_weight is not output_weight:
        return None
    names = {layer: name for name, layer in model.named_modules()}
    return next((names[layer] for layer in embeddings if isinstance(layer, LoraLayer)), None)


def _token_rows(model: PreTrainedModel, new_tokens: Sequence[int]) -> dict[str, list[int]] | None:
    """The embedding rows to learn, as peft takes them: module name → ids.

    For tied embeddings only the input module is named, since the output module shares its weight.

    Raises:
        ModelError: under ZeRO-3, where peft would read rows of a weight that is split over the processes.
    """
    if not new_tokens:
        return None
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    if hasattr(layers[0].weight, "ds_id"):
        raise ModelError(
            f"training.deepspeed.zero_stage = 3: {len(new_tokens)} tokens were added to the base, and adapters cannot "
            "learn their rows there. Use zero_stage: 2 or less, or method: full."
        )
    names = {module: name for name, module in model.named_modules()}
    learned = layers[:1] if layers[0].weight is layers[1].weight else layers
    return {names[layer]: list(new_tokens) for layer in learned}
