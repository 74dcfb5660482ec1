"""A prepared base → the model that a run trains: its kernels, its loss, and what of it learns."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import TrainingError
from flyte_llama.model.adapters import ADAPTER_FOLDER, add_adapters, continue_adapter, load_adapter, merge
from flyte_llama.model.architectures import check_architecture
from flyte_llama.model.attention import choose_attention
from flyte_llama.model.loading import add_rows, load_weights, torch_dtype
from flyte_llama.model.loss import use_lean_loss


def trainable_model(base: Path, training: TrainingConfig) -> Any:
    """The base as `training.method` trains it; only what learns requires gradients.

    Weights that learn are float32 here, or bf16 of which DeepSpeed keeps float32 master copies.

    Raises:
        ModelError: if there are no such weights, their architecture is not known to keep documents apart, or the
            adapter to go on from does not fit them.
        TrainingError: if the device cannot do what is asked.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    kernel = choose_attention(training.attention, on_gpu=on_gpu)
    dtype, in_4_bits = torch_dtype(training.precision), training.method == "qlora"
    model: Any = load_weights(base, dtype=dtype, in_4_bits=in_4_bits, attention=kernel)
    check_architecture(model.config.model_type, name=str(base))
    new_tokens = add_rows(model, base)
    if training.liger:
        _use_liger(model, on_gpu=on_gpu)
    earlier = base / ADAPTER_FOLDER
    if training.method == "full":
        if earlier.is_dir():
            model = merge(load_adapter(model, earlier))
            model.requires_grad_(True)
        use_lean_loss(model)
        return model
    if in_4_bits:
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    use_lean_loss(model)
    if earlier.is_dir():
        model = continue_adapter(model, earlier, training, new_tokens=new_tokens)
    else:
        model = add_adapters(model, training, new_tokens=new_tokens)
    if training.activation_checkpointing:
        model.enable_input_require_grads()
    return model


def _use_liger(model: Any, *, on_gpu: bool) -> None:
    if not on_gpu or importlib.util.find_spec("liger_kernel") is None:
        lacking = "the package liger-kernel (pip install liger-kernel)" if on_gpu else "a GPU; there is none here"
        raise TrainingError(f"training.liger = true: needs {lacking}. Or set it to false.")
    patch = importlib.import_module("liger_kernel.transformers")._apply_liger_kernel_to_instance
    # Not its cross entropy: the loss here reads labelled positions only, and lets adapters sit on the output head.
    patch(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
