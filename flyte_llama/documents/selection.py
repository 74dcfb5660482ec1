"""Which files of a tree are read for one side: by the patterns of the source, and by the split.

Everything else about a file, such as its type or its licence, is up to `filters`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from posixpath import basename, dirname

from pathspec import GitIgnoreSpec

from flyte_llama.config import FilePatterns, Selection
from flyte_llama.documents.left_out import shown_path
from flyte_llama.errors import SourceError
from flyte_llama.progress import say
from flyte_llama.sources import Entry, PinnedSource

_SECONDS_PER_DAY = 86_400
_MAX_NAMED = 5


class SelectedFiles:
    """The files of one pinned tree that are read for the side of the source.

    Args:
        dates: Path → time of the first commit, in seconds since 1970. Needed if the split is by date.
        committed: Time of the pinned commit.

    Raises:
        SourceError: if a pattern of `paths` matches no file.
    """

    def __init__(
        self, pinned: PinnedSource, entries: Sequence[Entry], *, dates: Mapping[str, int], committed: int
    ) -> None:
        selection = pinned.selection
        paths = [entry.path for entry in entries]
        _check_patterns(pinned.url, selection.files, paths)
        self._reasons: dict[str, str] = {}
        if not selection.files.is_empty:
            selected = select_paths(selection.files, paths)
            self._reasons = {path: "not_selected" for path in paths if path not in selected}
        if selection.held_out is not None:
            held_out = select_paths(selection.held_out, paths)
            self._reasons |= {path: "other_side" for path in held_out if path not in self._reasons}
        if selection.age:
            first_newer = _first_newer(selection, committed)
            is_held_out = selection.age == "newer"
            self._reasons |= {
                path: "other_side"
                for path in paths
                if path not in self._reasons and (dates[path] >= first_newer) != is_held_out
            }

    def reason(self, path: str) -> str | None:
        """Return `not_selected` or `other_side` for a file that is not read, or None."""
        return self._reasons.get(path)


def select_paths(files: FilePatterns, paths: Iterable[str]) -> set[str]:
    """Return the paths that the patterns select."""
    wanted, unwanted = GitIgnoreSpec.from_lines(files.paths or ["*"]), GitIgnoreSpec.from_lines(files.exclude)
    return {path for path in paths if wanted.match_file(path) and not unwanted.match_file(path)}


def _first_newer(selection: Selection, committed: int) -> int:
    """Return the time from which on files count as newer, in seconds since 1970."""
    if selection.newest_days is not None:
        return committed - selection.newest_days * _SECONDS_PER_DAY
    return end_of_day(date.fromisoformat(selection.after))


def end_of_day(day: date) -> int:
    """Return the time at which a day ends in UTC, in seconds since 1970."""
    # Not as a date: the last date of all has no day after it.
    return int(datetime.combine(day, time(), UTC).timestamp()) + _SECONDS_PER_DAY


def _check_patterns(url: str, files: FilePatterns, paths: Collection[str]) -> None:
    """Raise an error if a pattern of `paths` matches no file; print each such pattern of `exclude`."""
    problems = [f"{url}: paths has {pattern!r}, {_nearest(pattern, paths)}" for pattern in _idle(files.paths, paths)]
    if problems:
        raise SourceError("\n".join(problems))
    for pattern in _idle(files.exclude, paths):
        say(f"{url}: exclude has {pattern!r}, {_nearest(pattern, paths)}")


def _idle(patterns: Iterable[str], paths: Collection[str]) -> list[str]:
    """Return the patterns that match no path, but for exceptions (`!`), which may."""
    specs = {pattern: GitIgnoreSpec.from_lines([pattern]) for pattern in patterns if not pattern.startswith("!")}
    return [pattern for pattern, spec in specs.items() if not any(map(spec.match_file, paths))]


def _nearest(pattern: str, paths: Iterable[str]) -> str:
    """Say that a pattern matches no file, and which folders or files it may stand for: near in name, or beside it."""
    names = set(paths)
    for path in list(names):
        while path := dirname(path):
            if f"{path}/" in names:
                break
            names.add(f"{path}/")
    wanted = pattern.strip("/")
    # The deepest folder that the pattern names and that exists; the top of the repository if there is none.
    parent = wanted
    while parent and f"{parent}/" not in names:
        parent = dirname(parent)
    beside = sorted(name for name in names if dirname(name.rstrip("/")) == parent)
    same_name = sorted(name for name in names if basename(name.rstrip("/")) == basename(wanted))
    near = difflib.get_close_matches(wanted, [name.rstrip("/") for name in beside], n=_MAX_NAMED)
    folders = [name for name in beside if name.endswith("/")]
    named = same_name or [name for name in beside if name.rstrip("/") in near] or folders or beside
    shown = ", ".join(shown_path(f"/{name}") for name in named[:_MAX_NAMED])
    return f"which matches no file. {'Did you mean one of these' if same_name or near else 'There are'}: {shown}"
