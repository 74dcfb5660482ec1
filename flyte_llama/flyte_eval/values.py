"""Inputs for an entity, made from its types: always the same, and chosen to reveal wrong answers.

Values differ between parameters and between runs. Numbers are small, so that loops end. Lists are unsorted, with the
longest text and the largest number in varying places, a repeated entry, and blanks around some texts. Files and
directories vary in size and names. The first run uses the parameters' defaults. The fourth has negative numbers, one of
them with the largest absolute value, and None for optional types.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Four rows or lengths: run `n` uses number `n % 4`.
_INTS = ((3, 7, 2, 7, 9, 4), (6, 2, 8, 2, 5, 7), (11, 4, 13, 4, 17, 6), (-4, 3, -9, 3, 8, -2))
_WORDS = (
    ("llama", "workflow", "Ada", "radar", "seven", "x"),
    ("Turing", " a b c ", "pear", "zebras", "night", "ok"),
    ("noon", "Grace Hopper", "noon", "fig", " level", "why"),
    ("z", "hello world", "MiXed", "kayak ", "z", "q"),
)
_LENGTHS = (3, 4, 2, 5)
_COLOURS = ("red", "blue", "dark green", "black", "white", "pale pink")


class NoValueError(TypeError):
    """A type that no value can be made for."""


@dataclasses.dataclass
class Inputs:
    """Makes the inputs of one run."""

    run: int
    """Counted from 0; numbers, texts and lengths repeat after four runs."""

    folder: Path
    """A new folder for input files."""

    _num_made: int = 0

    def make(self, entity: Any) -> dict[str, Any]:
        """Return parameter → value.

        Raises:
            NoValueError: if no value can be made for a type, which the message names.
        """
        self.folder.mkdir(parents=True)
        values = {}
        for name, (type_, default) in _parameters(entity).items():
            # Count a default as well, so that it does not change the other parameters' values.
            value = default if default is not None and self.run == 0 else self._make(type_)
            values[name] = value
            self._num_made += 1
        return values

    def _make(self, type_: Any) -> Any:
        """A value of a type.

        Raises:
            NoValueError: if no value can be made for it.
        """
        origin, arguments = typing.get_origin(type_), typing.get_args(type_)
        if origin is typing.Annotated:
            return self._make_table(type_) if _is_table(arguments[0]) else self._make(arguments[0])
        if origin in (typing.Union, types.UnionType):
            return self._make_one_of(arguments)
        if type_ is list or origin is list:
            return [self._make_next(arguments[0] if arguments else int) for _ in range(_LENGTHS[self.run % 4])]
        if type_ is dict or origin in (dict, Mapping):
            value = arguments[1] if arguments else int
            return {key: self._make_next(value) for key in ("a", "b", "c")[: _LENGTHS[self.run % 4]]}
        if isinstance(type_, type):
            return self._make_instance(type_)
        raise NoValueError(f"no value can be made for {type_}")

    def _make_instance(self, type_: type) -> Any:
        """An instance of a class.

        Raises:
            NoValueError: if no value can be made for it.
        """
        from pydantic import BaseModel

        if issubclass(type_, enum.Enum):
            members = list(type_)
            return members[(self.run + self._num_made) % len(members)]
        simple = self._make_simple(type_)
        if simple is not None:
            return simple
        if _is_table(type_):
            return self._make_table(type_)
        if (file := self._make_file(type_)) is not None:
            return file
        if dataclasses.is_dataclass(type_):
            hints = typing.get_type_hints(type_)
            return type_(
                **{field.name: self._make_next(hints[field.name]) for field in dataclasses.fields(type_) if field.init}
            )
        if issubclass(type_, BaseModel):
            return type_(**{name: self._make_next(field.annotation) for name, field in type_.model_fields.items()})
        raise NoValueError(f"no value can be made for {type_.__module__}.{type_.__qualname__}")

    def _make_simple(self, type_: type) -> Any:
        """A value of a built-in type, or None for any other."""
        integer = self._integer()
        values: dict[type, Any] = {
            bool: (self.run + self._num_made) % 2 == 0,
            int: integer,
            float: integer + 0.25,
            str: _WORDS[self.run % 4][self._num_made % 6],
            datetime.datetime: datetime.datetime(2024, 1 + abs(integer) % 12, 3 + self._num_made % 20, 4, 5, 6),
            datetime.date: datetime.date(2024, 1 + abs(integer) % 12, 3 + self._num_made % 20),
            datetime.timedelta: datetime.timedelta(hours=integer, minutes=20),
        }
        return values.get(type_)

    def _make_file(self, type_: type) -> Any:
        """A FlyteFile with a table as CSV, a FlyteDirectory of such files, or None for any other type."""
        from flytekit import FlyteDirectory, FlyteFile

        rows = _COLOURS[: _LENGTHS[self.run % 4]]
        text = "name,value\n" + "".join(f"{row},{self._integer(offset)}\n" for offset, row in enumerate(rows))
        path = self.folder / f"input-{self._num_made}"
        if issubclass(type_, FlyteFile):
            file = path.with_suffix(".csv")
            file.write_text(text, encoding="utf-8")
            return type_(str(file))
        if issubclass(type_, FlyteDirectory):
            path.mkdir()
            for name in ("one", "two", "three", "four", "five")[self.run % 4 :: 2]:
                (path / f"{name}.csv").write_text(f"{text}{name},{self._integer()}\n", encoding="utf-8")
            return type_(str(path))
        return None

    def _make_table(self, type_: Any) -> Any:
        """A data frame, structured dataset or array; with the columns of the annotation, if it has any."""
        import numpy as np
        import pandas as pd
        from flytekit.types.structured.structured_dataset import StructuredDataset

        arguments = typing.get_args(type_)
        table_type = arguments[0] if arguments else type_
        columns: dict[str, type] = {"name": str, "age": int, "value": float}
        for argument in arguments[1:]:
            columns = dict(argument) if isinstance(argument, Mapping) else columns
        values = {
            name: [self._make_next(column) for _ in range(_LENGTHS[self.run % 4])] for name, column in columns.items()
        }
        if issubclass(table_type, np.ndarray):
            return np.array([self._integer(offset) for offset in range(4)], dtype=np.float64)
        frame = pd.DataFrame(values)
        return StructuredDataset(dataframe=frame) if issubclass(table_type, StructuredDataset) else frame

    def _make_one_of(self, types_: tuple[Any, ...]) -> Any:
        """A value of the first type in a union that allows one; in every fourth run None, if the union has it."""
        if self.run % 4 == 3 and type(None) in types_:
            return None
        for type_ in types_:
            try:
                if type_ is not type(None):
                    return self._make(type_)
            except NoValueError:
                continue
        raise NoValueError(f"no value can be made for any of {types_}")

    def _make_next(self, type_: Any) -> Any:
        """A value that differs from the one before, if the type has several."""
        self._num_made += 1
        return self._make(type_)

    def _integer(self, offset: int = 0) -> int:
        """The integer of the current value; with an offset, those after it in the run's row."""
        row = _INTS[self.run % 4]
        return row[(self._num_made + offset) % len(row)]


def _parameters(entity: Any) -> dict[str, tuple[Any, Any]]:
    """Name → type and default. A launch plan has its workflow's parameters, except its fixed inputs."""
    from flytekit import LaunchPlan

    if isinstance(entity, LaunchPlan):
        fixed = entity.fixed_inputs.literals if entity.fixed_inputs else {}
        saved = {**entity.saved_inputs}
        parameters = _parameters(entity.workflow)
        return {
            name: (type_, saved.get(name, default))
            for name, (type_, default) in parameters.items()
            if name not in fixed
        }
    inputs: dict[str, tuple[Any, Any]] = entity.python_interface.inputs_with_defaults
    return inputs


def _is_table(type_: Any) -> bool:
    import numpy as np
    import pandas as pd
    from flytekit.types.structured.structured_dataset import StructuredDataset

    return isinstance(type_, type) and issubclass(type_, (pd.DataFrame, StructuredDataset, np.ndarray))
