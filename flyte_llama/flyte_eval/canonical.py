"""Values of Flyte's types as text: equal texts for equal values, whatever object or file holds them."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LONGEST = 100_000


class NoTextError(TypeError):
    """A value of a type of which equality cannot be told."""


def canonical(value: Any) -> str:
    """JSON of the value; of a very long one the digest.

    Files and directories are told by their content, data frames by their columns and values, floats to 12 digits: the
    order in which they are multiplied moves the last ones.

    Raises:
        NoTextError: for a type that is not known.
    """
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)
    return text if len(text) <= _LONGEST else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
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
        pairs = [[_plain(key), _plain(own)] for key, own in value.items()]
        return {"map": sorted(pairs, key=lambda pair: json.dumps(pair[0], sort_keys=True))}
    if isinstance(value, (set, frozenset)):
        return {"set": sorted((_plain(own) for own in value), key=lambda own: json.dumps(own, sort_keys=True))}
    if isinstance(value, (list, tuple)):
        return [_plain(own) for own in value]
    return _of_files(value) or _of_tables(value) or _of_records(value)


def _of_files(value: Any) -> Any:
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
    content = path.read_bytes()
    try:
        return content.decode() if len(content) <= _LONGEST else hashlib.sha256(content).hexdigest()
    except UnicodeDecodeError:
        return hashlib.sha256(content).hexdigest()


def _of_tables(value: Any) -> Any:
    import numpy as np
    import pandas as pd
    from flytekit.types.structured.structured_dataset import StructuredDataset

    if isinstance(value, StructuredDataset):
        value = value.dataframe if value.dataframe is not None else value.open(pd.DataFrame).all()
    if isinstance(value, pd.Series):
        value = value.to_frame()
    if isinstance(value, pd.DataFrame):
        columns = {str(name): [str(own.dtype), _plain(own.tolist())] for name, own in value.items()}
        return {"frame": columns, "order": [str(name) for name in value.columns]}
    if isinstance(value, np.ndarray):
        return {"array": [str(value.dtype), list(value.shape), _plain(value.ravel().tolist())]}
    if isinstance(value, np.generic):
        return {"scalar": [str(value.dtype), _plain(value.item())]}
    return None


def _of_records(value: Any) -> Any:
    from pydantic import BaseModel

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {type(value).__name__: fields}
    if isinstance(value, BaseModel):
        return {type(value).__name__: {name: _plain(getattr(value, name)) for name in type(value).model_fields}}
    raise NoTextError(f"no text is known for values of {type(value).__module__}.{type(value).__name__}")
