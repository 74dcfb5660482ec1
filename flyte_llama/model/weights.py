"""The weights of a model folder, as far as they can be checked without being read: the index, and each file's header.

model.safetensors                     all weights, or
model-00001-of-00002.safetensors …    parts of them, with
model.safetensors.index.json          {"weight_map": {weight: part}}
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from flyte_llama.errors import ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def weights_problems(folder: Path, *, name: str) -> list[str]:
    """Return a line if the folder lacks weights in safetensors, or if a file of them is cut off or lacks a weight."""
    # find the files that would be loaded
    try:
        files = listed_parts(folder, name=name)
    except ModelError as error:
        return [error.message]
    if missing := sorted(part for part in files if not os.path.isfile(folder / part)):
        return [f"{name}: lacks {missing[0]}, which its {INDEX} lists. Copy the whole model again."]
    if (folder / WEIGHTS).is_file():
        files.setdefault(WEIGHTS, set())
    if not files:
        return [f"{name}: holds {_what_is_there(folder)}. Save the model with safe_serialization=True, or use another."]

    # read their headers
    for file, expected in files.items():
        try:
            present = weight_names(folder / file, name=name)
        except ModelError as error:
            return [error.message]
        if not present or expected - present:
            reason = f"the weight {min(expected - present)}, which its {INDEX} lists there" if expected else "weights"
            return [f"{name}: {file} lacks {reason}. Copy the whole model again."]
    return []


def listed_parts(folder: Path, *, name: str) -> dict[str, set[str]]:
    """Return file → the weights that the index lists there; empty if the folder has no index.

    Raises:
        ModelError: if there is an index, but it lists no weights.
    """
    parts: dict[str, set[str]] = {}
    if not (folder / INDEX).is_file():
        return parts
    try:
        for weight, file in json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].items():
            parts.setdefault(os.fspath(file), set()).add(weight)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        parts = {}
    if not parts:
        raise ModelError(f"{name}: its {INDEX} lists no weights. Save the model again, or use another.")
    return parts


def weight_files(folder: Path) -> dict[str, str]:
    """Return weight → the file of the folder that holds it.

    Raises:
        ModelError: as for `listed_parts` and `weight_names`.
    """
    parts = listed_parts(folder, name=str(folder))
    if not parts and (folder / WEIGHTS).is_file():
        parts = {WEIGHTS: weight_names(folder / WEIGHTS, name=str(folder))}
    return {weight: part for part, weights in parts.items() for weight in weights}


def weight_names(file: Path, *, name: str) -> set[str]:
    """Return the names of the weights in a file in safetensors. Only its header is read.

    Raises:
        ModelError: if the file is damaged or cut off, or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        file.open("rb").close()  # `safe_open` reports a file that may not be read as missing
        with safe_open(str(file), framework="numpy") as weights:
            return set(weights.keys())
    except OSError as error:
        raise ModelError(f"{name}: {file.name} cannot be read ({error.strerror}). Change its permissions.") from None
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{name}: {file.name} is damaged or cut off ({error}). Copy the whole model again.") from None


def _what_is_there(folder: Path) -> str:
    """Return in words what a folder holds in place of weights that can be loaded."""
    if others := sorted(file.name for file in folder.glob("*.safetensors")):
        return f"{others[0]}, but neither {WEIGHTS} nor {INDEX}"
    pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    return f"only pickled weights ({pickled[0]}), which can run code" if pickled else "no weights"
