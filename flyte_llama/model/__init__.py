"""The base model: pinned, prepared as a small folder that travels, loaded, made trainable, merged.

    pin_model(config)          → PinnedModel      a hub commit, a folder's digest, or `scratch`; an adapter's likewise
    prepare_base(pinned, …)    → base folder      config and tokenizer; weights only of a scratch model; the adapter
    load_model(base folder)    → the model        weights from the hub, a folder, or the base folder itself
    trainable_model(base, …)   → the model        with its kernels, its lean loss and its adapters
    merge_adapter(base, …)     → the model        with an adapter folded into its weights

Nothing heavy is imported before a function needs it.
"""

from flyte_llama.model.adapters import ADAPTER_FOLDER, ADAPTER_WEIGHTS, add_adapters
from flyte_llama.model.attention import document_mask
from flyte_llama.model.base import PinnedModel, copy_small_files, pin_model, prepare_base
from flyte_llama.model.loading import load_model, load_with_adapter, merge_adapter, open_model, torch_dtype
from flyte_llama.model.sdpa import sdpa_of_any_length
from flyte_llama.model.trainable import trainable_model

__all__ = [
    "ADAPTER_FOLDER",
    "ADAPTER_WEIGHTS",
    "PinnedModel",
    "add_adapters",
    "copy_small_files",
    "document_mask",
    "load_model",
    "load_with_adapter",
    "merge_adapter",
    "open_model",
    "pin_model",
    "prepare_base",
    "sdpa_of_any_length",
    "torch_dtype",
    "trainable_model",
]
