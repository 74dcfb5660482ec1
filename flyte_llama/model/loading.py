"""Weights: load a base or a fine-tuned folder, put adapters on it, merge them into it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import ModelError
from flyte_llama.model.base import BASE_FILE, read_base
from flyte_llama.progress import quiet_libraries

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def torch_dtype(precision: str) -> torch.dtype:
    """Of weights and forward pass: `bf16` or `fp32`, as in `training.precision`."""
    import torch

    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]


def load_model(folder: Path, *, dtype: torch.dtype, in_4_bits: bool = False) -> PreTrainedModel:
    """The causal language model of a prepared base or of a fine-tuned folder.

    Attention is torch's sdpa, which keeps packed documents apart by their positions if it is called without a KV cache
    and without an attention mask. Only safetensors are read, and
    no code that came with the model is run.

    Raises:
        ModelError: if there are no such weights.
    """
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    name, revision = str(folder), "main"
    if (folder / BASE_FILE).is_file():
        pinned = read_base(folder)
        if pinned.name != "scratch":
            name, revision = pinned.name, pinned.revision if not Path(pinned.name).is_dir() else "main"
    options: dict[str, Any] = {}
    if in_4_bits:
        from transformers import BitsAndBytesConfig

        # NF4 with double quantisation, as in QLoRA (Dettmers et al., arXiv 2305.14314, section 3).
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ModelError("training.method = 'qlora': needs bitsandbytes. pip install -r requirements-gpu.txt")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name,
            revision=revision,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            **options,
        )
    except (OSError, ValueError) as error:
        from_hub = not Path(name).is_dir()
        raise ModelError(f"{name} at {revision}: cannot be loaded: {error}", transient=from_hub) from None
    return model


def add_adapters(model: PreTrainedModel, training: TrainingConfig) -> Any:
    """The model with fresh LoRA adapters in float32, everything else frozen (Hu et al., arXiv 2106.09685)."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if training.method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    lora = training.lora
    targets = "all-linear" if lora.target_modules == ["all-linear"] else lora.target_modules
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(f"training.lora.target_modules = {targets}: {error}") from None


def merge_adapter(base: Path, adapter: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """The base with a saved adapter folded into its weights; done on the CPU, in `dtype`."""
    from peft import PeftModel

    merged: PreTrainedModel = PeftModel.from_pretrained(load_model(base, dtype=dtype), str(adapter)).merge_and_unload()
    return merged
