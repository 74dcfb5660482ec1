"""Folders of documents, one a source → a train folder, a held-out folder and the card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from flyte_llama.corpus.card import CorpusCard, SourceCount, count_side
from flyte_llama.corpus.split import split
from flyte_llama.documents import Document, open_documents, write_documents
from flyte_llama.progress import track


def build_corpus(
    source_folders: Sequence[Path], heldout_urls: Iterable[str], *, train: Path, heldout: Path
) -> CorpusCard:
    """Split, drop copies, write both sides.

    Args:
        source_folders: As `write_documents` left them, with the counts of `collect` in their manifests.
        heldout_urls: The URLs, as pinned, of the sources to hold out.

    Raises:
        DataError: if a folder is damaged.
        CorpusError: if a side is empty.
    """
    held_out_urls = set(heldout_urls)
    documents: list[Document] = []
    sources = []
    for folder in track(source_folders, what="building corpus", total=len(source_folders)):
        own, manifest = open_documents(folder)
        documents += own
        source = manifest["source"]
        sources.append(SourceCount(**source, held_out=source["url"] in held_out_urls, num_documents=len(own)))
    sides = split(documents, held_out_urls)
    write_documents(train, sides.train)
    write_documents(heldout, sides.heldout)
    return CorpusCard(
        sources=sources,
        train=count_side(sides.train, sides.dropped["train"]),
        heldout=count_side(sides.heldout, sides.dropped["heldout"]),
    )
