"""The base model: pinned, prepared as a small folder that travels, loaded, adapted, exported.

    pin_model(config)          → PinnedModel      a hub commit, a folder's digest, or `scratch`
    prepare_base(pinned, …)    → base folder      config and tokenizer; weights only of a scratch model
    load_model(base folder)    → the model        weights from the hub, a folder, or the base folder itself
    add_adapters, merge_adapter                   LoRA

Nothing heavy is imported before a function needs it.
"""

from flyte_llama.model.base import PinnedModel, copy_small_files, pin_model, prepare_base
from flyte_llama.model.loading import add_adapters, load_model, merge_adapter, torch_dtype

__all__ = [
    "PinnedModel",
    "add_adapters",
    "copy_small_files",
    "load_model",
    "merge_adapter",
    "pin_model",
    "prepare_base",
    "torch_dtype",
]
