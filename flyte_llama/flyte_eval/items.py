"""The items of the benchmark and their table: a Parquet file with one row per item, sealed by a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from flyte_llama.documents import DocumentId
from flyte_llama.storage import read_table, write_table

TABLE = "items.parquet"
_TEXT = pa.string()
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("name", "tier", "entity", "entity_kind"), _TEXT),
        "topics": pa.list_(_TEXT),
        **dict.fromkeys(("decided_by", "prefix", "reference", "suffix"), _TEXT),
        **dict.fromkeys(("repository", "url", "revision", "path"), _TEXT),
        **dict.fromkeys(("start", "line"), pa.int64()),
        **dict.fromkeys(("licence", "permalink"), _TEXT),
        "num_runs": pa.int64(),
        "expected": _TEXT,
        "mutants": pa.list_(pa.struct({"kind": _TEXT, "text": _TEXT, "rung": _TEXT})),
    }
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A wrong answer that the item's runs detected."""

    kind: str
    """One of `mutants.KINDS`."""

    text: str
    """The code that replaces the reference."""

    rung: str
    """The highest level that it reached."""


@dataclass(frozen=True, slots=True)
class Item:
    """A piece of code for a model to write, and the observations that an answer must reproduce."""

    name: str
    """URL of the repository, path, entity and tier; unique."""

    tier: str
    """`body` of a function; whole `function` (or launch plan) from its description; whole `workflow` from its
    docstring; a part of a function, one of `parts.PARTS`."""

    entity: str
    """The attribute of the module that is compiled and run."""

    entity_kind: str
    """task, workflow, dynamic or launch plan."""

    topics: tuple[str, ...]
    decided_by: str
    """The level that an answer must reach to pass: `outputs` or `graph`."""

    prefix: str
    reference: str
    suffix: str
    """prefix + reference + suffix is the module. If a whole definition is masked, the prefix also ends with a comment
    that describes it."""

    repository: str
    url: str
    revision: str
    path: str
    start: int
    """Byte offset in the file at which the module starts; 0, since only whole files become items."""

    line: int
    """The reference's first line in the file, counted from 1."""

    licence: str
    permalink: str
    num_runs: int
    expected: str
    """The observation of the reference, as JSON."""

    mutants: tuple[Mutant, ...]

    @property
    def document(self) -> DocumentId:
        return DocumentId(self.url, self.path, self.start)

    def module(self, answer: str) -> str:
        """The whole module with an answer in place of the reference."""
        return self.prefix + answer + self.suffix


def write_items(folder: Path, items: Sequence[Item], **facts: Any) -> None:
    """Write `items.parquet` and seal the folder, with `facts` in its manifest."""
    write_table(folder, TABLE, items, SCHEMA, **facts)


def read_items(folder: Path) -> tuple[list[Item], dict[str, Any]]:
    """The items of a sealed folder, in the order written, and its manifest.

    Raises:
        DataError: if the folder is unfinished or damaged, or an earlier version wrote it.
    """
    rows, manifest = read_table(folder, TABLE, SCHEMA.names)
    items = []
    for row in rows:
        mutants = tuple(Mutant(**mutant) for mutant in row.pop("mutants"))
        items.append(Item(**{**row, "topics": tuple(row["topics"]), "mutants": mutants}))
    return items, manifest
