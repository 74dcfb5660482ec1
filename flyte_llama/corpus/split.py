"""Split by repository, never by chunk; no text twice, and no held-out text in train.

Exact copies only: a document's text is known by its blob id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from flyte_llama.documents import Document
from flyte_llama.errors import CorpusError


@dataclass(frozen=True)
class Split:
    train: list[Document]
    heldout: list[Document]
    dropped: dict[str, dict[str, int]]
    """Side → reason → documents: `duplicate` of one kept on the same side, `heldout` for train text held out."""


def split(documents: Iterable[Document], heldout_urls: Iterable[str]) -> Split:
    """Both sides in order of repository and path; of copies, the first in that order is kept.

    Raises:
        CorpusError: if a side is empty.
    """
    held_out_sources = set(heldout_urls)
    ordered = sorted(documents, key=lambda document: (document.repository, document.path))
    heldout, heldout_dropped = _first_of_each([document for document in ordered if document.url in held_out_sources])
    held_out_blobs = {document.blob_id for document in heldout}
    candidates = [document for document in ordered if document.url not in held_out_sources]
    clean = [document for document in candidates if document.blob_id not in held_out_blobs]
    train, train_dropped = _first_of_each(clean)
    train_dropped["heldout"] = len(candidates) - len(clean)
    for side, kept in (("train", train), ("heldout", heldout)):
        if not kept:
            raise CorpusError(
                f"0 {side} documents after filtering. The documents' manifests count why files were left out; "
                f"add sources to corpus.{side}, or loosen corpus.documents."
            )
    return Split(train, heldout, {"train": dict(train_dropped), "heldout": dict(heldout_dropped)})


def _first_of_each(documents: list[Document]) -> tuple[list[Document], Counter[str]]:
    kept = {document.blob_id: document for document in reversed(documents)}
    ordered = list(reversed(kept.values()))
    return ordered, Counter(duplicate=len(documents) - len(ordered))
