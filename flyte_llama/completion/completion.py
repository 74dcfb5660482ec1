"""One thing that a model was to write, and what it wrote; its table, and how near the one is to the other."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from flyte_llama.rows import read_rows, write_rows

TABLE = "completions.parquet"
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("task", "layout", "repository", "path", "language"), pa.string()),
        "start": pa.int64(),
        **dict.fromkeys(("prefix", "suffix", "wanted", "written"), pa.string()),
        "exact": pa.bool_(),
        "similarity": pa.float64(),
        "stopped": pa.bool_(),
        "num_tokens": pa.int64(),
    }
)


@dataclass(frozen=True, slots=True)
class Completion:
    task: str
    layout: str
    """`left-to-right`, `PSM` or `SPM`."""

    repository: str
    path: str
    language: str
    start: int
    """Byte of the file at which what is wanted begins."""

    prefix: str
    """The last characters before it."""

    suffix: str
    """The first characters behind it; empty where the model did not see them."""

    wanted: str
    written: str
    exact: bool
    """But for blanks at the end."""

    similarity: float
    """0 to 1, see `similarity`."""

    stopped: bool
    """Whether the model ended it; a line is ended by the end of a line."""

    num_tokens: int


def similarity(one: str, other: str) -> float:
    """2·M / T, M the characters in matching blocks (Ratcliff, Obershelp), T those of both texts; 1 of two empty ones.

    CodeXGLUE's edit similarity of line completion (arXiv 2102.04664) is this figure in per cent: fuzzywuzzy's ratio,
    which is that of Python's difflib.
    """
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def write_completions(folder: Path, completions: Sequence[Completion], **facts: Any) -> None:
    write_rows(folder, TABLE, completions, SCHEMA, **facts)


def read_completions(folder: Path) -> list[Completion]:
    """Raises DataError if the folder is unfinished or damaged."""
    return [Completion(**row) for row in read_rows(folder, TABLE)[0]]


def join_completions(parts: Sequence[Path], folder: Path) -> None:
    """Those of all shards, ordered by task, layout and place."""
    found = [own for part in parts for own in read_completions(part)]
    found.sort(key=lambda own: (own.task, own.layout, own.repository, own.path, own.start))
    write_completions(folder, found)
