"""A prepared base → the model that a run trains: its kernels, its loss, and the weights that learn."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import TrainingError
from flyte_llama.model.adapters import ADAPTER_FOLDER, add_adapters, continue_adapter, load_adapter, merge
from flyte_llama.model.attention import choose_attention
from flyte_llama.model.base import check_architecture
from flyte_llama.model.loading import add_embedding_rows, load_weights, torch_dtype
from flyte_llama.model.loss import use_lean_loss


def load_trainable_model(base: Path, training: TrainingConfig) -> Any:
    """Load the base for training by `training.method`; only the weights that learn require gradients.

    Weights that learn are float32 here, or bf16 with float32 master copies in DeepSpeed.

    Raises:
        ModelError: if the weights cannot be loaded, their architecture is not tested to keep documents apart, or the
            adapter to continue does not fit them.
        TrainingError: if this device cannot run the chosen attention or Liger kernels.
    """
    import torch

    # Load the weights, with rows for added tokens.
    on_gpu = torch.cuda.is_available()
    kernel = choose_attention(training.attention, on_gpu=on_gpu)
    dtype, in_4_bits = torch_dtype(training.precision), training.method == "qlora"
    model: Any = load_weights(base, dtype=dtype, in_4_bits=in_4_bits, attention=kernel)
    check_architecture(model.config.model_type, name=str(base))
    new_tokens = add_embedding_rows(model, base)
    if training.liger:
        _use_liger(model, on_gpu=on_gpu)

    # Full fine-tuning: merge the earlier adapter, if any; then every weight learns.
    earlier = base / ADAPTER_FOLDER
    if training.method == "full":
        if earlier.is_dir():
            model = merge(load_adapter(model, earlier))
            model.requires_grad_(True)
        use_lean_loss(model)
        return model

    # LoRA, DoRA and QLoRA: the earlier adapter or a new one learns, and the base is frozen.
    if in_4_bits:
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    use_lean_loss(model)
    if earlier.is_dir():
        model = continue_adapter(model, earlier, training, new_tokens=new_tokens)
    else:
        model = add_adapters(model, training, new_tokens=new_tokens)
    # Recomputed activations need a gradient at the input, and the frozen embeddings would give none.
    if training.activation_checkpointing:
        model.enable_input_require_grads()
    return model


def check_liger(*, on_gpu: bool) -> None:
    """Check that this machine can run Liger's kernels.

    Raises:
        TrainingError: if there is no GPU, or the package is not installed.
    """
    if not on_gpu or importlib.util.find_spec("liger_kernel") is None:
        lacking = (
            "the package liger-kernel (pip install liger-kernel)" if on_gpu else "a GPU, and this machine has none"
        )
        raise TrainingError(f"training.liger = true: needs {lacking}. Otherwise set it to false.")


def _use_liger(model: Any, *, on_gpu: bool) -> None:
    check_liger(on_gpu=on_gpu)
    patch = importlib.import_module("liger_kernel.transformers")._apply_liger_kernel_to_instance
    # Liger's cross entropy stays off: the lean loss reads only labelled positions and allows adapters on the head.
    patch(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
