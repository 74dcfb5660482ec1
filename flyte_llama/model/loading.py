"""Load the weights of a base or a fine-tuned folder, with rows for added tokens (`token_rows`) and adapters merged."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.errors import ModelError
from flyte_llama.model.adapters.lora import load_adapter, merge
from flyte_llama.model.base import BASE_FILE, read_base, verify_base
from flyte_llama.model.files import ADAPTER_FOLDER, download_weights, verify_pinned, verify_sealed
from flyte_llama.model.token_rows import add_token_rows
from flyte_llama.progress import quiet_libraries

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def torch_dtype(precision: str) -> torch.dtype:
    """The torch dtype of weights and forward pass for `bf16` or `fp32`, the values of `training.precision`."""
    import torch

    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]


def load_model(folder: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """Load the causal language model of a prepared base or a fine-tuned folder, for scoring or generation.

    A prepared base gets embedding rows for the tokens added to its tokenizer, and its adapter is merged, if it has one.
    Only safetensors are read, and code that came with the model never runs.

    Raises:
        DataError: if a file differs from the manifest of the folder, or from the pinned revision of the base.
        ModelError: if the weights cannot be loaded, or the adapter or the tokenizer does not fit them.
    """
    model = load_weights(folder, dtype=dtype)
    add_token_rows(model, folder)
    if (folder / BASE_FILE).is_file() and (folder / ADAPTER_FOLDER).is_dir():
        model = merge(load_adapter(model, folder / ADAPTER_FOLDER))
    return model


def open_model(folder: Path, *, precision: str) -> tuple[PreTrainedModel, DocumentTokenizer]:
    """Load a folder's model for evaluation, on the GPU if there is one, and its tokenizer.

    Args:
        precision: `bf16` or `fp32`, for the weights and the forward pass.

    Raises:
        DataError: as for `load_model`.
        ModelError: as for `load_model`; also if the folder has no tokenizer, or the model is not causal or cannot run.
    """
    import torch

    verify_base(folder)
    tokenizer = DocumentTokenizer(folder)
    model: Any = load_model(folder, dtype=torch_dtype(precision))
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    _check_causal(model, str(folder))
    return model, tokenizer


def load_weights(
    folder: Path, *, dtype: torch.dtype, in_4_bits: bool = False, attention: str | None = None
) -> PreTrainedModel:
    """Load the weights as published, without rows for added tokens or adapters, after checking every file.

    Args:
        attention: The name of an attention kernel in transformers. None is torch's sdpa, which runs on every device, or
            eager attention for architectures that have no other.

    Raises:
        DataError: if a file differs from the manifest of the folder, or from the pinned revision of the base.
        ModelError: if the weights cannot be loaded, or some are missing.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    name, source = find_weights(folder)
    options = _four_bit_options(dtype) if in_4_bits else {}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(source),
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the library does not wrap what its configurations and safetensors raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{name}: cannot be loaded: {lines[0]}. Save the model again, or use another.") from None
    model: PreTrainedModel
    model, info = loaded
    # With a config that says tied, the library would later replace an output embedding that it has just loaded.
    output = model.get_output_embeddings()
    if output is not None and output.weight is not model.get_input_embeddings().weight:
        model.config.tie_word_embeddings = False
    # The library would fill missing weights with random numbers and continue.
    lacking = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if lacking:
        raise ModelError(
            f"{name}: {len(lacking)} weights are missing or misshapen, such as {lacking[0]}. Save the model again."
        )
    return model


def find_weights(folder: Path) -> tuple[str, Path]:
    """Return the name of a folder's model and the checked folder that holds its weights.

    A prepared base names where its weights are; any other folder holds them. Weights on the hub are downloaded.

    Raises:
        DataError: if a file differs from the manifest of the folder, or from the pinned revision of the base.
        ModelError: if the hub cannot be reached.
    """
    verify_base(folder)
    pinned = read_base(folder) if (folder / BASE_FILE).is_file() else None
    if pinned is None or pinned.name == "scratch":
        return str(folder), folder
    if pinned.is_local:
        verify_pinned(Path(pinned.name), pinned.revision)
        return pinned.name, Path(pinned.name)
    return f"{pinned.name} at {pinned.revision}", download_weights(pinned.name, pinned.revision)


def load_with_adapter(base: Path, adapter: Path, *, dtype: torch.dtype, in_4_bits: bool = False) -> Any:
    """Load the base and add a saved adapter, in place of the base's adapter if it has one."""
    verify_sealed(adapter)
    model = load_weights(base, dtype=dtype, in_4_bits=in_4_bits)
    add_token_rows(model, base)
    return load_adapter(model, adapter)


def merge_adapter(base: Path, adapter: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """Load the base and merge a saved adapter into its weights, on the CPU and in `dtype`."""
    return merge(load_with_adapter(base, adapter, dtype=dtype))


def _four_bit_options(dtype: torch.dtype) -> dict[str, Any]:
    """Options to load in NF4 with double quantisation, as in QLoRA (Dettmers et al., arXiv 2305.14314, section 3)."""
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("training.method = 'qlora': needs bitsandbytes. pip install -r requirements-gpu.txt")
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": config}


def _check_causal(model: Any, name: str) -> None:
    import torch

    # Two rows that differ in the last id alone: a causal model gives the same logits at all earlier positions.
    last = min(3, model.get_input_embeddings().num_embeddings - 1)
    rows = torch.tensor([[0, 1, 0, 1], [0, 1, 0, last]], device=model.device)
    try:
        with torch.inference_mode():
            first, second = model(rows, use_cache=False).logits[:, :-1].float()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # some architectures need more than ids, or ids of certain lengths
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{name}: cannot predict text: {lines[0]}. Use another model.") from None
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-3, equal_nan=True):
        raise ModelError(f"{name}: sees the tokens that it is to predict, so it has no perplexity. Use a causal model.")
