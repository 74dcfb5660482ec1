"""What became of a file: kept, and as which pieces, or dropped, and why, and where its text is instead.

    read_traces(train, heldout)   → the traces of all files of both sides

Everything comes from the tables that `build_corpus` wrote beside the documents; no text is read. The page of the corpus
and `flyte-llama why` show the same sentences.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flyte_llama.config import Frozen
from flyte_llama.corpus.leakage import MIN_WORDS_LEFT
from flyte_llama.corpus.reasons import explain
from flyte_llama.documents import LEFT_OUT_TABLE, file_address
from flyte_llama.documents.document import TABLE
from flyte_llama.errors import DataError
from flyte_llama.progress import bytes_text
from flyte_llama.storage import read_verified_table, verify

DROPPED_TABLE = "dropped.parquet"
DOCUMENT_COLUMNS = ("repository", "url", "revision", "path", "start", "end", "language", "kind", "licence")
_COLUMNS = {
    TABLE: DOCUMENT_COLUMNS,
    DROPPED_TABLE: (
        *("reason", "repository", "url", "path", "start", "end"),
        *("kept_repository", "kept_url", "kept_path", "jaccard"),
    ),
    LEFT_OUT_TABLE: ("repository", "url", "path", "num_bytes", "reason"),
}
_MOST_NAMED = 5
"""Copies that a sentence names."""

_Row = Mapping[str, Any]


class PathTrace(Frozen):
    """What became of one file of a source."""

    side: str
    """`train` or `held out`."""

    repository: str
    url: str
    revision: str
    """The commit or version that was read; empty if no document of its source is left."""

    path: str
    """As it may be shown: in that of a file left out, secrets and addresses are masked."""

    link: str
    """URL of the file; empty if its host is not known."""

    outcome: str
    """`kept`, `kept in part`, or the reason for which all of it was dropped."""

    num_bytes: int
    """Bytes kept, or those of the file that was dropped."""

    sentences: list[str]
    """What became of it, and where its text is instead."""

    @property
    def name(self) -> str:
        return f"{self.repository}:{self.path}"


class _Side(NamedTuple):
    """The tables of a side by file, which is (url, path)."""

    name: str
    documents: Mapping[tuple[str, str], list[_Row]]
    dropped: Mapping[tuple[str, str], list[_Row]]
    left_out: Sequence[_Row]
    """One for each file. Two may have one path, since what is secret in it is masked."""

    revisions: Mapping[str, str]


def read_traces(train: Path, heldout: Path) -> list[PathTrace]:
    """Return the trace of each file of both sides, train first, ordered by repository and path.

    Raises:
        DataError: if a folder is unfinished or damaged, or an earlier version wrote it.
    """
    sides = [_read_side("train", train), _read_side("held out", heldout)]
    # (side, url, path) → the rows whose text this file has. A repository of which a part is held out has each path on
    # both sides: a copy is kept on its own side, and leaked text is in the held-out file.
    pointing: defaultdict[tuple[str, str, str], list[_Row]] = defaultdict(list)
    for side in sides:
        for rows in side.dropped.values():
            for row in rows:
                if row["kept_path"] is not None:
                    kept_on = "held out" if row["reason"] == "leakage" else side.name
                    pointing[kept_on, row["kept_url"], row["kept_path"]].append(row)
    traces = []
    for side in sides:
        files = side.documents.keys() | side.dropped.keys()
        in_side = [_trace(side, file, pointing.get((side.name, *file), [])) for file in files]
        in_side += [_left_out_trace(side, row) for row in side.left_out]
        traces += sorted(in_side, key=lambda trace: (trace.repository, trace.path, trace.url))
    return traces


def _read_side(name: str, folder: Path) -> _Side:
    missing = sorted(_COLUMNS.keys() - verify(folder)["files"].keys())
    if missing:
        raise DataError(
            f"{folder}: has no {missing[0]}, so an earlier version wrote it. Run it again with this version."
        )
    tables = {table: read_verified_table(folder, table, columns) for table, columns in _COLUMNS.items()}
    documents: defaultdict[tuple[str, str], list[_Row]] = defaultdict(list)
    dropped: defaultdict[tuple[str, str], list[_Row]] = defaultdict(list)
    for rows, table in ((documents, TABLE), (dropped, DROPPED_TABLE)):
        for row in tables[table]:
            rows[row["url"], row["path"]].append(row)
    revisions = {row["url"]: row["revision"] for row in tables[TABLE]}
    return _Side(name, documents, dropped, tables[LEFT_OUT_TABLE], revisions)


def _trace(side: _Side, file: tuple[str, str], pointing: list[_Row]) -> PathTrace:
    url, path = file
    kept = sorted(side.documents.get(file, []), key=lambda row: row["start"])
    dropped = sorted(side.dropped.get(file, []), key=lambda row: row["start"])
    sentences = [*_kept_sentences(kept), *_dropped_sentences(kept, dropped)]
    if kept:
        outcome = "kept in part" if dropped else "kept"
        sentences += _pointing_sentences(pointing)
    else:
        # A short piece is beside text that was dropped for another reason, which is the one to tell.
        outcome = min(dropped, key=lambda row: row["reason"] == "short")["reason"]
    revision = side.revisions.get(url, "")
    return PathTrace(
        side=side.name,
        repository=(kept or dropped)[0]["repository"],
        url=url,
        revision=revision,
        path=path,
        link=file_address(url, revision, path) if revision else "",
        outcome=outcome,
        num_bytes=_sum_bytes(kept or dropped),
        sentences=sentences,
    )


def _left_out_trace(side: _Side, row: _Row) -> PathTrace:
    reason = explain(row["reason"])
    return PathTrace(
        side=side.name,
        repository=row["repository"],
        url=row["url"],
        revision=side.revisions.get(row["url"], ""),
        path=row["path"],
        link="",
        outcome=row["reason"],
        num_bytes=row["num_bytes"],
        sentences=[_sentence(f"Dropped, {bytes_text(row['num_bytes'])}: {reason.words}.", reason.remedy)],
    )


def _kept_sentences(kept: list[_Row]) -> Iterator[str]:
    if not kept:
        return
    row = kept[0]
    licence = row["licence"] or "licence unknown"
    yield f"Kept: {row['language']} {row['kind']}, {licence}, {bytes_text(_sum_bytes(kept))}."
    if len(kept) > 1:
        yield f"In {len(kept)} pieces: {_join([_range(piece) for piece in kept], most=len(kept))}."


def _dropped_sentences(kept: list[_Row], dropped: list[_Row]) -> Iterator[str]:
    short = [row for row in dropped if row["reason"] == "short"]
    named = [row for row in dropped if row["reason"] != "short"]
    last = {row["reason"]: index for index, row in enumerate(named)}
    for index, row in enumerate(named):
        reason = explain(row["reason"])
        remedy = reason.remedy if index == last[row["reason"]] else ""
        whole = not kept and len(dropped) == 1
        what = f"{bytes_text(row['end'] - row['start'])}" if whole else _range(row)
        of = ""
        if row["kept_path"] is not None:
            of = f" that {_kept_name(row)} has" if row["reason"] == "leakage" else f" of {_kept_name(row)}"
        likeness = (
            f", similarity {row['jaccard']:.2f}" if row["reason"] == "near" and row["jaccard"] is not None else ""
        )
        yield _sentence(f"Dropped, {what}: {reason.words}{of}{likeness}.", remedy)
    if short:
        yield f"Dropped, {bytes_text(_sum_bytes(short))}: {explain('short').words.format(words=MIN_WORDS_LEFT)}."


def _pointing_sentences(pointing: list[_Row]) -> Iterator[str]:
    """Say what was dropped because this file has its text."""
    copies = sorted({_name(row) for row in pointing if row["reason"] != "leakage"})
    leaks = sorted({_name(row) for row in pointing if row["reason"] == "leakage"})
    if copies:
        yield f"Kept in the place of {len(copies)} dropped: {_join(copies)}."
    if leaks:
        yield f"Held out, so its text was taken out of train: {_join(leaks)}."


def _sentence(words: str, remedy: str) -> str:
    return f"{words} {remedy}".rstrip()


def _sum_bytes(rows: list[_Row]) -> int:
    return sum(row["end"] - row["start"] for row in rows)


def _name(row: _Row) -> str:
    return f"{row['repository']}:{row['path']}"


def _kept_name(row: _Row) -> str:
    return f"{row['kept_repository']}:{row['kept_path']}"


def _range(row: _Row) -> str:
    return f"bytes {row['start']:,} to {row['end']:,}"


def _join(names: list[str], *, most: int = _MOST_NAMED) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
