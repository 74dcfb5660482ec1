"""The item of the benchmark, and its table: Parquet, one row an item, sealed by a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from flyte_llama.rows import read_rows, write_rows

TABLE = "items.parquet"
_TEXT = pa.string()
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("name", "tier", "entity", "entity_kind"), _TEXT),
        "topics": pa.list_(_TEXT),
        **dict.fromkeys(("decided_by", "prefix", "reference", "suffix"), _TEXT),
        **dict.fromkeys(("repository", "url", "revision", "path"), _TEXT),
        "line": pa.int64(),
        **dict.fromkeys(("licence", "permalink"), _TEXT),
        "num_runs": pa.int64(),
        "expected": _TEXT,
        "mutants": pa.list_(pa.struct({"kind": _TEXT, "text": _TEXT, "rung": _TEXT})),
    }
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A wrong answer that the item's runs were seen to detect."""

    kind: str
    """wrong type, missing decorator, wrong operator, wrong constant, wrong name, deleted statement or empty."""

    text: str
    """It stands where the reference stands."""

    rung: str
    """The highest that it reached."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to write, and how it is told whether it was written rightly."""

    name: str
    """Repository, path, entity and tier; no other item has it."""

    tier: str
    """`body` of a function; whole `function` (or launch plan) from its description; whole `workflow` from its
    docstring."""

    entity: str
    """The attribute of the module that is compiled and run."""

    entity_kind: str
    """task, workflow, dynamic or launch plan."""

    topics: tuple[str, ...]
    decided_by: str
    """The rung that an answer must reach to pass: `outputs` or `graph`."""

    prefix: str
    reference: str
    suffix: str
    """prefix + reference + suffix is the module; in the tiers of whole definitions, with one comment more: the
    description at the end of the prefix."""

    repository: str
    url: str
    revision: str
    path: str
    line: int
    """Of the file, at which the reference begins, counted from 1."""

    licence: str
    permalink: str
    num_runs: int
    expected: str
    """What was observed of the reference, as JSON."""

    mutants: tuple[Mutant, ...]

    def module(self, answer: str) -> str:
        """The whole module with an answer in the reference's place."""
        return self.prefix + answer + self.suffix


def write_items(folder: Path, items: Sequence[Item], **facts: Any) -> None:
    """Write `items.parquet` and seal the folder, with `facts` in its manifest."""
    write_rows(folder, TABLE, items, SCHEMA, **facts)


def read_items(folder: Path) -> tuple[list[Item], dict[str, Any]]:
    """The items of a sealed folder in the order written, and its manifest.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    rows, manifest = read_rows(folder, TABLE)
    items = []
    for row in rows:
        mutants = tuple(Mutant(**mutant) for mutant in row.pop("mutants"))
        items.append(Item(**{**row, "topics": tuple(row["topics"]), "mutants": mutants}))
    return items, manifest
