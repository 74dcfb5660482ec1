"""What became of a source's files, in counts: the typed part of what `read_source` hands on."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class Amount(BaseModel):
    """Files, or documents, and their bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: int = 0
    num_bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(files=self.files + other.files, num_bytes=self.num_bytes + other.num_bytes)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(files=self.files - other.files, num_bytes=self.num_bytes - other.num_bytes)


def total(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, Amount())


class SourceCount(BaseModel):
    """One source's way through the filters: `documents` + Σ `skipped` = `entries`, in files and in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    url: str
    ref: str
    revision: str
    committed: int
    """When the revision was committed, in seconds since 1970; 0 for a package."""

    licence: str
    """SPDX expression of the whole source; empty if unknown."""

    licence_files: list[str]
    """Where it is stated."""

    entries: Amount
    documents: Amount
    """Bytes are those of the files, before a notebook's outputs are left out or an encoding is changed."""

    skipped: dict[str, Amount]
    """Reason → files left out for it."""

    redacted: dict[str, int]
    """Detector → placeholders put in place of what it found."""
