"""Rows of zeros in the weights that DoRA adapts.

DoRA scales each row of W + s·B·A by magnitude / norm (Liu et al., arXiv 2402.09353, equation 5). Where a row of W has
only zeros and B is still zero, that is 0 / 0, and the first step makes the model NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flyte_llama.errors import ModelError
from flyte_llama.model.adapters.files import PREFIX
from flyte_llama.model.weights import weight_files

WITHOUT_DORA = "Use method: lora, or leave such layers out of training.lora.target_modules."


def zero_norms(tensors: Mapping[str, Any]) -> dict[str, int]:
    """Return layer → number of its rows whose norm is zero.

    peft takes each magnitude from the norm of its row when it adds the adapter.

    Args:
        tensors: The tensors of an adapter, named as in its file. Those without values (on torch's meta device) are left
            out.
    """
    found = {}
    for name, magnitude in tensors.items():
        layer, is_magnitude, _ = name.partition(".lora_magnitude_vector")
        if not is_magnitude or magnitude.is_meta:
            continue
        b = next(tensors[key] for key in (f"{layer}.lora_B.weight", f"{layer}.lora_embedding_B") if key in tensors)
        if num_zero := int(((magnitude.flatten() == 0) & (b == 0).all(dim=1)).sum()):
            found[layer.removeprefix(PREFIX)] = num_zero
    return found


def zero_rows(folder: Path, layers: Iterable[str]) -> dict[str, int]:
    """Return layer → number of rows that have only zeros in the weights of a model folder. Reads these weights whole.

    A layer whose weight the files do not hold under its name is left out.
    """
    from safetensors import safe_open

    files, found = weight_files(folder), {}
    for layer in layers:
        weight = f"{layer}.weight"
        if weight not in files:
            continue
        with safe_open(str(folder / files[weight]), framework="pt") as weights:
            if num_zero := int((weights.get_tensor(weight) == 0).all(dim=1).sum()):
                found[layer] = num_zero
    return found


def check_rows(num_zero: Mapping[str, int], *, name: str, advice: str) -> None:
    """Check that no layer has rows of zeros.

    Args:
        num_zero: Layer → number of rows that have only zeros.

    Raises:
        ModelError: naming the first layer that has, and how many others.
    """
    if num_zero:
        (layer, count), *others = num_zero.items()
        and_others = f", and rows of {len(others)} other layer{'s' * (len(others) > 1)}," if others else ""
        raise ModelError(
            f"{name}: {count:,} rows of {layer}.weight{and_others} have only zeros, and DoRA divides by the norm of "
            f"each row. {advice}"
        )
