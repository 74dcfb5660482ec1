"""The problems of single fields, one line each: the key, its value, the reason and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from flyte_llama.config.config_file import ConfigFile, Misread
from flyte_llama.config.source import SourceConfig
from flyte_llama.config.stage import hint
from flyte_llama.errors import ConfigError
from flyte_llama.redaction import may_hold_password

# Names that other programs give to keys, and what the key is called here.
_OTHER_NAMES = {
    "base_model": "model",
    "batch_size": "global_batch_size",
    "bf16": "precision",
    "block_size": "seq_len",
    "branch": "ref",
    "commit": "ref",
    "context_length": "seq_len",
    "eval": "evaluation",
    "folders": "paths",
    "gradient_accumulation_steps": "global_batch_size",
    "gradient_checkpointing": "activation_checkpointing",
    "include": "paths",
    "lr": "learning_rate",
    "max_length": "seq_len",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "path": "url",
    "per_device_train_batch_size": "micro_batch_size",
    "r": "rank",
    "repo": "url",
    "repository": "url",
    "revision": "ref",
    "tag": "ref",
    "test": "heldout",
}
# pydantic's kind of error → our words, where pydantic speaks of Python's types or of parsing.
_WORDS = {
    "bool_type": "should be true or false",
    "dict_type": "should be keys and values",
    "float_type": "should be a number",
    "int_from_float": "should be a whole number",
    "int_parsing_size": "is too large",
    "int_type": "should be a whole number",
    "list_type": "should be a list. Begin each of its items with a dash",
    "model_type": "should be keys and values",
    "string_too_long": "is too long",
    "string_too_short": "is empty. Write a text",
    "string_type": "should be a text",
    "too_short": "should have at least one item",
}


def report_problems(
    problems: Sequence[str], *, file: ConfigFile | None = None, stages: Mapping[str, Any] | None = None
) -> ConfigError:
    """Return the one error that lists all problems.

    Args:
        file: The file that has them, to be named in the message.
        stages: Name → the stages that are valid by themselves.
    """
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    begin = f"{file.name}: {count}" if file else f"{count} in the configuration"
    message = "\n  - ".join([f"{begin}; nothing was fetched or run:", *problems])
    return ConfigError(message, problems=problems, stages=stages)


def field_problems(
    errors: list[ErrorDetails], model: type[BaseModel], data: Any, file: ConfigFile | None = None
) -> list[str]:
    """Return one line for each of pydantic's errors, with the value as the user wrote it in `data` or in the file."""
    locations = [error["loc"] for error in errors]
    # If all items of a list are invalid, pydantic also reports the list as too short. Only the items matter.
    innermost = [error for error in errors if not any(_is_inside(location, error["loc"]) for location in locations)]
    return [_describe(error, model, data, file) for error in innermost]


def _is_inside(location: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(location) > len(outer) and location[: len(outer)] == outer


def _describe(error: ErrorDetails, model: type[BaseModel], data: Any, file: ConfigFile | None) -> str:
    keys = list(error["loc"])
    # For example corpus.train[0].url.
    shown = [key if _may_be_shown(key) else "(not shown)" for key in keys]
    key_path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in shown).lstrip(".") or "the file"
    if error["type"] == "extra_forbidden":
        return f"{key_path}: unknown key. {_suggestion(str(keys[-1]), _model_at(model, keys[:-1]))}"
    if error["type"] == "missing":
        return f"{key_path}: is missing and has no default. Add it."
    value, written = _value_at(data, keys), file.written(keys) if file else None
    if value is None and error["type"] in ("model_type", "list_type", "dict_type"):
        return f"{key_path}: is empty. Remove the key, or write something under it."
    return f"{key_path} = {_value_text(value, written)}: {_reason(error, model, keys, value, written)}."


def _reason(
    error: ErrorDetails, model: type[BaseModel], keys: Sequence[int | str], value: Any, written: str | None
) -> str:
    """Return what is wrong with a value, and what to write instead."""
    kind = error["type"]
    if kind == "string_type" and written is not None and value is not None:
        return f"YAML does not take it for a text. Write '{written}' in quotes"
    if isinstance(value, Misread):
        return value.advice
    if kind == "model_type" and isinstance(value, str) and _model_at(model, keys) is SourceConfig:
        return f"is a text, and a source has keys. Write {{url: {value if _may_be_shown(value) else '...'}}}"
    if kind == "less_than_equal":
        return f"should be at most {error['ctx']['le']:,}"
    return _WORDS.get(kind) or error["msg"].removeprefix("Value error, ").removeprefix("Input ")


def _model_at(model: type[BaseModel], keys: Sequence[int | str]) -> type[BaseModel]:
    """Return the model that `keys` lead to from `model`."""
    for key in keys:
        if isinstance(key, str):
            annotation = model.model_fields[key].annotation
            # The model is the annotation itself, or an argument of it, as in list[SourceConfig].
            types = [annotation, *getattr(annotation, "__args__", ())]
            model = next(inner for inner in types if isinstance(inner, type) and issubclass(inner, BaseModel))
    return model


def _suggestion(name: str, model: type[BaseModel]) -> str:
    """Return the key that an unknown one may stand for: near it, under another name, or in a stage below."""
    known, wanted = list(model.model_fields), _OTHER_NAMES.get(name, name)
    if wanted in known:
        return f"Did you mean {wanted}?"
    below = next((path for path in _paths_below(model) if path.split(".")[-1] == wanted), None)
    return hint(name, known, otherwise=f"Did you mean {below}?" if below else f"Known keys: {', '.join(known)}.")


def _paths_below(model: type[BaseModel]) -> Iterator[str]:
    """Yield the paths of the keys in the stages of a model, such as training.lora.rank."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for inner in (*field.annotation.model_fields, *_paths_below(field.annotation)):
                yield f"{name}.{inner}"


def _value_at(data: Any, keys: Sequence[int | str]) -> Any:
    """Return the value that `keys` lead to; `...` if the user wrote none."""
    for key in keys:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return ...
    return data


def _value_text(value: Any, written: str | None) -> str:
    """Return the value as the user wrote it, shortened. A value that contains a credential is never shown."""
    if value is ...:
        return "(default)"
    text = written if written and not isinstance(value, str) else repr(value)
    if not _may_be_shown(value) or not _may_be_shown(text):
        return "(not shown)"
    return text if len(text) <= 60 else text[:57] + "..."


def _may_be_shown(value: Any) -> bool:
    """Whether no text in the value may hold a secret. The text as such, since `repr` would escape its line breaks."""
    if isinstance(value, Mapping):
        return all(_may_be_shown(key) and _may_be_shown(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_may_be_shown, value))
    return not may_hold_password(str(value))
