"""Folders of documents, one for each source → a train folder, a held-out folder and the corpus card.

`sides.pin_sources` pins the sources of both sides; each is then read by itself (`documents.read_source`) before the
corpus is built. The split is by file, never by chunk: by its repository or, within a repository, by its path or its
date, as the configuration says. Next to its documents each folder has `dropped.parquet`, the text left out, and the
document kept in its place, and `left_out.parquet`, the files that never became documents, each with its reason. The
held-out folder also has `strata.parquet`: how much of each document was in train, and whether it is newer than the base
model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa

from flyte_llama.config import CorpusConfig, HeldOutPart
from flyte_llama.corpus.card import CorpusCard, SideCount, count_leakage, count_side, name_sources
from flyte_llama.corpus.deduplication import DroppedDocument, deduplicate, deduplicate_pieces
from flyte_llama.corpus.leakage import Coverage, RemovedSpan, remove_leaks
from flyte_llama.corpus.sides import Side, check_histories, check_losses, find_parts, read_side
from flyte_llama.corpus.tracing import DROPPED_TABLE
from flyte_llama.documents import (
    LEFT_OUT_TABLE,
    Document,
    join_left_out,
    largest_by_reason,
    write_documents,
)
from flyte_llama.documents.selection import end_of_day
from flyte_llama.storage import write_unsealed_table

STRATA_TABLE = "strata.parquet"
_FILE_COLUMNS = ("repository", "url", "path", "blob_id")


def build_corpus(
    train_folders: Sequence[Path],
    heldout_folders: Sequence[Path],
    config: CorpusConfig,
    *,
    released: date | None,
    train: Path,
    heldout: Path,
) -> CorpusCard:
    """Deduplicate both sides, remove the held-out text from train, and write both sides.

    Args:
        train_folders: The sources to train on, written by `write_documents` with a `SourceCount` in the manifest; in
            any order.
        heldout_folders: The sources to hold out, likewise.
        released: Day of the base model's release. Newer held-out documents count as fresh; None makes all `unknown`.

    Raises:
        DataError: if a folder is damaged.
        CorpusError: if a side is empty, or a held-out source has the history of a train source and is not another part
            of the same repository.
    """
    train_side, heldout_side = read_side("train", train_folders), read_side("heldout", heldout_folders)
    check_histories(train_side, heldout_side)
    # Drop copies on each side, then leaks from train. Deduplicate again, since the cut can leave equal pieces.
    heldout_kept, heldout_dropped = deduplicate(heldout_side.documents, config.deduplication)
    train_kept, train_dropped = deduplicate(train_side.documents, config.deduplication)
    removal = remove_leaks(train_kept, heldout_kept, n=config.leakage.num_words, remove=config.leakage.remove)
    left, pieces_dropped = deduplicate_pieces(removal.train, config.deduplication)
    check_losses(train_side, config.split, train_kept, train_dropped + pieces_dropped, left)
    check_losses(heldout_side, config.split, heldout_kept, heldout_dropped, heldout_kept)
    # Report the leaks that are left. Only pieces are searched again: documents without a cut held no leak.
    whole = {id(document) for document in train_kept}
    pieces = [document for document in removal.train if id(document) not in whole]
    residual = remove_leaks(pieces, heldout_kept, n=config.leakage.num_words, remove="spans")
    # write both sides
    freshness = [_freshness(document, released) for document in heldout_kept]
    strata = _make_strata_table(removal.coverage, freshness)
    steps = {"exact": True, "lineage": config.deduplication.lineage, "near": config.deduplication.near > 0}
    passed = tuple(step for step, was_taken in steps.items() if was_taken)
    names = name_sources([*train_side.sources, *heldout_side.sources])
    parts = find_parts(train_side, heldout_side, heldout_kept, names)
    return CorpusCard(
        train=_write_side(
            train,
            train_side,
            left,
            train_dropped + pieces_dropped,
            {"leakage": removal.removed, "short": removal.short},
            passed=(*passed, "leakage"),
            names=names,
        ),
        heldout=_write_side(
            heldout,
            heldout_side,
            heldout_kept,
            heldout_dropped,
            {},
            strata=strata,
            passed=passed,
            names=names,
            parts=parts,
        ),
        leakage=count_leakage(
            config.leakage.num_words,
            train_kept,
            removal,
            residual_words=sum(coverage.covered_words for coverage in residual.coverage),
            freshness=freshness,
        ),
        parts=parts,
    )


def _freshness(document: Document, released: date | None) -> str:
    if not document.first_commit or released is None:
        return "unknown"
    return "fresh" if document.first_commit >= end_of_day(released) else "not fresh"


def _make_strata_table(coverage: Sequence[Coverage], freshness: Sequence[str]) -> pa.Table:
    """One row for each held-out document, in their order."""
    return pa.table(
        {
            **{name: [getattr(entry.document, name) for entry in coverage] for name in ("repository", "url", "path")},
            "num_words": [entry.num_words for entry in coverage],
            "covered_words": [entry.covered_words for entry in coverage],
            "stratum": [entry.stratum for entry in coverage],
            "freshness": list(freshness),
        }
    )


def _make_dropped_table(dropped: Sequence[DroppedDocument], removed: Mapping[str, Sequence[RemovedSpan]]) -> pa.Table:
    """One row for each document or span left out, with its byte range in the file.

    The `kept_…` columns name the document kept in its place; rows with the same one are a cluster of copies. That
    document may have lost leaks since. For leaked text it is the held-out document that has it.

    Args:
        removed: Reason → the spans removed for it.
    """
    rows: list[tuple[Document, int, int, str, Document | None, float | None]]
    rows = [
        (drop.document, drop.document.start, drop.document.end, drop.reason, drop.preferred, drop.jaccard)
        for drop in dropped
    ]
    rows += [
        (span.document, span.document.start + span.start, span.document.start + span.end, reason, span.heldout, None)
        for reason, spans in removed.items()
        for span in spans
    ]
    schema = pa.schema(
        {
            "reason": pa.string(),
            **{name: pa.string() for name in _FILE_COLUMNS},
            "start": pa.int64(),
            "end": pa.int64(),
            **{f"kept_{name}": pa.string() for name in _FILE_COLUMNS},
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
            **{name: getattr(document, name) for name in _FILE_COLUMNS},
            **{f"kept_{name}": getattr(preferred, name, None) for name in (*_FILE_COLUMNS, "start", "end")},
        }
        for document, start, end, reason, preferred, jaccard in rows
    ]
    return pa.Table.from_pylist(records, schema=schema)


def _write_side(
    folder: Path,
    side: Side,
    left: Sequence[Document],
    dropped: Sequence[DroppedDocument],
    removed: Mapping[str, Sequence[RemovedSpan]],
    *,
    strata: pa.Table | None = None,
    passed: tuple[str, ...],
    names: Mapping[str, str],
    parts: Sequence[HeldOutPart] = (),
) -> SideCount:
    """Write the documents that are left of a side, and the tables next to them, and count the side.

    Args:
        passed: The filters that all these documents passed since they were read.
        names: URL → the name to show.
        parts: What `find_parts` returned, for the manifest (`read_parts`).
    """
    left_out = join_left_out(side.folders)
    tables = {DROPPED_TABLE: _make_dropped_table(dropped, removed), LEFT_OUT_TABLE: left_out}
    if strata is not None:
        tables[STRATA_TABLE] = strata
    num_rows = {name: write_unsealed_table(folder, name, table) for name, table in tables.items()}
    written = (replace(document, filters=(*document.filters, *passed), signature=b"") for document in left)
    facts = {"parts": [part.model_dump(mode="json") for part in parts]} if parts else {}
    write_documents(folder, written, other_tables=num_rows, **facts)
    largest = largest_by_reason(left_out)
    return count_side(side.sources, side.documents, dropped, left, names=names, left_out=largest)
