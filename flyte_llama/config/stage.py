"""The base classes of all pydantic models and of every stage's configuration, and a hint for mistyped names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, ValidatorFunctionWrapHandler, field_validator

from flyte_llama.redaction import may_hold_password

Auto = Literal["auto"]
"""The value of a field that the run chooses: the fastest that fits the device."""

MAX_SEED = 2**32 - 1
"""The largest seed that numpy takes."""

MAX_TOKENS = 2**24
"""The longest input of any field; the longest of today's models take 10 million tokens."""

_REFUSAL = (
    "contains a secret, or a part that may be one: an access token, a password, or the query of a URL. Remove it, and "
    "use git's credential helper or a Flyte secret"
)
# Somewhere it is tomorrow already.
_ONE_DAY = timedelta(days=1)
_EXPONENT = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+")


class Frozen(BaseModel):
    """The base class of every pydantic model in the package: frozen, and it rejects unknown keys.

    Infinite numbers, such as the perplexity of a broken model, become strings in JSON, which has no number for them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class StageConfig(Frozen, use_attribute_docstrings=True, hide_input_in_errors=True):
    """The base class of one stage's configuration. No text in it may contain a secret."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_secrets(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse texts, lists of texts and keys that contain a secret: a configuration ends up in logs and caches."""
        if any(map(may_hold_password, _texts_of(value))):
            raise ValueError(_REFUSAL)
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _reject_conversions(cls, value: Any, info: ValidationInfo) -> Any:
        """Reject values that pydantic would silently convert to a number or a boolean, such as "4096" or "no".

        Its strict mode would do that too, but would also reject 4.0 for an integer, which Flyte's console sends. Only
        `3e-3` may come as a text, because YAML 1.1 reads it so.
        """
        annotation = cls.model_fields[str(info.field_name)].annotation
        origin, arguments = get_origin(annotation), get_args(annotation)
        if Auto in arguments and value != "auto":
            return _pinned(value, arguments)
        if origin is Literal and isinstance(value, bool):
            raise ValueError(f"should be {' or '.join(map(str, arguments))}")
        if origin is dict and isinstance(value, dict) and float in arguments:
            return _numbers(value)
        if origin is not dict and {int, float} & {annotation, *arguments}:
            return _number(value)
        if annotation is bool and not isinstance(value, bool):
            raise ValueError("should be true or false")
        return value

    @field_validator("*", mode="wrap")
    @classmethod
    def _accept_auto(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """Accept `auto` where a field allows it; its limits are for numbers."""
        may_be_auto = Auto in get_args(cls.model_fields[str(info.field_name)].annotation)
        return value if may_be_auto and value == "auto" else handler(value)


def _texts_of(value: Any) -> list[str]:
    """Return the text, the texts of a list, or the keys of a mapping, which is checked field by field."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    items = [value] if isinstance(value, str) else value if isinstance(value, list | tuple | dict) else []
    return [item for item in items if isinstance(item, str)]


def _pinned(value: Any, choices: tuple[Any, ...]) -> Any:
    """Return the value if it is of the field's other type; the error names both."""
    if bool in choices:
        if not isinstance(value, bool):
            raise ValueError("should be true, false or auto")
        return value
    number = float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number // 1:
        raise ValueError("should be a whole number or auto")
    return int(number)


def _number(value: Any) -> Any:
    """Return the value, or the number of a text like 3e-3; raise ValueError for a boolean or another text."""
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    if isinstance(value, bool | str):
        raise ValueError(f"should be a number, not {'true or false' if isinstance(value, bool) else 'a text'}")
    return value


def _numbers(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the values as `_number` does; the error names every key that has none."""
    numbers, problems = {}, []
    for key, value in values.items():
        try:
            numbers[key] = _number(value)
        except ValueError as error:
            problems.append(f"{key} {error}")
    if problems:
        raise ValueError(", and ".join(problems))
    return numbers


def check_day(day: Any, *, otherwise: str) -> str:
    """Return a past day as text, `2026-06-01`, or the empty text that stands for none.

    Args:
        day: A text, or a date: YAML makes one of an unquoted day.
        otherwise: What to write instead of a day in the future.

    Raises:
        ValueError: if it is none of these.
    """
    text = day.isoformat() if isinstance(day, date) else day
    if text == "":
        return ""
    # fromisoformat also reads 20230824 and the days of weeks.
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("is not a date. Write YYYY-MM-DD")
    try:
        parsed = date.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a date, since there is no such day. Write YYYY-MM-DD") from None
    if parsed > datetime.now(UTC).date() + _ONE_DAY:
        raise ValueError(f"is in the future. {otherwise}")
    return text


def hint(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """Return `Did you mean …?` with the nearest known name, or `otherwise` if no name is close."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else otherwise
