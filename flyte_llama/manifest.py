"""A folder of data files, sealed: `manifest.json` names each file with its rows, bytes and sha256, written last.

A folder without a manifest is unfinished; a file that differs from its line is damaged. Neither is read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from flyte_llama.errors import DataError

MANIFEST = "manifest.json"


def seal(folder: Path, rows: dict[str, int], **facts: Any) -> None:
    """Write the manifest of `rows`, file name → number of rows, with `facts` about the whole beside it."""
    files = {
        name: {"rows": count, "num_bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        for name, count in sorted(rows.items())
    }
    text = json.dumps({"files": files, **facts}, indent=2, ensure_ascii=False, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of a folder all of whose files are as they were sealed.

    Raises:
        DataError: naming the first file that is missing or differs.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: unreadable manifest ({error}). Write the folder anew.") from None
    for name, sealed in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise DataError(f"{file}: is in the manifest but missing. Write the folder anew.")
        if file.stat().st_size != sealed["num_bytes"] or sha256_file(file) != sealed["sha256"]:
            raise DataError(f"{file}: differs from its manifest, so it is damaged. Write the folder anew.")
    return manifest


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
