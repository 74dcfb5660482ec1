"""A prepared base → the model that a run trains: its kernels, its loss, and the weights that learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flyte_llama.config import ResolvedTraining
from flyte_llama.model.adapters.lora import add_adapters, continue_adapter, load_adapter, merge
from flyte_llama.model.base import check_architecture
from flyte_llama.model.files import ADAPTER_FOLDER
from flyte_llama.model.kernels import choose_attention, choose_cross_entropy, fuse_adapter_kernels, use_liger
from flyte_llama.model.loading import load_weights, torch_dtype
from flyte_llama.model.loss import use_lean_loss
from flyte_llama.model.token_rows import add_token_rows


def load_trainable_model(base: Path, training: ResolvedTraining) -> Any:
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
    kernel = choose_attention(training.attention, on_gpu=on_gpu, precision=training.precision)
    dtype, in_4_bits = torch_dtype(training.precision), training.method == "qlora"
    model: Any = load_weights(base, dtype=dtype, in_4_bits=in_4_bits, attention=kernel)
    check_architecture(model.config.model_type, name=str(base))
    new_tokens = add_token_rows(model, base)
    if training.liger:
        use_liger(model, on_gpu=on_gpu)

    cross_entropy = choose_cross_entropy(on_gpu=on_gpu, precision=training.precision)

    # Full fine-tuning: merge the earlier adapter, if any; then every weight learns.
    earlier = base / ADAPTER_FOLDER
    if training.method == "full":
        if earlier.is_dir():
            model = merge(load_adapter(model, earlier))
            model.requires_grad_(True)
        use_lean_loss(model, cross_entropy=cross_entropy)
        return model

    # LoRA, DoRA and QLoRA: the earlier adapter or a new one learns, and the base is frozen.
    if in_4_bits:
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    use_lean_loss(model, cross_entropy=cross_entropy)
    if earlier.is_dir():
        model = continue_adapter(model, earlier, training, new_tokens=new_tokens)
    else:
        model = add_adapters(model, training, new_tokens=new_tokens)
    fuse_adapter_kernels(model, training)
    # Recomputed activations need a gradient at the input, and the frozen embeddings would give none.
    if training.activation_checkpointing:
        model.enable_input_require_grads()
    return model
