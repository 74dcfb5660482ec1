"""What became of a file: kept, and as which pieces, or dropped, and why, and where its text is instead.

    explain_path(train, heldout, "o/r:a.py")   → the traces of one path, on both sides
    read_traces(train, heldout)                → the traces of all files

Everything comes from the tables that `build_corpus` wrote beside the documents; no text is read. The page of the corpus
and `flyte-llama why` show the same sentences.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from posixpath import basename
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow.parquet as pq

from flyte_llama.config import Frozen
from flyte_llama.config.source_url import repository_address
from flyte_llama.corpus.leakage import MIN_WORDS_LEFT
from flyte_llama.corpus.reasons import explain
from flyte_llama.documents import LEFT_OUT_TABLE, file_address
from flyte_llama.documents.left_out import shown_path
from flyte_llama.errors import CorpusError
from flyte_llama.progress import bytes_text

DROPPED_TABLE = "dropped.parquet"
_DOCUMENTS = ["repository", "url", "revision", "path", "start", "end", "language", "kind", "licence"]
_NUM_NEAREST = 5
_URL = re.compile(r"https?://(?P<address>[^/]+/.+?)/(?:-/)?(?:blob|src/commit|src)/[^/]+/(?P<path>[^#?]+)(?:[#?].*)?")
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
    left_out: Mapping[tuple[str, str], _Row]
    revisions: Mapping[str, str]


def explain_path(train: Path, heldout: Path, path: str) -> list[PathTrace]:
    """Return the trace of each file that a path means.

    Args:
        train: The train folder of a run.
        heldout: Its held-out folder.
        path: A path in a repository, `owner/name:path`, or the URL of a file.

    Raises:
        CorpusError: if no file of the run has this path; the message names the nearest ones.
    """
    traces = read_traces(train, heldout)
    found = _find(path, traces)
    if not found:
        nearest = "".join(f"\n  {name}" for name in _nearest(path, traces))
        raise CorpusError(
            f"{path}: no source of this run has a file of this path. The nearest are:{nearest}\n"
            "Give a path as its repository has it, owner/name:path, or the URL of the file."
        )
    return found


def read_traces(train: Path, heldout: Path) -> list[PathTrace]:
    """Return the trace of each file of both sides, train first, ordered by repository and path."""
    sides = [_read_side("train", train), _read_side("held out", heldout)]
    pointing: defaultdict[tuple[str, str], list[_Row]] = defaultdict(list)
    for side in sides:
        for rows in side.dropped.values():
            for row in rows:
                if row["kept_path"] is not None:
                    pointing[row["kept_url"], row["kept_path"]].append(row)
    traces = []
    for side in sides:
        files = side.documents.keys() | side.dropped.keys() | side.left_out.keys()
        in_side = [_trace(side, file, pointing.get(file, [])) for file in files]
        traces += sorted(in_side, key=lambda trace: (trace.repository, trace.path, trace.url))
    return traces


def _read_side(name: str, folder: Path) -> _Side:
    documents: defaultdict[tuple[str, str], list[_Row]] = defaultdict(list)
    dropped: defaultdict[tuple[str, str], list[_Row]] = defaultdict(list)
    for rows, table, columns in ((documents, "documents.parquet", _DOCUMENTS), (dropped, DROPPED_TABLE, None)):
        for row in pq.read_table(folder / table, columns=columns).to_pylist():
            rows[row["url"], row["path"]].append(row)
    left_out = {(row["url"], row["path"]): row for row in pq.read_table(folder / LEFT_OUT_TABLE).to_pylist()}
    revisions = {row["url"]: row["revision"] for rows in documents.values() for row in rows}
    return _Side(name, documents, dropped, left_out, revisions)


def _trace(side: _Side, file: tuple[str, str], pointing: list[_Row]) -> PathTrace:
    url, path = file
    kept = sorted(side.documents.get(file, []), key=lambda row: row["start"])
    dropped = sorted(side.dropped.get(file, []), key=lambda row: row["start"])
    left_out = side.left_out.get(file)
    first = next(iter([*kept, *dropped, *([left_out] if left_out else [])]))
    sentences = [*_kept_sentences(kept), *_dropped_sentences(kept, dropped)]
    if left_out is not None:
        reason = explain(left_out["reason"])
        sentences.append(_sentence(f"Dropped, {bytes_text(left_out['num_bytes'])}: {reason.words}.", reason.remedy))
        outcome, num_bytes = left_out["reason"], left_out["num_bytes"]
    elif kept:
        outcome = "kept in part" if dropped else "kept"
        num_bytes = sum(row["end"] - row["start"] for row in kept)
    else:
        outcome, num_bytes = dropped[0]["reason"], sum(row["end"] - row["start"] for row in dropped)
    sentences += _pointing_sentences(pointing)
    revision = side.revisions.get(url, "")
    return PathTrace(
        side=side.name,
        repository=first["repository"],
        url=url,
        revision=revision,
        path=path,
        link=file_address(url, revision, path) if revision and left_out is None else "",
        outcome=outcome,
        num_bytes=num_bytes,
        sentences=sentences,
    )


def _kept_sentences(kept: list[_Row]) -> Iterator[str]:
    if not kept:
        return
    row, num_bytes = kept[0], sum(piece["end"] - piece["start"] for piece in kept)
    licence = row["licence"] or "licence unknown"
    yield f"Kept: {row['language']} {row['kind']}, {licence}, {bytes_text(num_bytes)}."
    if len(kept) > 1:
        yield f"In {len(kept)} pieces: {_join([_range(piece) for piece in kept], most=len(kept))}."


def _dropped_sentences(kept: list[_Row], dropped: list[_Row]) -> Iterator[str]:
    last = {row["reason"]: index for index, row in enumerate(dropped)}
    for index, row in enumerate(dropped):
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
    known = sorted((row["start"], row["end"]) for row in [*kept, *dropped])
    gap = sum(max(0, start - end) for (_, end), (start, _) in itertools.pairwise(known))
    if gap and any(row["reason"] == "leakage" for row in dropped):
        yield f"Dropped, {bytes_text(gap)}: {explain('short').words.format(words=MIN_WORDS_LEFT)}."


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


def _name(row: _Row) -> str:
    return f"{row['repository']}:{row['path']}"


def _kept_name(row: _Row) -> str:
    return f"{row['kept_repository']}:{row['kept_path']}"


def _range(row: _Row) -> str:
    return f"bytes {row['start']:,} to {row['end']:,}"


def _join(names: list[str], *, most: int = _MOST_NAMED) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def _find(path: str, traces: list[PathTrace]) -> list[PathTrace]:
    """Return the traces of the files that a path, a name or a URL means."""
    if url := _URL.fullmatch(path):
        # The revision of the URL may be another one, such as a branch.
        wanted, address = shown_path(unquote(url["path"])), url["address"].lower()
        same_path = [trace for trace in traces if trace.path == wanted]
        return [trace for trace in same_path if repository_address(trace.url).lower() == address]
    repository, _, rest = path.rpartition(":")
    paths, names = {path, shown_path(path)}, {(repository, rest), (repository, shown_path(rest))}
    return [trace for trace in traces if trace.path in paths or (trace.repository, trace.path) in names]


def _nearest(path: str, traces: list[PathTrace]) -> list[str]:
    """Return the names of the files whose path is most like this one; first those of the same file name."""
    wanted = path.rpartition(":")[2] if "://" not in path else path.rpartition("/")[2]
    same = [trace.name for trace in traces if basename(trace.path) == basename(wanted)]
    by_path = {trace.path: trace.name for trace in traces}
    close = [by_path[near] for near in difflib.get_close_matches(wanted, by_path, n=_NUM_NEAREST, cutoff=0.4)]
    return list(dict.fromkeys([*same, *close]))[:_NUM_NEAREST]
