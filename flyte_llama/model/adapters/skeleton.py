"""A base without its weights, on which adapters are tried before a run: a few seconds on a CPU, whatever its size.

config.json → the model on torch's meta device, to which the same functions add the adapters as in training
(`adapters`). What peft refuses, or would do wrong, is then found before anything is downloaded or trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flyte_llama.config import TrainingConfig
from flyte_llama.config.model import ScratchConfig
from flyte_llama.errors import ModelError
from flyte_llama.model.adapters.dora import WITHOUT_DORA, check_rows, zero_rows
from flyte_llama.model.adapters.lora import add_adapters, continue_adapter, load_adapter
from flyte_llama.model.adapters.tensors import token_problems
from flyte_llama.progress import quiet_libraries


def check_adapters(
    config: Any,
    training: TrainingConfig | None,
    *,
    name: str,
    adapter: Path | None = None,
    adapter_name: str = "",
    num_tokens: int = 0,
    adds_tokens: bool = False,
    weights: Path | None = None,
) -> None:
    """Check that a run can adapt the base, train and merge the result.

    Args:
        config: The base's configuration in transformers, or the folder with its config.json.
        training: How it is trained; None if it is only evaluated.
        name: The base, for messages.
        adapter: Folder of the adapter to continue.
        num_tokens: Entries of the tokenizer with the control tokens that the run adds; 0 if it is not known.
        adds_tokens: Whether the run adds control tokens.
        weights: Folder with the base's weights, if it is on this machine: what depends on them is then checked too.

    Raises:
        ModelError: if config.json describes no model, peft cannot adapt it as configured, or the adapter does not fit.
    """
    method = training.method if training else "full"
    if adapter is None and (training is None or method == "full"):
        return
    import torch

    quiet_libraries()
    key = f"model.adapter = {adapter_name}"
    with torch.device("meta"):
        model = _empty_model(config, name=name)
        if num_tokens > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(num_tokens, mean_resizing=False)
        if adapter is None and training is not None:
            adapted = add_adapters(model, training)
        elif adapter is not None and training is not None and method != "full":
            adapted = continue_adapter(model, adapter, training, name=key)
        elif adapter is not None:
            adapted = load_adapter(model, adapter, name=key)
    for problem in token_problems(adapted) if adapter and adds_tokens and method != "full" else ():
        raise ModelError(f"{key}: {problem}")
    if weights is not None and method == "dora" and adapter is None:
        adapted_layers = [layer for layer, module in adapted.get_base_model().named_modules() if _is_dora(module)]
        check_rows(zero_rows(weights, adapted_layers), name="training.method = 'dora'", advice=WITHOUT_DORA)


def scratch_config(shape: ScratchConfig, *, vocab_size: int, **ids: Any) -> Any:
    """Return the configuration of a scratch Llama in transformers.

    Args:
        vocab_size: Entries of its tokenizer.
        ids: `bos_token_id` and `eos_token_id`, if the tokenizer is known.
    """
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        **ids,
    )


def _empty_model(config: Any, *, name: str) -> Any:
    """The model without weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        if isinstance(config, Path):
            config = AutoConfig.from_pretrained(config, trust_remote_code=False)
        # Which kernel computes attention makes no difference here, and every architecture has this one.
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager", trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # the library does not wrap what its configurations raise
        reason = " ".join(str(error).split())[:300].removesuffix(".") or type(error).__name__
        raise ModelError(f"{name}: its config.json describes no model: {reason}. Use another base.") from None


def _is_dora(module: Any) -> bool:
    return len(getattr(module, "lora_magnitude_vector", ())) > 0
