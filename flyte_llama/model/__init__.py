"""The base model: pin it, prepare it as a small folder, load it, make it trainable, merge its adapters.

    pin_model(config)               → PinnedModel     hub commit, folder digest or `scratch`, and the adapter's
    prepare_base(pinned, …)         → base folder     config, tokenizer and adapter; weights only for a scratch model
    load_model(base folder, …)      → the model       weights from the hub, a local folder or the base folder
    load_trainable_model(base, …)   → the model       with the run's attention kernel, lean loss and adapters
    merge_adapter(base, …)          → the model       with an adapter merged into its weights

Every file is checked before it is read (`files`). Does not train, score or generate. torch, transformers and peft are
imported only inside the functions that use them.
"""

from flyte_llama.model.attention import document_mask, sdpa_without_cudnn
from flyte_llama.model.base import PinnedModel, copy_small_files, model_identity, pin_model, prepare_base
from flyte_llama.model.files import ADAPTER_FOLDER, verify_sealed
from flyte_llama.model.loading import load_model, load_with_adapter, merge_adapter, open_model, torch_dtype
from flyte_llama.model.positions import find_shared_length
from flyte_llama.model.trainable import load_trainable_model

__all__ = [
    "ADAPTER_FOLDER",
    "PinnedModel",
    "copy_small_files",
    "document_mask",
    "find_shared_length",
    "load_model",
    "load_trainable_model",
    "load_with_adapter",
    "merge_adapter",
    "model_identity",
    "open_model",
    "pin_model",
    "prepare_base",
    "sdpa_without_cudnn",
    "torch_dtype",
    "verify_sealed",
]
