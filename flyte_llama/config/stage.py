"""What every stage's configuration is built on."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class StageConfig(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic's strict mode, but for whole-numbered floats: that is how Flyte's console sends integers."""
        wanted = cls.model_fields[str(info.field_name)].annotation
        if wanted in (int, float) and (isinstance(value, bool | str)):
            raise ValueError(f"should be a number, not {type(value).__name__}")
        if wanted is bool and not isinstance(value, bool):
            raise ValueError("should be true or false")
        return value
