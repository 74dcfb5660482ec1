"""The base classes of all pydantic models and of every stage's configuration, and a hint for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Frozen(BaseModel):
    """The base class of every pydantic model in the package: frozen, and it rejects unknown keys.

    Infinite numbers, such as the perplexity of a broken model, become strings in JSON, which has no number for them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class StageConfig(Frozen, use_attribute_docstrings=True, hide_input_in_errors=True):
    """The base class of one stage's configuration."""

    @field_validator("*", mode="before")
    @classmethod
    def _reject_conversions(cls, value: Any, info: ValidationInfo) -> Any:
        """Reject values that pydantic would silently convert to a number or a boolean, such as "4096" or "no".

        Its strict mode would do that too, but would also reject 4.0 for an integer, which Flyte's console sends.
        """
        annotation = cls.model_fields[str(info.field_name)].annotation
        if annotation in (int, float) and (isinstance(value, bool | str)):
            raise ValueError(f"should be a number, not {type(value).__name__}")
        if annotation is bool and not isinstance(value, bool):
            raise ValueError("should be true or false")
        return value


def hint(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """Return `Did you mean …?` with the nearest known name, or `otherwise` if no name is close."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else otherwise
