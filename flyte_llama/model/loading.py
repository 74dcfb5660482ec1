"""Weights: load a base or a fine-tuned folder, with tokens added and adapters merged."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyte_llama.errors import ModelError
from flyte_llama.model.adapters import ADAPTER_FOLDER, load_adapter, merge
from flyte_llama.model.base import BASE_FILE, read_base
from flyte_llama.model.embeddings import grow_embeddings
from flyte_llama.progress import quiet_libraries
from flyte_llama.tokens import TOKENIZER_FILE, DocumentTokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def torch_dtype(precision: str) -> torch.dtype:
    """Of weights and forward pass: `bf16` or `fp32`, as in `training.precision`."""
    import torch

    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]


def load_model(folder: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """The causal language model of a prepared base or of a fine-tuned folder, to be scored or used.

    A prepared base has a row of embeddings for each entry of its tokenizer, and the adapter it comes with is merged
    into it. Only safetensors are read, and no code that came with the model is run.

    Raises:
        ModelError: if there are no such weights.
    """
    model = load_weights(folder, dtype=dtype)
    add_rows(model, folder)
    if (folder / BASE_FILE).is_file() and (folder / ADAPTER_FOLDER).is_dir():
        model = merge(load_adapter(model, folder / ADAPTER_FOLDER))
    return model


def open_model(folder: Path, *, precision: str) -> tuple[PreTrainedModel, DocumentTokenizer]:
    """The model of a folder, to be measured, on a GPU if there is one; and that folder's tokenizer.

    Args:
        precision: `bf16` or `fp32`, of the weights and the forward pass.

    Raises:
        ModelError: as `load_model`, without a tokenizer, and if the model is not causal.
    """
    import torch

    tokenizer = DocumentTokenizer(folder)
    model: Any = load_model(folder, dtype=torch_dtype(precision))
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    _check_causal(model, str(folder))
    return model, tokenizer


def load_weights(
    folder: Path, *, dtype: torch.dtype, in_4_bits: bool = False, attention: str = "sdpa"
) -> PreTrainedModel:
    """The weights as they were published, without added tokens or adapters.

    Args:
        attention: transformers' name of a kernel. The default, torch's sdpa, runs on every device.

    Raises:
        ModelError: if there are no such weights.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    name, revision = str(folder), "main"
    if (folder / BASE_FILE).is_file():
        pinned = read_base(folder)
        if pinned.name != "scratch":
            name, revision = pinned.name, pinned.revision if not Path(pinned.name).is_dir() else "main"
    options = _four_bits(dtype) if in_4_bits else {}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            revision=revision,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the library lets those of its configurations and of safetensors through
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"{name} at {revision}: cannot be loaded: {said[0]}. Save the model anew, or name another.",
            transient=not Path(name).is_dir(),
        ) from None
    model: PreTrainedModel
    model, info = loaded
    # The library would fill what is missing with chance and go on.
    lacking = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if lacking:
        raise ModelError(
            f"{name} at {revision}: {len(lacking)} weights are missing or misshapen, as {lacking[0]}. "
            "Save the model anew."
        )
    return model


def add_rows(model: Any, folder: Path) -> range:
    """Give the model rows for control tokens that were added to the folder's tokenizer; their ids.

    Raises:
        ModelError: if the tokenizer makes other ids, too, that the model has no rows for.
    """
    if not (folder / TOKENIZER_FILE).is_file():
        return range(0)
    tokenizer, num_rows = DocumentTokenizer(folder), model.get_input_embeddings().num_embeddings
    if tokenizer.num_text_ids > num_rows:
        raise ModelError(
            f"{folder}: the tokenizer has {tokenizer.num_text_ids:,} entries, the model {num_rows:,} rows. Save the "
            "model with its own tokenizer."
        )
    return grow_embeddings(model, tokenizer.vocab_size)


def _check_causal(model: Any, name: str) -> None:
    import torch

    last = min(3, model.get_input_embeddings().num_embeddings - 1)
    two = torch.tensor([[0, 1, 0, 1], [0, 1, 0, last]], device=model.device)
    with torch.inference_mode():
        one, other = model(two, use_cache=False).logits[:, :-1].float()
    if not torch.allclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True):
        raise ModelError(f"{name}: sees the tokens that it is to predict, so it has no perplexity. Use a causal model.")


def merge_adapter(base: Path, adapter: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """The base with a saved adapter folded into its weights; done on the CPU, in `dtype`."""
    return merge(load_with_adapter(base, adapter, dtype=dtype))


def load_with_adapter(base: Path, adapter: Path, *, dtype: torch.dtype, in_4_bits: bool = False) -> Any:
    """The base, without the adapter that it may come with, under a saved one."""
    model = load_weights(base, dtype=dtype, in_4_bits=in_4_bits)
    add_rows(model, base)
    return load_adapter(model, adapter)


def _four_bits(dtype: torch.dtype) -> dict[str, Any]:
    """NF4 with double quantisation, as in QLoRA (Dettmers et al., arXiv 2305.14314, section 3)."""
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("training.method = 'qlora': needs bitsandbytes. pip install -r requirements-gpu.txt")
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": config}
