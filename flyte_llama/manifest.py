"""A folder of data files, sealed: `manifest.json` names each file with its bytes and sha256, written last.

A folder without a manifest is unfinished; a file that differs from its line is damaged. Neither is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyte_llama.errors import DataError

MANIFEST = "manifest.json"
_OWN = "sha256_of_the_rest"


def seal(folder: Path, rows: Mapping[str, int] | None = None, **facts: Any) -> None:
    """Write the manifest of a folder, with `facts` about the whole beside it.

    All is on the disk, not only on its way there, before the manifest is; so a machine that stops at any moment leaves
    a folder that `verify` accepts whole or not at all.

    Args:
        rows: File name → number of its rows. None takes every file in the folder and the folders in it, rows unsaid.
    """
    names = rows if rows is not None else dict.fromkeys(files_below(folder))
    files = {}
    for name, count in sorted(names.items()):
        synced(folder / name)
        seen = {"num_bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        files[name] = seen if count is None else {"rows": count, **seen}
    for inner in {(folder / name).parent for name in files}:
        synced(inner)
    told = json.loads(json.dumps({"files": files, **facts}))
    text = json.dumps({**told, _OWN: _sha256_of(told)}, indent=2, ensure_ascii=False, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    synced(folder / MANIFEST)
    synced(folder)


def verify(folder: Path, *, alone: bool = False) -> dict[str, Any]:
    """The manifest of a folder all of whose files are as they were sealed.

    Args:
        alone: Whether it is damage too if a file is there that the manifest does not name, or the manifest has no
            digest of itself.

    Raises:
        DataError: naming the first file that is missing or differs.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        own, files = manifest.pop(_OWN, None), manifest["files"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: unreadable manifest ({error}). Write the folder anew.") from None
    # Manifests had no digest of themselves at first, and folders of that time are still in caches.
    if own != _sha256_of(manifest) and (alone or own is not None):
        raise DataError(f"{path}: is not as it was sealed, so it is damaged. Write the folder anew.")
    for name, sealed in files.items():
        file = folder / name
        if not file.is_file():
            raise DataError(f"{file}: is in the manifest but missing. Write the folder anew.")
        if file.stat().st_size != sealed["num_bytes"] or sha256_file(file) != sealed["sha256"]:
            raise DataError(f"{file}: differs from its manifest, so it is damaged. Write the folder anew.")
    strangers = sorted(files_below(folder) - files.keys()) if alone else []
    if strangers:
        raise DataError(f"{folder / strangers[0]}: is not in the manifest. Remove it, or write the folder anew.")
    return manifest


def files_below(folder: Path) -> set[str]:
    """Relative paths of all files but the manifest."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return found - {MANIFEST}


def _sha256_of(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def synced(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path) -> str:
    """Of every file's relative path and content, whatever the folder is called."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()
