"""Low-rank adapters: add new ones, continue earlier ones, merge them into the weights. Files are in peft's format.

Each function also takes a model without weights (on torch's meta device), which it checks and changes in the same way:
see `skeleton`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyte_llama.config import LoraConfig, TrainingConfig
from flyte_llama.config.stage import hint
from flyte_llama.errors import FlyteLlamaError, ModelError
from flyte_llama.model.adapters.dora import WITHOUT_DORA, check_rows, zero_norms
from flyte_llama.model.adapters.files import read_tensors
from flyte_llama.model.adapters.tensors import (
    OTHER_BASE,
    fit_tensors,
    has_adapted_embedding,
    has_two_embeddings,
    merge_problems,
    training_problems,
    untie,
)
from flyte_llama.model.adapters.token_layers import add_rows_to_adapter, rows_to_learn
from flyte_llama.progress import say_once

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_adapters(model: PreTrainedModel, training: TrainingConfig, *, new_tokens: Sequence[int] = ()) -> Any:
    """Add new adapters in float32 to the model and freeze all other weights.

    LoRA: Hu et al., arXiv 2106.09685. DoRA: Liu et al., arXiv 2402.09353.

    Args:
        new_tokens: Ids of added tokens; their embedding rows are learned too.

    Raises:
        ModelError: if a name in `training.lora.target_modules` matches no linear layer or embedding of the model, peft
            cannot adapt one, DoRA would divide by zero, or the rows of added tokens cannot be learned.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model, get_peft_model_state_dict

    lora = training.lora
    targets = _targets(lora)
    if isinstance(targets, list):
        _check_targets(model, targets)
    config = PeftLoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        use_dora=training.method == "dora",
        trainable_token_indices=rows_to_learn(model, new_tokens) or None,
        task_type="CAUSAL_LM",
    )
    key = f"training.lora.target_modules = {targets}"
    with _peft_errors(f"{key}: peft cannot adapt this base: ", "Name other layers, or use method: full."):
        adapted = get_peft_model(model, config)
    tensors = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    check_rows(zero_norms(tensors), name=f"training.method = {training.method!r}", advice=WITHOUT_DORA)
    return adapted


def continue_adapter(
    model: PreTrainedModel,
    folder: Path,
    training: TrainingConfig,
    *,
    name: str | None = None,
    new_tokens: Sequence[int] = (),
) -> Any:
    """Add an earlier adapter to the model, to continue its training.

    The adapter keeps the rank, alpha, DoRA setting and target modules that it was trained with; if the configuration
    differs, a message lists the differences. Only the dropout comes from the configuration. The rows of tokens that
    the adapter has not learned yet are learned beside those that it has.

    Raises:
        ModelError: if the adapter does not fit the model, or cannot be trained by this method and ZeRO stage.
    """
    from peft import PeftConfig

    name = name or str(folder)
    with _peft_errors(f"{name}: its settings cannot be read: ", "Save the adapter again."):
        config = PeftConfig.from_pretrained(str(folder))
    configured = {"rank": training.lora.rank, "alpha": training.lora.alpha, "dora": training.method == "dora"}
    saved = {"rank": config.r, "alpha": config.lora_alpha, "dora": config.use_dora}
    differing = [f"{name} {saved[name]}, not {configured[name]}" for name in saved if saved[name] != configured[name]]
    targets, kept = _targets(training.lora), config.target_modules
    if targets != "all-linear" and set(targets) != (kept if isinstance(kept, set) else {kept}):
        differing.append(f"target_modules {sorted(kept) if isinstance(kept, set) else kept}")
    if differing:
        say_once(f"model.adapter: keeps the settings that it was trained with: {'; '.join(differing)}")
    config.lora_dropout = training.lora.dropout
    if new_tokens:
        with add_rows_to_adapter(model, folder, config.trainable_token_indices, new_tokens) as (rows, grown):
            config.trainable_token_indices = rows
            adapted = load_adapter(model, grown, name=name, config=config, is_trainable=True)
    else:
        adapted = load_adapter(model, folder, name=name, config=config, is_trainable=True)
    for problem in training_problems(adapted, config, folder, training):
        raise ModelError(f"{name}: {problem}")
    return adapted


