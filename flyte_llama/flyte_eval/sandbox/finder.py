"""Finds modules as Python does, but none of a package that may not be used: imports of it fail as if it were missing.

In the template this keeps hidden packages out of memory. In a run it only keeps honest code honest: a library that
tries an optional import gets ImportError, not PermissionError. Hostile code is stopped by `landlock`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import FileFinder, PathFinder
from typing import Any


class PackageFilter:
    """Decides which paths in the package folders may be used."""

    def __init__(self, folders: Iterable[str], *, denied: Iterable[str]) -> None:
        """Configure the filter.

        Args:
            folders: The package folders.
            denied: Paths in them that may not be used.
        """
        self._folders = {os.path.realpath(folder) for folder in folders}
        self._denied = {os.path.realpath(path) for path in denied}
        self._allowed: set[str] | None = None
        self.kept = set[str]()
        """Folders whose lists of names the interpreter keeps."""

    def install(self) -> None:
        """Filter what the finders in `sys.meta_path` find, both modules and distributions."""
        with contextlib.suppress(ImportError):
            # flytekit prefers it to Python's own; it adds a finder when it is imported
            importlib.import_module("importlib_metadata")
        sys.meta_path[:] = [
            _FilteredFinder(finder, self) if finder is PathFinder or hasattr(finder, "find_distributions") else finder
            for finder in sys.meta_path
        ]

    def keep_names(self) -> None:
        """Let the interpreter list all folders on the search path, while this process still may.

        It keeps the lists, and finds modules by them even in a folder that it may not list any more.
        """
        for finder in sys.meta_path:
            if isinstance(finder, _FilteredFinder):
                finder.find_spec("a module that does not exist")
                list(finder.find_distributions())
        self.kept = set(sys.path_importer_cache)

    def allow_only(self, paths: Iterable[str]) -> None:
        """From now on, allow only these paths in the package folders; no part of a path may be a link."""
        self._allowed = set(paths)

    def may_use(self, file: str) -> bool:
        """True if a file is in no package folder, or may be used."""
        path = os.path.realpath(file)
        above = {path}
        while (path := os.path.dirname(path)) not in above:
            above.add(path)
        if self._allowed is None:
            return not above & self._denied
        return not above & self._folders or bool(above & self._allowed)


class _FilteredFinder:
    """A finder for `sys.meta_path` in place of another one."""

    def __init__(self, finder: Any, packages: PackageFilter) -> None:
        self._finder, self._packages = finder, packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        spec = self._finder.find_spec(name, path, target)
        return None if spec and spec.origin and not self._packages.may_use(spec.origin) else spec

    def find_distributions(self, *arguments: Any) -> Iterator[Any]:
        # `importlib_metadata` takes this method away from Python's own finder
        for found in self._finder.find_distributions(*arguments) if hasattr(self._finder, "find_distributions") else ():
            # a PathDistribution has its path only in this field
            if self._packages.may_use(str(getattr(found, "_path", ""))):
                yield found

    def invalidate_caches(self) -> None:
        """Forget lists of names, but not those that this process may be unable to make again."""
        for path, finder in sys.path_importer_cache.items():
            if path not in self._packages.kept and isinstance(finder, FileFinder):
                finder.invalidate_caches()
