"""Folders of documents, one for each source → a train folder, a held-out folder and the corpus card.

`pin_sources` pins the sources of both sides; each is then read by itself (`documents.read_source`) before the corpus is
built. The split is by repository, never by chunk. Next to its documents each folder has `dropped.parquet`, the text
left out, and the document kept in its place, and `left_out.parquet`, the files that never became documents, each with
its reason. The held-out folder also has `strata.parquet`: how much of each document was in train, and whether it is
newer than the base model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from flyte_llama.config import CorpusConfig
from flyte_llama.corpus.card import CorpusCard, SideCount, count_leakage, count_side, explain_losses, name_sources
from flyte_llama.corpus.deduplication import DroppedDocument, deduplicate, deduplicate_pieces
from flyte_llama.corpus.leakage import Coverage, RemovedSpan, remove_leaks
from flyte_llama.corpus.tracing import DROPPED_TABLE
from flyte_llama.documents import (
    LEFT_OUT_TABLE,
    Document,
    SourceCount,
    join_left_out,
    largest_by_reason,
    open_documents,
    write_documents,
)
from flyte_llama.errors import CorpusError
from flyte_llama.progress import say, track
from flyte_llama.sources import PinnedSource, RootCommits, pin
from flyte_llama.storage import write_unsealed_table

_SECONDS_PER_DAY = 86_400
STRATA_TABLE = "strata.parquet"
_FILE_COLUMNS = ("repository", "url", "path", "blob_id")


class _Side(NamedTuple):
    """One side as it was read."""

    sources: list[SourceCount]
    roots: list[RootCommits]
    """One for each source."""

    documents: list[Document]
    folders: list[Path]


def pin_sources(config: CorpusConfig, *, released: str) -> list[PinnedSource]:
    """Pin every source at its current revision; held-out sources come last.

    Args:
        released: Day of the base model's release, or empty. If it is known, held-out sources are marked to be read with
            the dates of their files, so that `build_corpus` can tell which of them are newer than the model.
    """
    train = [pin(source) for source in config.train_sources]
    heldout = [pin(source).model_copy(update={"dated": bool(released)}) for source in config.heldout]
    return train + heldout


def build_corpus(
    source_folders: Sequence[Path],
    heldout_urls: Iterable[str],
    config: CorpusConfig,
    *,
    released: date | None,
    train: Path,
    heldout: Path,
) -> CorpusCard:
    """Deduplicate both sides, remove the held-out text from train, and write both sides.

    Args:
        source_folders: Written by `write_documents` with a `SourceCount` in the manifest; in any order.
        heldout_urls: Pinned URLs of the sources to hold out.
        released: Day of the base model's release. Newer held-out documents count as fresh; None makes all `unknown`.

    Raises:
        DataError: if a folder is damaged.
        CorpusError: if a side is empty, or a held-out source has the history of a train source.
    """
    # read the documents of each side
    held_out = set(heldout_urls)
    train_side, heldout_side = _Side([], [], [], []), _Side([], [], [], [])
    for folder in track(source_folders, what="building corpus", total=len(source_folders)):
        documents, manifest = open_documents(folder)
        count = SourceCount.model_validate(manifest["source"])
        side = heldout_side if count.url in held_out else train_side
        side.sources.append(count)
        side.roots.append(RootCommits.model_validate(manifest.get("roots", {})))
        side.documents.extend(documents)
        side.folders.append(folder)
    _check_histories(train_side, heldout_side)
    # Drop copies on each side, then leaks from train. Deduplicate again, since the cut can leave equal pieces.
    heldout_kept, heldout_dropped = deduplicate(heldout_side.documents, config.deduplication)
    train_kept, train_dropped = deduplicate(train_side.documents, config.deduplication)
    removal = remove_leaks(train_kept, heldout_kept, n=config.leakage.num_words, remove=config.leakage.remove)
    left, pieces_dropped = deduplicate_pieces(removal.train, config.deduplication)
    _check_losses("train", train_side, train_kept, train_dropped + pieces_dropped, left)
    _check_losses("heldout", heldout_side, heldout_kept, heldout_dropped, heldout_kept)
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
    return CorpusCard(
        train=_write_side(
            train,
            train_side,
            left,
            train_dropped + pieces_dropped,
            removal.removed,
            passed=(*passed, "leakage"),
            names=names,
        ),
        heldout=_write_side(
            heldout, heldout_side, heldout_kept, heldout_dropped, [], strata=strata, passed=passed, names=names
        ),
        leakage=count_leakage(
            config.leakage.num_words,
            train_kept,
            removal,
            residual_words=sum(coverage.covered_words for coverage in residual.coverage),
            freshness=freshness,
        ),
    )


def _check_histories(train: _Side, heldout: _Side) -> None:
    """Raise an error if a held-out source is a copy, a fork or a part of a train source, or contains one.

    That is so if the first commit of one's main line is anywhere in the other's history. A root that both only merged
    does not count: it is the history of a third repository, and its text is found as leaked text.
    """
    problems = []
    for held_out, roots in zip(heldout.sources, heldout.roots, strict=True):
        for source, others in zip(train.sources, train.roots, strict=True):
            shared = ({roots.own} & {others.own, *others.merged}) | ({others.own} & {*roots.merged})
            problems += [
                f"corpus.heldout = {held_out.url}: shares its history with {source.url} in corpus.train, since both "
                f"contain the first commit {commit}. Hold out another repository, or take that one out of corpus.train."
                for commit in sorted(shared - {""})
            ]
    if problems:
        raise CorpusError("\n".join(problems))
    for side in (train, heldout):
        for source, roots in zip(side.sources, side.roots, strict=True):
            if roots.problem:
                say(f"{source.url}: its root commits are not compared with the other side's: {roots.problem}")


def _check_losses(
    name: str, side: _Side, kept: Sequence[Document], dropped: Sequence[DroppedDocument], left: Sequence[Document]
) -> None:
    """Say where the files of each source went of which nothing is left; raise an error if that is so of all of them.

    Args:
        name: The side's key in the configuration.
        kept: The documents before held-out text was removed.
        left: The documents after it.
    """
    urls_left, files_left = {document.url for document in left}, {(document.url, document.path) for document in left}
    # A file that lost its last piece as a copy counts as a copy, not as held-out text.
    files_left |= {(drop.document.url, drop.document.path) for drop in dropped}
    leaked = Counter(document.url for document in kept if (document.url, document.path) not in files_left)
    if not left:
        losses = explain_losses(side.sources, dropped, num_leaked=leaked.total())
        remedy = "loosen corpus.documents"
        if any(source.unread for source in side.sources):
            remedy = "name more types in corpus.documents.languages"
        if leaked:
            remedy = "hold out repositories that share less text with it"
        raise CorpusError(f"0 {name} documents are left. {losses}. Add sources to corpus.{name}, or {remedy}.")
    for source in side.sources:
        if source.url not in urls_left:
            own = [drop for drop in dropped if drop.document.url == source.url]
            losses = explain_losses([source], own, num_leaked=leaked[source.url])
            say(f"{source.url}: 0 documents of corpus.{name} are left. {losses}")


def _freshness(document: Document, released: date | None) -> str:
    if not document.first_commit or released is None:
        return "unknown"
    # Not as a date: the last date of all has no day after it.
    day_after = datetime.combine(released, time(), UTC).timestamp() + _SECONDS_PER_DAY
    return "fresh" if document.first_commit >= day_after else "not fresh"


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


def _make_dropped_table(dropped: Sequence[DroppedDocument], spans: Sequence[RemovedSpan]) -> pa.Table:
    """One row for each document or span left out, with its byte range in the file.

    The `kept_…` columns name the document kept in its place; rows with the same one are a cluster of copies. That
    document may have lost leaks since. For leaked text it is the held-out document that has it.
    """
    rows: list[tuple[Document, int, int, str, Document | None, float | None]]
    rows = [
        (drop.document, drop.document.start, drop.document.end, drop.reason, drop.preferred, drop.jaccard)
        for drop in dropped
    ]
    rows += [
        (span.document, span.document.start + span.start, span.document.start + span.end, "leakage", span.heldout, None)
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
    side: _Side,
    left: Sequence[Document],
    dropped: Sequence[DroppedDocument],
    spans: Sequence[RemovedSpan],
    *,
    strata: pa.Table | None = None,
    passed: tuple[str, ...],
    names: Mapping[str, str],
) -> SideCount:
    """Write the documents that are left of a side, and the tables next to them, and count the side.

    Args:
        passed: The filters that all these documents passed since they were read.
        names: URL → the name to show.
    """
    left_out = join_left_out(side.folders)
    tables = {DROPPED_TABLE: _make_dropped_table(dropped, spans), LEFT_OUT_TABLE: left_out}
    if strata is not None:
        tables[STRATA_TABLE] = strata
    num_rows = {name: write_unsealed_table(folder, name, table) for name, table in tables.items()}
    written = (replace(document, filters=(*document.filters, *passed), signature=b"") for document in left)
    write_documents(folder, written, other_tables=num_rows)
    largest = largest_by_reason(left_out)
    return count_side(side.sources, side.documents, dropped, left, names=names, left_out=largest)
