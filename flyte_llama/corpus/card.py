"""What is in a corpus, in counts: the typed part of its description."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from flyte_llama.documents import Document


class SourceCount(BaseModel):
    """One source's way through the filters; `num_documents` + Σ `skipped` = `num_entries`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    url: str
    revision: str
    held_out: bool
    num_entries: int
    num_documents: int
    skipped: dict[str, int]


class SideCount(BaseModel):
    """One side of the split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_documents: int
    num_bytes: int
    bytes_by_language: dict[str, int]
    dropped: dict[str, int]
    """Reason → documents that passed the filters and were left out of this side."""


class CorpusCard(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: list[SourceCount]
    train: SideCount
    heldout: SideCount


def count_side(documents: Iterable[Document], dropped: dict[str, int]) -> SideCount:
    documents = list(documents)
    languages = Counter[str]()
    for document in documents:
        languages[document.language] += document.num_bytes
    return SideCount(
        num_documents=len(documents),
        num_bytes=sum(languages.values()),
        bytes_by_language=dict(languages.most_common()),
        dropped=dropped,
    )
