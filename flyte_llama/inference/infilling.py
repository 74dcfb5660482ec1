"""The layout of a model's infill prompts: the order that most of its training had, if it was trained to infill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flyte_llama.encoding import DocumentTokenizer, read_control_tokens
from flyte_llama.errors import ModelError
from flyte_llama.inference.prompts import PSM, SPM
from flyte_llama.model import ADAPTER_FOLDER
from flyte_llama.storage import is_sealed, read_manifest


def find_layout(folder: Path, tokenizer: DocumentTokenizer) -> str | None:
    """Return the layout of a folder's model, PSM or SPM; None if the model does not infill.

    Raises:
        DataError: if the folder's manifest is damaged.
        ModelError: if its record of control tokens is damaged.
    """
    return recorded_layout(folder) if can_infill(folder, tokenizer) else None


def can_infill(folder: Path, tokenizer: DocumentTokenizer) -> bool:
    """Whether the model of a folder has infill tokens, and rows for them that were trained.

    Raises:
        ModelError: if the folder's record of control tokens is damaged.
    """
    # The rows of tokens that a run added are random in its base, so the base cannot infill.
    record = read_control_tokens(folder)
    untrained = set() if record is None or (folder / ADAPTER_FOLDER).is_dir() else set(record.added_ids)
    return tokenizer.infill is not None and untrained.isdisjoint(tokenizer.infill)


def recorded_layout(folder: Path) -> str:
    """Return the layout that the training of a folder's model recorded; PSM, the usual one, if it recorded none.

    Raises:
        DataError: if the folder's manifest is damaged.
    """
    return PSM if _summary_in(folder).get("psm_share", 0.5) >= 0.5 else SPM


def check_writes_text(folder: Path, *, name: str) -> None:
    """Raise ModelError if the training of a folder's model made an encoder, which writes no text.

    Args:
        name: What the message calls the model.
    """
    if _summary_in(folder).get("objective") == "mlm":
        raise ModelError(f"{name}: is an encoder (objective.kind: mlm), which writes no text. Use another model.")


def _summary_in(folder: Path) -> dict[str, Any]:
    """Return the summary of the training of a folder's model; empty if it has none."""
    return dict(read_manifest(folder).get("summary", {})) if is_sealed(folder) else {}
