"""Low-rank adapters: put on a model, go on from earlier ones, fold into the weights. Files are in peft's format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyte_llama.config import LoraConfig, TrainingConfig
from flyte_llama.errors import ModelError
from flyte_llama.progress import say_once

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_FOLDER = "adapter"
"""Where a prepared base keeps the adapter to go on from, and a fine-tuned folder its own."""

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def add_adapters(model: PreTrainedModel, training: TrainingConfig, *, new_tokens: Sequence[int] = ()) -> Any:
    """The model with fresh adapters in float32, everything else frozen.

    LoRA is Hu et al., arXiv 2106.09685; DoRA, Liu et al., arXiv 2402.09353.

    Args:
        new_tokens: Ids whose rows of the embeddings are learned too.
    """
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    lora = training.lora
    targets = _targets(lora)
    config = PeftConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        use_dora=training.method == "dora",
        trainable_token_indices=_token_rows(model, new_tokens),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(f"training.lora.target_modules = {targets}: {error}") from None


def continue_adapter(
    model: PreTrainedModel, folder: Path, training: TrainingConfig, *, new_tokens: Sequence[int] = ()
) -> Any:
    """The model with an earlier adapter on it, to be trained on. Its own rank, alpha and targets stay.

    Raises:
        ModelError: if the adapter does not fit the model.
    """
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(folder))
    wanted = {"rank": training.lora.rank, "alpha": training.lora.alpha, "dora": training.method == "dora"}
    kept = {"rank": config.r, "alpha": config.lora_alpha, "dora": config.use_dora}
    differing = [f"{name} {kept[name]}, not {wanted[name]}" for name in kept if kept[name] != wanted[name]]
    targets = _targets(training.lora)
    if targets != "all-linear" and set(targets) != set(config.target_modules):
        differing.append(f"target_modules {sorted(config.target_modules)}")
    if differing:
        say_once(f"model.adapter: keeps what it was made with: {'; '.join(differing)}")
    if new_tokens and not config.trainable_token_indices:
        config.trainable_token_indices = _token_rows(model, new_tokens)
    config.lora_dropout = training.lora.dropout
    return load_adapter(model, folder, config=config, is_trainable=True)


def load_adapter(model: PreTrainedModel, folder: Path, **options: Any) -> Any:
    """The model with a saved adapter on it, frozen unless `is_trainable`.

    Raises:
        ModelError: if the adapter has not all the tensors that it needs on this model, or others.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    try:
        adapted = PeftModel.from_pretrained(model, str(folder), **options)
        expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(f"{folder}: this adapter does not fit the base: {' '.join(reason[:3])}") from None
    with safe_open(str(folder / ADAPTER_WEIGHTS), framework="pt") as file:
        found = {name for name in file.keys() if "lora_" in name or "token_adapter" in name}  # noqa: SIM118  # no dict
    # Rows of tokens that were added since are not in the file.
    missing = {name for name in expected if "token_adapter" not in name} - found
    if missing or found - expected:
        name = min(missing or found - expected)
        what = "lacks" if missing else "has, but the model has no place for,"
        raise ModelError(f"{folder}: this adapter {what} {name}. It is incomplete, or made for another base.")
    return adapted


def merge(adapted: Any) -> PreTrainedModel:
    """The model with its adapter folded into the weights.

    Raises:
        ModelError: if that gives a weight that is not finite.
    """
    try:
        merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelError(f"the adapter cannot be merged: {error}") from None
    return merged


def check_adapter(folder: Path, *, name: str, base: str) -> None:
    """Refuse what is no LoRA adapter in safetensors; say it if the adapter names another base.

    Raises:
        ModelError: saying what is missing.
    """
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / file).is_file():
            raise ModelError(
                f"model.adapter = {name}: holds no {file}. Give what an earlier run wrote as {ADAPTER_FOLDER}/; "
                "pickled adapters (adapter_model.bin) are not read."
            )
    config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        raise ModelError(
            f"model.adapter = {name}: is of type {config.get('peft_type')}. Only LORA can be gone on from."
        )
    made_for = config.get("base_model_name_or_path")
    if made_for and made_for != base:
        say_once(f"model.adapter = {name}: was made for {made_for}; the base here is {base}")


def _targets(lora: LoraConfig) -> str | list[str]:
    return "all-linear" if lora.target_modules == ["all-linear"] else lora.target_modules


def _token_rows(model: PreTrainedModel, new_tokens: Sequence[int]) -> dict[str, list[int]] | None:
    """Module → ids, as peft wants them; of tied embeddings the input's alone, which the output's follows.

    Raises:
        ModelError: under ZeRO-3, where peft reads rows out of weights that are elsewhere.
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
    chosen = layers[:1] if layers[0].weight is layers[1].weight else layers
    return {names[layer]: list(new_tokens) for layer in chosen}
