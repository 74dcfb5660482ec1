"""A configuration's file → its values, the line of each, and the values that YAML takes for something else.

YAML 1.1 reads `010` as 8, `1:30` as 90 and `2024-13-01` as a date. Such a value becomes a `Misread` here, which no
field accepts, and the message says what to write instead. `3e-3` is a number here; YAML 1.1 reads it as a text. What
the values mean is up to the models of the stages.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from flyte_llama.errors import ConfigError
from flyte_llama.redaction import may_hold_password

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
"""The deepest nesting of lists and mappings; a configuration needs five."""

MAX_VALUES = 100_000
"""The most values, with every alias written out: a few lines of aliases can stand for billions."""

_TOO_DEEP = f"more than {MAX_DEPTH} lists and mappings lie in each other"

Keys = tuple[str | int, ...]
_KNOWN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int", "null", "str", "timestamp")}
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
# The key at the begin of a problem's line, such as corpus.train[0].url.
_KEY = re.compile(r"([A-Za-z_]\w*(?:\[\d+\]|\.[\w-]+)*)(?= = |: )")


class Misread(NamedTuple):
    """A value that YAML takes for something else than it looks like."""

    advice: str
    """What YAML takes it for, and what to write instead."""

    def __repr__(self) -> str:
        return "(misread)"


class Place(NamedTuple):
    """Where a value stands in the file."""

    line: int
    text: str | None
    """The value as it is written, if it is written without quotes; None for a list, a mapping or a quoted text."""


@dataclass(frozen=True)
class ConfigFile:
    """The values of a file, and where they stand in it."""

    name: str
    """The path as the user gave it."""

    values: Any
    places: dict[Keys, Place] = field(default_factory=dict)

    def written(self, keys: Sequence[str | int]) -> str | None:
        """Return the value as it is written without quotes; None if it is not written so."""
        place = self.places.get(tuple(keys))
        return place.text if place else None

    def with_line(self, problem: str) -> str:
        """Return the problem, which begins with a key, with the line of that key or of the nearest key around it.

        In a text of one line, such as JSON on a command line, that would say nothing.
        """
        if all(place.line == 1 for place in self.places.values()):
            return problem
        match = _KEY.match(problem)
        keys = (
            tuple(int(k) if k.isascii() and k.isdigit() else k for k in re.findall(r"[\w-]+", match[1]))
            if match
            else ()
        )
        while keys and keys not in self.places:
            keys = keys[:-1]
        return f"line {self.places[keys].line}: {problem}" if keys else problem


def read_config_file(path: str | Path) -> ConfigFile:
    """Read a YAML or JSON file.

    Raises:
        ConfigError: if it cannot be read or parsed, has a key twice, or is too large or too deep.
    """
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{path}: cannot be read ({reason}). Give an existing YAML file, as in configs/.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not text in UTF-8 (byte {error.start:,}). Save it as UTF-8.") from None
    except ValueError:
        raise ConfigError("the path of the configuration holds a NUL character. Give an existing YAML file.") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: has more than {MAX_BYTES:,} bytes, so it is not a configuration.")
    # In JSON a tab can only be a blank, and YAML does not know it as one.
    return parse_config(text.replace("\t", " ") if str(path).endswith(".json") else text, name=str(path))


def parse_config(text: str, *, name: str) -> ConfigFile:
    """Return the values of a YAML or JSON text. `name` stands for the text in messages.

    Raises:
        ConfigError: if it cannot be parsed, has a key twice, is too deep, or stands for too many values.
    """
    places: dict[Keys, Place] = {}
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            _check_aliases(root)
        values = _value_of(loader, root, (), places) if root is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        prefix = "" if isinstance(error, _Refusal) else "is not valid YAML: "
        reasons = ", ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"{name}: {prefix}{where}{reasons}.") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{name}: is not valid YAML: line {line}: the character {error.character!r} is not allowed."
        ) from None
    except (ValueError, OverflowError):
        raise ConfigError(f"{name}: is not valid YAML: it names a character that does not exist.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: contains {_kind(values)}, not keys and values. Start from a file in configs/.")
    return ConfigFile(name, values, places)


def write_config(config: BaseModel) -> str:
    """Return a configuration as YAML that `parse_config` reads back to the same values."""
    values = config.model_dump(mode="json")
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Refusal(yaml.MarkedYAMLError):
    """Valid YAML that is no configuration."""


class _Loader(yaml.SafeLoader):
    """Composes nodes down to a limited depth, and takes 3e-3 for a number."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.merged: set[int] = set()
        """The mappings whose keys are checked and merged, by `id`."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _error(_TOO_DEEP, self.peek_event())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Puts a text in quotes where `_Loader` would read a number."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )


def _error(problem: str, node: Any) -> _Refusal:
    return _Refusal(problem=problem, problem_mark=node.start_mark)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _check_aliases(root: yaml.Node) -> None:
    """Check that the tree is neither too large nor too deep once every alias is written out, and has an end."""
    sizes: dict[int, tuple[int, int] | None] = {}

    def measure(node: yaml.Node) -> tuple[int, int]:
        """Return how many values the node stands for, and how deep they lie in each other."""
        if id(node) not in sizes:
            sizes[id(node)] = None
            inner = [measure(child) for child in _children(node)]
            num_values = 1 + sum(number for number, _ in inner)
            sizes[id(node)] = (num_values, 1 + max((depth for _, depth in inner), default=0))
        size = sizes[id(node)]
        if size is None:
            raise _error("an alias stands for a value that contains it", node)
        if size[0] > MAX_VALUES:
            raise _error(f"the aliases stand for more than {MAX_VALUES:,} values", node)
        if size[1] > MAX_DEPTH:
            raise _error(_TOO_DEEP, node)
        return size

    measure(root)


def _value_of(
    loader: _Loader, node: yaml.Node, keys: Keys, places: dict[Keys, Place], *, line: int | None = None
) -> Any:
    """Return the value of a node, and enter its place and those of the values in it.

    Args:
        line: Where the value's key stands; None if it has none.
    """
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
    places[keys] = Place(line or node.start_mark.line + 1, node.value if is_plain else None)
    if isinstance(node, yaml.SequenceNode):
        return [_value_of(loader, child, (*keys, index), places) for index, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        # Once for each mapping, however many aliases it has: later it has the merged keys besides its own.
        if id(node) not in loader.merged:
            loader.merged.add(id(node))
            _check_keys(node)
            # Keys that are merged in by `<<` come first, so that the mapping's own keys win.
            loader.flatten_mapping(node)
        return {
            key.value: _value_of(loader, child, (*keys, key.value), places, line=key.start_mark.line + 1)
            for key, child in node.value
        }
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _KNOWN_TAGS:
        raise _error(f"the tag {node.tag} is not supported. Remove it", node)
    return _scalar_of(loader, node)


def _check_keys(node: yaml.MappingNode) -> None:
    """Check that each key is a text, and given once: PyYAML would silently keep only the last value."""
    seen: set[Hashable] = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if not isinstance(key, yaml.ScalarNode):
            raise _error("a key is a list or a mapping. Write a name", key)
        shown = "(not shown)" if may_hold_password(key.value) else key.value
        if not key.value:
            raise _error("a key is empty. Write its name before the colon", key)
        if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:value"):
            raise _error(f"YAML does not take the key {shown} for a text. Write '{shown}' in quotes", key)
        if key.value in seen:
            raise _error(f"the key {shown!r} is given twice. Keep one", key)
        seen.add(key.value)


def _scalar_of(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """Return the text, number, truth value, date or None that a node stands for, or a `Misread`."""
    text = str(node.value)
    try:
        value = loader.construct_object(node)
    except (ValueError, OverflowError, LookupError, AttributeError):
        shown = text if len(text) <= 20 else f"{text[:17]}..."
        return Misread(_UNREADABLE[node.tag].format(shown))
    if isinstance(value, int | float) and node.style is None:
        if ":" in text:
            return Misread(f"YAML reads {text} as {value}. Write {value}, or '{text}' in quotes if it is a text")
        if _OCTAL.fullmatch(text):
            digits = text.lstrip("+-0_") or "0"
            return Misread(f"YAML reads {text} as {value}. Write {digits}, or '{text}' in quotes if it is a text")
    return value


# Tag → what to say of a text that is no value of that kind.
_UNREADABLE = {
    "tag:yaml.org,2002:bool": "is neither true nor false. Write one of them, or a text in quotes without a tag",
    "tag:yaml.org,2002:int": "is not a number that can be read. Write one of fewer digits, or a text in quotes",
    "tag:yaml.org,2002:float": "is not a number that can be read. Write one, or a text in quotes",
    "tag:yaml.org,2002:timestamp": "YAML takes {} for a date, and there is no such one. Write one, or a text in quotes",
}


def _kind(value: Any) -> str:
    names = {type(None): "nothing", list: "a list", str: "a text", bool: "a truth value", int: "int", float: "float"}
    return names.get(type(value), type(value).__name__)
