"""The tensors of a saved adapter beside the model that it is added to: what fits, can be merged and can be trained.

The model is peft's, with the layers of the adapter already in it. It may be without weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import ModelError
from flyte_llama.model.adapters.files import ADAPTER_WEIGHTS, PREFIX
from flyte_llama.model.weights import weight_names

OTHER_BASE = "Use the base that it was trained on, or merge it there and give the merged model as model.name."


def fit_tensors(adapted: Any, tensors: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Return the tensors of a saved adapter as this model loads them, after checking names and shapes.

    An adapter may hold whole embeddings of its base, which then replace the base's own. It may lack token rows, if it
    was trained before their tokens were added; these are then returned as they are in the model.

    Raises:
        ModelError: if the adapter lacks a tensor that this model needs, or has one that it does not use or of another
            shape.
    """
    from peft import get_peft_model_state_dict

    expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    renamed = _embedding_names(adapted, adapted.state_dict())
    replaced = {renamed[tensor]: tensors[tensor] for tensor in tensors if tensor not in expected and tensor in renamed}
    fitted = {tensor: values for tensor, values in tensors.items() if tensor in expected} | replaced

    # names
    lacking = sorted(tensor for tensor in expected.keys() - fitted.keys() if "token_adapter" not in tensor)
    unused = sorted(tensors.keys() - expected.keys() - renamed.keys())
    if lacking or unused:
        problem = "lacks the tensor" if lacking else "has a tensor that the model does not use:"
        raise ModelError(
            f"{name}: this adapter {problem} {(lacking or unused)[0]}. It is incomplete, or made for another base."
        )

    # shapes
    in_model = adapted.state_dict() | expected
    for tensor, values in fitted.items():
        if values.shape != in_model[tensor].shape:
            saved, needed = (" x ".join(map(str, each.shape)) for each in (values, in_model[tensor]))
            raise ModelError(
                f"{name}: this adapter does not fit the base: its {tensor} is {saved}, and the base needs {needed}. It "
                f"was trained on another base, or with other tokens. {OTHER_BASE}"
            )
    return expected | fitted


def token_problems(adapted: Any) -> Iterator[str]:
    """Yield why the rows of new tokens cannot be learned beside this adapter: it changes a whole embedding."""
    from peft.tuners.lora.layer import LoraLayer
    from peft.utils.other import ModulesToSaveWrapper

    for name, layer in _embeddings(adapted).items():
        if isinstance(layer, LoraLayer | ModulesToSaveWrapper):
            yield (
                f"changes {name}, so rows for the control tokens that the objective adds cannot be learned beside it. "
                "Merge it into its base and give the merged model as model.name, or use objective.kind: clm."
            )
            return


def merge_problems(adapted: Any) -> Iterator[str]:
    """Yield why a saved adapter cannot be merged, though peft can load it."""
    config = adapted.peft_config["default"]
    for layer, module in adapted.get_base_model().named_modules():
        has_bias = config.lora_bias and hasattr(module, "lora_bias") and any(module.lora_bias.values())
        if has_bias and getattr(module.base_layer, "bias", None) is None:
            yield f"its B has a bias (lora_bias) for {layer}, which has none to merge it into. Use another adapter."
            return
    if getattr(config, "target_modules_to_tie", None):
        yield (
            "it has one A and B for the input and the output embedding (ensure_weight_tying), which cannot be trained "
            "or merged apart. Merge it where it was trained, and give the merged model as model.name."
        )