def load_adapter(
    model: PreTrainedModel, folder: Path, *, name: str | None = None, config: Any = None, is_trainable: bool = False
) -> Any:
    """Add a saved adapter to the model: its A and B, and whatever was trained or saved along.

    The model is frozen, and so is the adapter unless `is_trainable` is given.

    Args:
        name: What messages begin with; the folder if it is not given.
        config: peft's configuration of the adapter, if it is not to be read from the folder.

    Raises:
        ModelError: if the adapter lacks a tensor that this model needs, has one that it does not use or of another
            shape, or cannot be merged.
    """
    from peft import PeftConfig, PeftModelForCausalLM, set_peft_model_state_dict

    name = name or str(folder)
    with _peft_errors(f"{name}: this adapter does not fit the base: ", OTHER_BASE):
        config = config or PeftConfig.from_pretrained(str(folder))
        config.inference_mode, config.task_type = not is_trainable, "CAUSAL_LM"
        if is_empty(model):
            config = replace(config, init_lora_weights=True)  # others compute with the weights of the base
        adapted: Any = PeftModelForCausalLM(model, config)
        tensors = fit_tensors(adapted, read_tensors(folder, name=name), name=name)
        check_rows(zero_norms(tensors), name=name, advice="Use an adapter without DoRA.")
        for problem in merge_problems(adapted):
            raise ModelError(f"{name}: {problem}")
        if not is_empty(model):
            if has_two_embeddings(adapted, tensors):
                untie(adapted)
            set_peft_model_state_dict(adapted, tensors)
    if not is_trainable:
        adapted.requires_grad_(False)
    return adapted


def merge(adapted: Any) -> PreTrainedModel:
    """Merge the adapter into the weights of the model.

    If the model has one embedding for input and output, and an adapter on either, the two become different weights, and
    its config says so.

    Raises:
        ModelError: if a merged weight is not finite.
    """
    if has_adapted_embedding(adapted):
        untie(adapted)
    with _peft_errors("the adapter cannot be merged: ", "Use another adapter."):
        merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    return merged


def is_empty(model: Any) -> bool:
    """Whether the model is without weights."""
    return bool(next(model.parameters()).is_meta)


@contextmanager
def _peft_errors(problem: str, advice: str) -> Iterator[None]:
    """Within this context, whatever peft raises becomes a ModelError: the problem, its reason, and what to do.

    peft raises errors of many types, and does not wrap those of torch and safetensors. What it warns of is checked
    here: embeddings that are one weight, missing tensors, settings that it does not know.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"peft\.")
            yield
    except (FlyteLlamaError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: "
        reason = " ".join(str(error).split())
        shown = f"{reason[:300]} …" if len(reason) > 300 else reason.removesuffix(".")
        raise ModelError(f"{problem}{kind}{shown}. {advice}") from None


def _check_targets(model: Any, targets: Sequence[str]) -> None:
    """Check that each target name matches layers, and only layers that have a matrix to adapt."""
    from torch.nn import Embedding, Linear

    key = "training.lora.target_modules"
    modules = dict(model.named_modules())
    layers = sorted({name.rpartition(".")[2] for name, module in modules.items() if isinstance(module, Linear)})
    for target in targets:
        matching = [name for name in modules if name and (name == target or name.endswith(f".{target}"))]
        if not matching:
            advice = hint(target, layers, otherwise=f"Linear layers: {', '.join(layers)}.")
            raise ModelError(f"{key}: {target} matches no module of this base. {advice}")
        for name in matching:
            if not isinstance(modules[name], Linear | Embedding):
                raise ModelError(
                    f"{key}: {target} matches {name}, a {type(modules[name]).__name__}, which has no matrix that an "
                    f"adapter can change. Linear layers: {', '.join(layers)}."
                )


def _targets(lora: LoraConfig) -> str | list[str]:
    return "all-linear" if lora.target_modules == ["all-linear"] else lora.target_modules
