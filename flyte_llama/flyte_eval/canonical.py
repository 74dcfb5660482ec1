"""Values and graphs of Flyte as text: equal ones give equal texts, whatever object or file holds them.

The text of a value shows the content of its files, directories, data frames and records.

The graph of an entity is what Flyte would register for it: interfaces, resources, caching, retries, timeouts, decks,
nodes and their bindings, conditions, and launch plans' inputs and schedules. Its text leaves out whatever does not
change the meaning of the code: the name of the module; the container's image, command and environment; documentation;
versions of flytekit. The order of calls counts: two independent calls in the other order make a different graph.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LONGEST = 100_000
# Keys of flyteidl's messages that are dropped at every depth.
_IGNORED_KEYS = {
    *("image", "command", "args", "env", "runtime", "docs", "description", "long_description", "short_description"),
    *("version", "project", "domain", "data_config", "architecture", "pod_template_name", "tags"),
}


class NoTextError(TypeError):
    """A value of a type that has no canonical text, so that two values cannot be compared."""


def canonical_text(value: Any) -> str:
    """Return the value as JSON, or the digest of the JSON if it is very long.

    Files and directories are represented by their contents, data frames by their columns and values. Floats have 12
    digits, because the order of operations changes the last ones: `n * 5 / 9` equals `n * (5 / 9)`.

    Raises:
        NoTextError: for an unknown type.
    """
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)
    return text if len(text) <= _LONGEST else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def registered_graph(entity: Any, module: str) -> str:
    """Return the graph as canonical JSON, with entity names that do not contain the module's name."""
    from flytekit.configuration import Image, ImageConfig, SerializationSettings
    from flytekit.tools.translator import get_serializable
    from google.protobuf.json_format import MessageToDict

    image = Image(name="default", fqn="image", tag="tag")
    settings = SerializationSettings(
        project="project",
        domain="domain",
        version="version",
        image_config=ImageConfig(default_image=image, images=[image]),
    )
    message = get_serializable(OrderedDict(), settings, entity).to_flyte_idl()
    content = _simplify(MessageToDict(message, preserving_proto_field_name=True), f"{module}.")
    return json.dumps(content, sort_keys=True)


def interface(entity: Any, module: str) -> dict[str, dict[str, str]]:
    """Return `inputs` and `outputs` (name → type as canonical JSON), `defaults`, and `entity` (its kind)."""
    from google.protobuf.json_format import MessageToDict

    message = MessageToDict(entity.interface.to_flyte_idl(), preserving_proto_field_name=True)
    sides = {
        side: {
            name: json.dumps(_simplify(variable.get("type", {}), f"{module}."), sort_keys=True)
            for name, variable in message.get(side, {}).get("variables", {}).items()
        }
        for side in ("inputs", "outputs")
    }
    return {**sides, "defaults": _defaults(entity), "entity": _kind(entity)}


def _plain(value: Any) -> Any:
    """The value made of JSON types only; types that JSON would confuse are marked by a key."""
    if value is None or (isinstance(value, (bool, int, str)) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, float):
        return {"float": f"{value:.12g}"}
    if isinstance(value, enum.Enum):
        return {"enum": [type(value).__name__, value.name]}
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return {"time": value.isoformat()}
    if isinstance(value, datetime.timedelta):
        return {"seconds": repr(value.total_seconds())}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Mapping):
        pairs = [[_plain(key), _plain(item)] for key, item in value.items()]
        return {"map": sorted(pairs, key=lambda pair: json.dumps(pair[0], sort_keys=True))}
    if isinstance(value, (set, frozenset)):
        return {"set": sorted((_plain(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return _plain_file(value) or _plain_table(value) or _plain_record(value)


def _plain_file(value: Any) -> Any:
    from flytekit import FlyteDirectory, FlyteFile

    if isinstance(value, FlyteFile):
        return {"file": _content(Path(os.fspath(value)))}
    if isinstance(value, FlyteDirectory):
        folder = Path(os.fspath(value))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {"directory": {path.relative_to(folder).as_posix(): _content(path) for path in files}}
    if isinstance(value, Path):
        return {"file": _content(value)} if value.is_file() else {"path": value.name}
    return None


def _content(path: Path) -> str:
    """The text of a file; the digest if it is long or not UTF-8."""
    content = path.read_bytes()
    try:
        return content.decode() if len(content) <= _LONGEST else hashlib.sha256(content).hexdigest()
    except UnicodeDecodeError:
        return hashlib.sha256(content).hexdigest()


def _plain_table(value: Any) -> Any:
    import numpy as np
    import pandas as pd
    from flytekit.types.structured.structured_dataset import StructuredDataset

    if isinstance(value, StructuredDataset):
        value = value.dataframe if value.dataframe is not None else value.open(pd.DataFrame).all()
    if isinstance(value, pd.Series):
        value = value.to_frame()
    if isinstance(value, pd.DataFrame):
        columns = {str(name): [str(column.dtype), _plain(column.tolist())] for name, column in value.items()}
        return {"frame": columns, "order": [str(name) for name in value.columns]}
    if isinstance(value, np.ndarray):
        return {"array": [str(value.dtype), list(value.shape), _plain(value.ravel().tolist())]}
    if isinstance(value, np.generic):
        return {"scalar": [str(value.dtype), _plain(value.item())]}
    return None


def _plain_record(value: Any) -> Any:
    """The fields of a dataclass or a pydantic model, by the name of its class.

    Raises:
        NoTextError: for any other value.
    """
    from pydantic import BaseModel

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {type(value).__name__: fields}
    if isinstance(value, BaseModel):
        return {type(value).__name__: {name: _plain(getattr(value, name)) for name in type(value).model_fields}}
    raise NoTextError(f"no text is known for values of {type(value).__module__}.{type(value).__name__}")


def _defaults(entity: Any) -> dict[str, str]:
    """Parameter → default as text, leaving out None: flytekit treats that as no default."""
    if not hasattr(entity, "python_interface"):
        return {}
    defaults = {}
    for name, (_, default) in entity.python_interface.inputs_with_defaults.items():
        if default is not None:
            try:
                defaults[name] = canonical_text(default)
            except NoTextError:
                defaults[name] = type(default).__name__
    return defaults


def _kind(entity: Any) -> dict[str, str]:
    """The class and execution mode: without the container's arguments, a dynamic task registers like a plain one."""
    from flytekit.core.python_function_task import PythonFunctionTask

    mode = entity.execution_mode.name if isinstance(entity, PythonFunctionTask) else ""
    return {"kind": type(entity).__name__, "mode": mode}


def _simplify(message: Any, prefix: str) -> Any:
    """A copy of a message without the ignored keys, and without `prefix` in its texts."""
    if isinstance(message, dict):
        return {key: _simplify(value, prefix) for key, value in message.items() if key not in _IGNORED_KEYS}
    if isinstance(message, list):
        return [_simplify(value, prefix) for value in message]
    return message.replace(prefix, "") if isinstance(message, str) else message
