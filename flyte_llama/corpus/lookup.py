"""The files of a run that a path, a name or a URL means.

explain_path(train, heldout, "o/r:a.py")   → the traces of one path, on both sides
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from posixpath import basename

from flyte_llama.config.source_url import repository_address
from flyte_llama.corpus.tracing import PathTrace, read_traces
from flyte_llama.documents.left_out import shown_path
from flyte_llama.errors import CorpusError

_NUM_NEAREST = 5
_RAW_HOST = "raw.githubusercontent.com"
# git allows no branch `main/x` beside a branch `main`, so each of these is a whole revision.
_WHOLE_REVISION = re.compile(r"main|master|HEAD|[0-9a-f]{40}")


def explain_path(train: Path, heldout: Path, path: str) -> list[PathTrace]:
    """Return the trace of each file that a path means.

    Args:
        train: The train folder of a run.
        heldout: Its held-out folder.
        path: A path in a repository, `owner/name:path`, or the URL of a file.

    Raises:
        CorpusError: if no file of the run has this path; the message names the nearest ones.
        DataError: as for `read_traces`.
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


def _find(path: str, traces: list[PathTrace]) -> list[PathTrace]:
    """Return the traces of the files that a path, a name or a URL means."""
    if path.startswith(("https://", "http://")):
        return _find_address(path, traces)
    anywhere = _spellings(path)
    in_repository: dict[str, set[str]] = {}
    for repository in {trace.repository for trace in traces}:
        prefix = f"{repository}:"
        if path[: len(prefix)].casefold() == prefix.casefold():
            in_repository[repository] = _spellings(path[len(prefix) :])
    return [
        trace for trace in traces if trace.path in anywhere or trace.path in in_repository.get(trace.repository, ())
    ]


def _find_address(address: str, traces: list[PathTrace]) -> list[PathTrace]:
    """Return the traces of the files that a URL means, whatever its revision is.

    A branch may have slashes, so the path is the longest end of the URL that is the path of a file.
    """
    try:
        parts = repository_address(address).split("/")
    except ValueError:
        return []
    if parts[0] == _RAW_HOST:
        parts = ["github.com", *parts[1:3], "raw", *parts[3:]]
    found: list[PathTrace] = []
    for url in dict.fromkeys(trace.url for trace in traces):
        repository = repository_address(url).casefold().split("/")
        if [part.casefold() for part in parts[: len(repository)]] != repository:
            continue
        # What follows is the kind of page (`blob`), the revision and the path; GitLab has a `-` before them.
        rest = parts[len(repository) :]
        rest = rest[1:] if rest[:1] == ["-"] else rest
        is_whole = len(rest) > 1 and _WHOLE_REVISION.fullmatch(rest[1])
        for first in range(2, min(len(rest), 3) if is_whole else len(rest)):
            paths = _spellings("/".join(rest[first:]))
            in_source = [trace for trace in traces if trace.url == url and trace.path in paths]
            if in_source:
                found += in_source
                break
    return found


def _spellings(path: str) -> set[str]:
    """Return how a trace may spell a path: as it is, or as that of a file left out."""
    inner = path.lstrip("/")
    return {inner, shown_path(inner)}


def _nearest(path: str, traces: list[PathTrace]) -> list[str]:
    """Return the names of the files whose path is most like this one; first those of the same file name."""
    wanted = path.rpartition(":")[2] if "://" not in path else path.rpartition("/")[2]
    same = [trace.name for trace in traces if basename(trace.path) == basename(wanted)]
    by_path = {trace.path: trace.name for trace in traces}
    close = [by_path[near] for near in difflib.get_close_matches(wanted, by_path, n=_NUM_NEAREST, cutoff=0.4)]
    return list(dict.fromkeys([*same, *close]))[:_NUM_NEAREST]