def training_problems(adapted: Any, config: Any, folder: Path, training: TrainingConfig) -> Iterator[str]:
    """Yield why the adapter saved in a folder cannot be trained by the configured method or ZeRO stage."""
    from peft.utils.other import ModulesToSaveWrapper
    from torch.nn import Linear

    # Their weights are in the adapter's file, but are the base's, or are not trained.
    kept = [f"bias: {config.bias}"] if config.bias != "none" else []
    kept += ["embeddings of the base"] if replaces_embeddings(adapted, folder) else []
    kept += ["init_lora_weights: mica"] if config.init_lora_weights == "mica" else []
    if training.deepspeed.zero_stage == 3 and kept:
        yield (
            f"has {kept[0]}, which cannot be loaded or saved while training.deepspeed.zero_stage: 3 splits the weights "
            "over the processes. Use zero_stage: 2 or less."
        )
    if training.method == "qlora":
        if config.init_lora_weights in _CHANGE_BASE:
            yield (
                f"init_lora_weights = {config.init_lora_weights}: it changes the weights of the base, which have 4 "
                "bits with method: qlora. Use method: lora."
            )
        model = adapted.get_base_model()
        for layer, module in model.named_modules():
            if not isinstance(module, ModulesToSaveWrapper) or module is model.get_output_embeddings():
                continue
            if any(isinstance(each, Linear) for each in module.original_module.modules()):
                yield (
                    f"trains all of {layer} (modules_to_save), whose weights have 4 bits with method: qlora. Use "
                    "method: lora."
                )
                return


def replaces_embeddings(adapted: Any, folder: Path) -> bool:
    """Whether the adapter saved in a folder holds whole embeddings of its base, besides what it trains.

    An adapter that continues it must hold them too.
    """
    from peft import get_peft_model_state_dict

    names = weight_names(folder / ADAPTER_WEIGHTS, name=str(folder))
    return not names <= get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()


def has_two_embeddings(adapted: Any, tensors: Mapping[str, Any]) -> bool:
    """Whether fitted tensors have an input and another output embedding of the base."""
    names = set(_embedding_names(adapted, adapted.state_dict()).values())
    embeddings = [tensors[name] for name in names if name in tensors]
    return len(embeddings) == 2 and not bool((embeddings[0] == embeddings[1]).all())


def has_adapted_embedding(adapted: Any) -> bool:
    """Whether the input or the output embedding has an adapter."""
    from peft.tuners.lora.layer import LoraLayer

    return any(isinstance(layer, LoraLayer) for layer in _embeddings(adapted).values())


def untie(adapted: Any) -> None:
    """Give the output embedding a weight of its own, if it shares that of the input embedding."""
    from torch.nn import Parameter

    layers = [_unwrapped(layer) for layer in _embeddings(adapted).values()]
    if len(layers) == 2 and layers[0].weight is layers[1].weight:
        layers[1].weight = Parameter(layers[1].weight.detach().clone())


_CHANGE_BASE = ("pissa", "olora", "mica")
"""`init_lora_weights` with which peft computes on the weights of the base when it adds the adapter."""


def _embedding_names(adapted: Any, state: Mapping[str, Any]) -> dict[str, str]:
    """Return the names that an adapter's file may give to the embeddings of the base → their name in the model.

    An embedding is called otherwise where it has an adapter or token rows, so it may be in the file by another name
    than in this model.
    """
    names: dict[str, str] = {}
    for layer in _embeddings(adapted):
        spellings = [f"{PREFIX}{layer}.{inner}weight" for inner in ("", "base_layer.", "token_adapter.base_layer.")]
        in_model = [spelling for spelling in spellings if spelling in state]
        names |= {spelling: in_model[0] for spelling in spellings if in_model}
    return names


def _embeddings(adapted: Any) -> dict[str, Any]:
    """Return name in the base → module of the input embedding, and then of the output embedding if it has one."""
    model = adapted.get_base_model()
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    names = {module: name for name, module in model.named_modules()}
    return {names[layer]: layer for layer in layers if layer is not None}


def _unwrapped(layer: Any) -> Any:
    """The layer of the base inside what peft put around it."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    while isinstance(layer, AuxiliaryTrainingWrapper | BaseTunerLayer):
        layer = layer.original_module if isinstance(layer, AuxiliaryTrainingWrapper) else layer.get_base_layer()
    return layer
