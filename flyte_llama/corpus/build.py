"""Folders of documents, one a source → a train folder, a held-out folder and the card.

Split by repository, never by chunk. Beside the documents each folder keeps `dropped.parquet`, what was left out and
what was kept in its place, and the held-out one `strata.parquet`, how far each document stood in train and since when
it exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.config import CorpusConfig
from flyte_llama.corpus.card import CorpusCard, count_leakage, count_side
from flyte_llama.corpus.deduplicate import Dropped, deduplicate, deduplicate_pieces
from flyte_llama.corpus.leakage import Coverage, Span, remove_leaks
from flyte_llama.documents import Document, SourceCount, open_documents, write_documents
from flyte_llama.errors import CorpusError
from flyte_llama.progress import track

DROPPED_TABLE, STRATA_TABLE = "dropped.parquet", "strata.parquet"
_FILE = ("repository", "url", "path", "blob_id")


def build_corpus(
    source_folders: Sequence[Path],
    heldout_urls: Iterable[str],
    config: CorpusConfig,
    *,
    released: date | None,
    train: Path,
    heldout: Path,
) -> CorpusCard:
    """Deduplicate both sides, take the held-out text out of train, write both sides.

    Args:
        source_folders: As `write_documents` left them, with their `SourceCount` in the manifest; in any order.
        heldout_urls: The URLs, as pinned, of the sources to hold out.
        released: Day on which the base model came out, for what is fresh.

    Raises:
        DataError: if a folder is damaged.
        CorpusError: if a side is empty.
    """
    held_out = set(heldout_urls)
    read: dict[bool, list[Document]] = {True: [], False: []}
    sources: dict[bool, list[SourceCount]] = {True: [], False: []}
    for folder in track(source_folders, what="building corpus", total=len(source_folders)):
        documents, manifest = open_documents(folder)
        count = SourceCount.model_validate(manifest["source"])
        read[count.url in held_out] += documents
        sources[count.url in held_out].append(count)
    heldout_kept, heldout_dropped = deduplicate(read[True], config.deduplication)
    train_kept, train_dropped = deduplicate(read[False], config.deduplication)
    cleaned = remove_leaks(train_kept, heldout_kept, n=config.leakage.num_words, remove=config.leakage.remove)
    left, pieces_dropped = deduplicate_pieces(cleaned.train, config.deduplication)
    _check_sides(left, heldout_kept)
    # What nothing was cut out of had nothing in common before.
    whole = {id(document) for document in train_kept}
    pieces = [document for document in cleaned.train if id(document) not in whole]
    again = remove_leaks(pieces, heldout_kept, n=config.leakage.num_words, remove="spans")
    freshness = [_freshness(document, released) for document in heldout_kept]
    steps = {"exact": True, "lineage": config.deduplication.lineage, "near": config.deduplication.near > 0}
    passed = tuple(step for step, was_taken in steps.items() if was_taken)
    train_dropped += pieces_dropped
    _write_side(train, left, train_dropped, cleaned.removed, passed=(*passed, "leakage"))
    strata = _strata(cleaned.coverage, freshness)
    _write_side(heldout, heldout_kept, heldout_dropped, [], passed=passed, strata=strata)
    return CorpusCard(
        train=count_side(sources[False], read[False], train_dropped, left),
        heldout=count_side(sources[True], read[True], heldout_dropped, heldout_kept),
        leakage=count_leakage(
            config.leakage.num_words,
            train_kept,
            cleaned,
            residual_words=sum(found.covered_words for found in again.coverage),
            freshness=freshness,
        ),
    )


def _check_sides(train: Sequence[Document], heldout: Sequence[Document]) -> None:
    for side, kept in (("train", train), ("heldout", heldout)):
        if not kept:
            raise CorpusError(
                f"0 {side} documents are left. The documents' manifests count why files were left out; add sources to "
                f"corpus.{side}, or loosen corpus.documents."
            )


def _freshness(document: Document, released: date | None) -> str:
    if not document.first_commit or released is None:
        return "unknown"
    day_after = datetime.combine(released, time(), UTC) + timedelta(days=1)
    return "fresh" if document.first_commit >= day_after.timestamp() else "not fresh"


def _strata(coverage: Sequence[Coverage], freshness: Sequence[str]) -> pa.Table:
    """One row a held-out document, in the order of the documents."""
    return pa.table(
        {
            **{name: [getattr(found.document, name) for found in coverage] for name in ("repository", "url", "path")},
            "num_words": [found.num_words for found in coverage],
            "covered_words": [found.covered_words for found in coverage],
            "stratum": [found.stratum for found in coverage],
            "freshness": list(freshness),
        }
    )


def _dropped(dropped: Sequence[Dropped], spans: Sequence[Span]) -> pa.Table:
    """One row a document or span left out, with its bytes in the file.

    `kept_…` name what was kept in its place, and clusters are equal ones; leaks may have been cut out of that since.
    """
    rows: list[tuple[Document, int, int, str, Document | None, float | None]]
    rows = [
        (drop.document, drop.document.start, drop.document.end, drop.reason, drop.kept, drop.jaccard)
        for drop in dropped
    ]
    rows += [
        (span.document, span.document.start + span.start, span.document.start + span.end, "leakage", None, None)
        for span in spans
    ]
    schema = pa.schema(
        {
            "reason": pa.string(),
            **{name: pa.string() for name in _FILE},
            "start": pa.int64(),
            "end": pa.int64(),
            **{f"kept_{name}": pa.string() for name in _FILE},
            "kept_start": pa.int64(),
            "kept_end": pa.int64(),
            "jaccard": pa.float64(),
        }
    )
    records = [
        {
            "reason": reason,
            "start": start,
            "end": end,
            "jaccard": jaccard,
            **{name: getattr(document, name) for name in _FILE},
            **{f"kept_{name}": getattr(kept, name, None) for name in (*_FILE, "start", "end")},
        }
        for document, start, end, reason, kept, jaccard in rows
    ]
    return pa.Table.from_pylist(records, schema=schema)


def _write_side(
    folder: Path,
    documents: Iterable[Document],
    dropped: Sequence[Dropped],
    spans: Sequence[Span],
    *,
    passed: tuple[str, ...],
    strata: pa.Table | None = None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tables = {DROPPED_TABLE: _dropped(dropped, spans)} | ({STRATA_TABLE: strata} if strata else {})
    for name, table in tables.items():
        pq.write_table(table, folder / name, compression="zstd")
    left = (replace(document, filters=(*document.filters, *passed), signature=b"") for document in documents)
    write_documents(folder, left, beside={name: table.num_rows for name, table in tables.items()})
