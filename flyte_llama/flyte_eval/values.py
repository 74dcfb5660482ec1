"""Inputs for an entity, made from its types: always the same, and such that a wrong answer shows.

Values differ from parameter to parameter and from run to run, numbers are small so that loops end. Lists are unsorted,
with the longest text and the largest number somewhere in them, an entry twice, and blanks around some texts. Files and
directories differ in how much they hold and in names. The first run takes the defaults of parameters that have one; the
fourth has negative numbers, the largest of them by its size, and None.
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
    run: int
    """From 0; the values of every fourth run are the same."""

    folder: Path
    """Where files that are inputs are put."""

    _made: int = 0

    def of(self, entity: Any) -> dict[str, Any]:
        """Parameter → value.

        Raises:
            NoValueError: naming the type that no value can be made for.
        """
        self.folder.mkdir(parents=True)
        values = {}
        for name, (type_, default) in _parameters(entity).items():
            # Made even where the default is taken, so that the other parameters' values do not hang on defaults.
            made = default if default is not None and self.run == 0 else self._value(type_)
            values[name] = made
            self._made += 1
        return values

    def _value(self, type_: Any) -> Any:
        origin, arguments = typing.get_origin(type_), typing.get_args(type_)
        if origin is typing.Annotated:
            return self._table(type_) if _is_table(arguments[0]) else self._value(arguments[0])
        if origin in (typing.Union, types.UnionType):
            return self._one_of(arguments)
        if type_ is list or origin is list:
            return [self._next(arguments[0] if arguments else int) for _ in range(_LENGTHS[self.run % 4])]
        if type_ is dict or origin in (dict, Mapping):
            value = arguments[1] if arguments else int
            return {key: self._next(value) for key in ("a", "b", "c")[: _LENGTHS[self.run % 4]]}
        if isinstance(type_, type):
            return self._of_class(type_)
        raise NoValueError(f"no value can be made for {type_}")

    def _of_class(self, type_: type) -> Any:
        from pydantic import BaseModel

        if issubclass(type_, enum.Enum):
            members = list(type_)
            return members[(self.run + self._made) % len(members)]
        simple = self._simple(type_)
        if simple is not None:
            return simple
        if _is_table(type_):
            return self._table(type_)
        if (made := self._of_files(type_)) is not None:
            return made
        if dataclasses.is_dataclass(type_):
            hints = typing.get_type_hints(type_)
            return type_(
                **{field.name: self._next(hints[field.name]) for field in dataclasses.fields(type_) if field.init}
            )
        if issubclass(type_, BaseModel):
            return type_(**{name: self._next(field.annotation) for name, field in type_.model_fields.items()})
        raise NoValueError(f"no value can be made for {type_.__module__}.{type_.__qualname__}")

    def _simple(self, type_: type) -> Any:
        number = self._number()
        values: dict[type, Any] = {
            bool: (self.run + self._made) % 2 == 0,
            int: number,
            float: number + 0.25,
            str: _WORDS[self.run % 4][self._made % 6],
            datetime.datetime: datetime.datetime(2024, 1 + abs(number) % 12, 3 + self._made % 20, 4, 5, 6),
            datetime.date: datetime.date(2024, 1 + abs(number) % 12, 3 + self._made % 20),
            datetime.timedelta: datetime.timedelta(hours=number, minutes=20),
        }
        return values.get(type_)

    def _of_files(self, type_: type) -> Any:
        from flytekit import FlyteDirectory, FlyteFile

        rows = _COLOURS[: _LENGTHS[self.run % 4]]
        text = "name,value\n" + "".join(f"{row},{self._number(place)}\n" for place, row in enumerate(rows))
        place = self.folder / f"input-{self._made}"
        if issubclass(type_, FlyteFile):
            file = place.with_suffix(".csv")
            file.write_text(text, encoding="utf-8")
            return type_(str(file))
        if issubclass(type_, FlyteDirectory):
            place.mkdir()
            for name in ("one", "two", "three", "four", "five")[self.run % 4 :: 2]:
                (place / f"{name}.csv").write_text(f"{text}{name},{self._number()}\n", encoding="utf-8")
            return type_(str(place))
        return None

    def _table(self, type_: Any) -> Any:
        import numpy as np
        import pandas as pd
        from flytekit.types.structured.structured_dataset import StructuredDataset

        arguments = typing.get_args(type_)
        plain = arguments[0] if arguments else type_
        columns: dict[str, type] = {"name": str, "age": int, "value": float}
        for argument in arguments[1:]:
            columns = dict(argument) if isinstance(argument, Mapping) else columns
        values = {name: [self._next(own) for _ in range(_LENGTHS[self.run % 4])] for name, own in columns.items()}
        if issubclass(plain, np.ndarray):
            return np.array([self._number(place) for place in range(4)], dtype=np.float64)
        frame = pd.DataFrame(values)
        return StructuredDataset(dataframe=frame) if issubclass(plain, StructuredDataset) else frame

    def _one_of(self, types_: tuple[Any, ...]) -> Any:
        if self.run % 4 == 3 and type(None) in types_:
            return None
        for type_ in types_:
            try:
                if type_ is not type(None):
                    return self._value(type_)
            except NoValueError:
                continue
        raise NoValueError(f"no value can be made for any of {types_}")

    def _next(self, type_: Any) -> Any:
        self._made += 1
        return self._value(type_)

    def _number(self, place: int = 0) -> int:
        row = _INTS[self.run % 4]
        return row[(self._made + place) % len(row)]


def _parameters(entity: Any) -> dict[str, tuple[Any, Any]]:
    """Name → type and default. A launch plan has its workflow's, without those that it fixes."""
    from flytekit import LaunchPlan

    if isinstance(entity, LaunchPlan):
        fixed = entity.fixed_inputs.literals if entity.fixed_inputs else {}
        given = {**entity.saved_inputs}
        own = _parameters(entity.workflow)
        return {name: (type_, given.get(name, default)) for name, (type_, default) in own.items() if name not in fixed}
    found: dict[str, tuple[Any, Any]] = entity.python_interface.inputs_with_defaults
    return found


def _is_table(type_: Any) -> bool:
    import numpy as np
    import pandas as pd
    from flytekit.types.structured.structured_dataset import StructuredDataset

    return isinstance(type_, type) and issubclass(type_, (pd.DataFrame, StructuredDataset, np.ndarray))
