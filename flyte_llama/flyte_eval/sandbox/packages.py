"""The files of installed packages that a run may read: the files of the packages that it imports.

    imported names → packages that have them → with the packages that these require → files and folders

A distribution's RECORD tells which files it has. Where several share a folder, as `google/` or `flytekitplugins/`, each
has only its own part. Optional requirements count for the packages that are imported, not for those behind them.
"""

from __future__ import annotations

import csv
import functools
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from flyte_llama.flyte_eval.sandbox.interpreter import PACKAGE_FOLDERS

_REQUIREMENT = re.compile(r"\s*(?P<name>[\w.-]+)(?P<rest>.*)", re.DOTALL)
_EXTRA = re.compile(r";.*\bextra\b", re.DOTALL)
Parts = tuple[str, ...]
_OWN_MODULE = "flyte_llama"


class Package(NamedTuple):
    """An installed distribution."""

    folder: str
    """The folder on the module search path that it is installed in."""

    files: list[str]
    """The smallest set of files and folders in `folder` that holds what belongs to it."""

    requires: list[str]
    optional: list[str]


def package_folders() -> list[str]:
    """The folders on the module search path that hold installed packages."""
    return [str(Path(path).resolve()) for path in sys.path if Path(path).name in PACKAGE_FOLDERS]


def package_key(name: str) -> str:
    """The name of a distribution in the spelling that all its spellings share."""
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def installed_packages() -> dict[str, Package]:
    """Key → package, for every distribution in the package folders; the first one counts, as for Python."""
    packages: dict[str, Package] = {}
    for folder in package_folders():
        found = {package_key(found.name): found for found in metadata.distributions(path=[folder]) if found.name}
        owned = _owned_files({key: _recorded_files(distribution) for key, distribution in found.items()})
        for key, distribution in found.items():
            requires: dict[bool, list[str]] = {False: [], True: []}
            for requirement in distribution.requires or []:
                if match := _REQUIREMENT.match(requirement):
                    requires[bool(_EXTRA.search(match["rest"]))].append(package_key(match["name"]))
            package = Package(folder, sorted("/".join(path) for path in owned[key]), requires[False], requires[True])
            packages.setdefault(key, package)
    return packages


def own_packages(packages: Mapping[str, Package]) -> set[str]:
    """The keys of the distributions that this package is installed from; none in a checkout."""
    return set(_packages_with(_OWN_MODULE, packages))


def required_packages(
    names: Iterable[str],
    packages: Mapping[str, Package],
    *,
    hidden: Iterable[str] = (),
    also: Iterable[str] = (),
    optional: bool,
) -> set[str]:
    """The keys of the packages that have the imported modules, and of those that these require, directly or not.

    Args:
        names: Dotted names of modules.
        hidden: Keys of packages that do not count as installed.
        also: Keys of more packages.
        optional: Also follow the optional requirements of the imported packages themselves.
    """
    hidden = set(hidden)
    imported = {key for name in names for key in _packages_with(name, packages)} - hidden
    extras = {key for package in imported for key in packages[package].optional} if optional else set()
    reached, waiting = set[str](), [*imported, *extras, *also]
    while waiting:
        key = waiting.pop()
        if key in packages and key not in reached and key not in hidden:
            reached.add(key)
            waiting += packages[key].requires
    return reached


def loaded_packages(packages: Mapping[str, Package]) -> set[str]:
    """The keys of the packages that have modules in this process's memory."""
    owners = {os.path.join(package.folder, file): key for key, package in packages.items() for file in package.files}
    loaded = set()
    for module in list(sys.modules.values()):
        path = Path(getattr(module, "__file__", None) or "/")
        loaded |= {owners[str(folder)] for folder in (path, *path.parents) if str(folder) in owners}
    return loaded


def loaded_alone(keys: Iterable[str], packages: Mapping[str, Package]) -> set[str]:
    """Those of the keys whose packages have modules in memory that belong to no other package."""
    keys = set(keys)
    shared = {(package.folder, file) for key, package in packages.items() if key not in keys for file in package.files}
    own = {}
    for key in keys:
        folder, files = packages[key].folder, packages[key].files
        own[key] = packages[key]._replace(files=[file for file in files if (folder, file) not in shared])
    return loaded_packages(own)


def readable_files(
    names: Iterable[str], packages: Mapping[str, Package], hidden: Iterable[str], also: Iterable[str] = ()
) -> set[str]:
    """The files and folders that the imported modules need, also for optional requirements; none of hidden packages.

    None of this package either: what runs need of it is imported before, and the answers of its small set are in it. A
    module in a package folder that no distribution lists counts too, if it is imported.

    Args:
        names: Dotted names of modules.
        hidden: Keys of packages.
        also: Keys of packages that count without an import.
    """
    names = {name for name in names if name.split(".")[0] != _OWN_MODULE}
    hidden = {*hidden, *own_packages(packages)}
    readable = set[str]()
    for key in required_packages(names, packages, hidden=hidden, also=also, optional=True):
        readable |= {os.path.join(packages[key].folder, file) for file in packages[key].files}
    listed = {file.split("/")[0].split(".")[0] for package in packages.values() for file in package.files}
    # The glob below would match other files if a name were not that of a module.
    for top in {name.split(".")[0] for name in names if name.split(".")[0].isidentifier()} - listed - {"__pycache__"}:
        for folder in map(Path, package_folders()):
            readable |= {str(path) for path in (folder / top, folder / f"{top}.py", *folder.glob(f"{top}.*.so"))}
    return readable


def _packages_with(name: str, packages: Mapping[str, Package]) -> list[str]:
    """The packages that have a module, or parts of it if it is a folder that several share."""
    wanted = tuple(name.split("."))
    matches = []
    for key, package in packages.items():
        for file in package.files:
            *folders, last = file.split("/")
            path = (*folders, last.split(".")[0])
            if path[: len(wanted)] == wanted or path == wanted[: len(path)]:
                matches.append(key)
                break
    return matches


def _recorded_files(distribution: metadata.Distribution) -> list[Parts]:
    """The paths in the package folder that a distribution lists; its top-level modules if it has no RECORD."""
    if record := distribution.read_text("RECORD"):
        paths = [row[0] for row in csv.reader(record.splitlines()) if row]
    else:
        names = (distribution.read_text("top_level.txt") or "").split()
        paths = [path for name in names for path in (name, f"{name}.py")]
    # what lies elsewhere, such as scripts, is not for runs; several distributions may share a folder of compiled files
    parts = [tuple(path.split("/")) for path in paths if not path.startswith(("../", "/"))]
    return [path for path in parts if "__pycache__" not in path]


def _owned_files(files: Mapping[str, Sequence[Parts]], depth: int = 0) -> dict[str, set[Parts]]:
    """Distribution → the shortest paths that hold its files and no other's; a file of several belongs to each.

    Args:
        files: Distribution → paths, which are equal up to `depth`.
    """
    below: dict[Parts, dict[str, list[Parts]]] = {}
    for key, paths in files.items():
        for path in paths:
            below.setdefault(path[: depth + 1], {}).setdefault(key, []).append(path)
    owned: dict[str, set[Parts]] = {key: set() for key in files}
    for start, owners in below.items():
        if len(owners) == 1 or any(path == start for paths in owners.values() for path in paths):
            for key in owners:
                owned[key].add(start)
        else:
            for key, inner in _owned_files(owners, depth + 1).items():
                owned[key] |= inner
    return owned
