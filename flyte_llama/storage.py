"""Sealed folders, and the Parquet tables in them: a folder is read as it was written, or not at all.

`manifest.json` lists each data file with its size and sha256, and is written last:

    scores/
      scores.parquet
      manifest.json    {"files": {"scores.parquet": {"num_bytes": …, "rows": …, "sha256": …}}, "window": 512, …}

A folder without a manifest is unfinished; a file that differs from its entry is damaged. Neither is read, and neither
is a table of an earlier version that lacks a column. What the rows mean is up to the rooms that write them.

Two folders have the same content if their manifests are the same, except for `records`: the files and facts that only
tell how a folder was made, such as the times of a training.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.errors import DataError

MANIFEST = "manifest.json"
_RECORDS = "records"
_SELF_DIGEST = "sha256_of_the_rest"
_CLOCK_TICK_NS = 2_000_000_000


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that people can read: indented, and with characters as they are."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def seal(folder: Path, rows: Mapping[str, int] | None = None, *, records: Sequence[str] = (), **facts: Any) -> None:
    """Write the manifest of a folder, with `facts` about the whole folder next to the list of files.

    Every file is synced to disk before the manifest is written. So if the machine stops at any moment, `verify` accepts
    either the complete folder or nothing.

    Args:
        rows: File name → number of its rows. None seals all files in the folder and its subfolders, without row counts.
        records: Names of files and facts that are no part of the content, see `content_digest`. `verify` checks them
            like all others.
    """
    if records:
        facts[_RECORDS] = sorted(records)
    names = rows if rows is not None else dict.fromkeys(list_files(folder))
    files = {}
    for name, count in sorted(names.items()):
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: is no file, so it cannot be sealed. Replace a link by what it leads to.")
        sync_to_disk(folder / name)
        entry = {"num_bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        files[name] = entry if count is None else {"rows": count, **entry}
    # A new file is safe only once the list of names in its folder is on disk too.
    for inner in {(folder / name).parent for name in files}:
        sync_to_disk(inner)
    # The digest must match the parsed file, so convert to JSON and back first: it turns tuples into lists, for example.
    content = json.loads(json.dumps({"files": files, **facts}))
    text = json.dumps({**content, _SELF_DIGEST: _sha256_of(content)}, indent=2, ensure_ascii=False, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    sync_to_disk(folder / MANIFEST)
    sync_to_disk(folder)


def verify(folder: Path, *, strict: bool = False) -> dict[str, Any]:
    """Return the manifest of a folder, after checking that every file is as it was sealed.

    Args:
        strict: Also raise if the folder contains a file that the manifest does not list, or if the manifest has no
            digest of itself.

    Raises:
        DataError: names the first file that is missing or differs.
    """
    path = folder / MANIFEST
    manifest, digest = _parse_manifest(path)
    # Early manifests had no digest of themselves, and such folders are still in caches.
    if digest != _sha256_of(manifest) and (strict or digest is not None):
        raise _manifest_changed(path)
    files = manifest["files"]
    for name, sealed in files.items():
        file = folder / name
        if not file.is_file():
            raise DataError(f"{file}: is in the manifest but missing. Write the folder again.")
        if file.stat().st_size != sealed["num_bytes"] or sha256_file(file) != sealed["sha256"]:
            raise DataError(f"{file}: differs from its manifest, so it is damaged. Write the folder again.")
    unlisted = sorted(list_files(folder) - files.keys()) if strict else []
    if unlisted:
        raise DataError(f"{folder / unlisted[0]}: is not in the manifest. Remove it, or write the folder again.")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder, without checking the files.

    Raises:
        DataError: if it is missing, damaged, or has no digest of itself.
    """
    manifest, digest = _parse_manifest(folder / MANIFEST)
    if digest != _sha256_of(manifest):
        raise _manifest_changed(folder / MANIFEST)
    return manifest


def content_digest(manifest: Mapping[str, Any]) -> str:
    """Return the sha256 of a manifest without its records: the same for all folders of the same content."""
    records = {_RECORDS, *manifest.get(_RECORDS, ())}
    content = {name: fact for name, fact in manifest.items() if name not in records}
    content["files"] = {name: file for name, file in manifest["files"].items() if name not in records}
    return _sha256_of(content)


def is_sealed(folder: Path) -> bool:
    """Whether the folder has a manifest of this package, whole or damaged. Other programs write files of that name."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except (OSError, ValueError, RecursionError):
        return True  # `verify` says why it cannot be read
    if not isinstance(manifest, dict):
        return False
    files = manifest.get("files")
    lists_digests = isinstance(files, dict) and any(isinstance(f, dict) and "sha256" in f for f in files.values())
    return _SELF_DIGEST in manifest or lists_digests


def write_table(folder: Path, name: str, rows: Sequence[Any], schema: pa.Schema, **facts: Any) -> None:
    """Write a table to the file `name` and seal the folder, with `facts` in its manifest.

    Args:
        rows: Instances of one dataclass; the schema has a column for each field.
    """
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    seal(folder, {name: write_unsealed_table(folder, name, table)}, **facts)


def write_unsealed_table(folder: Path, name: str, table: pa.Table, *, row_group_size: int | None = None) -> int:
    """Write a table to a folder that is sealed later, with all its tables, and return the number of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / name, compression="zstd", row_group_size=row_group_size)
    return table.num_rows


def read_table(folder: Path, name: str, columns: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows as dictionaries of these columns, in the order they were written, and the folder's manifest.

    Raises:
        DataError: if the folder is unfinished or damaged, or an earlier version wrote the table without a column.
    """
    manifest = verify(folder)
    return read_verified_table(folder, name, columns), manifest


def read_verified_table(folder: Path, name: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows as `read_table` does, of a folder that is verified already: to verify reads every file whole.

    Raises:
        DataError: if an earlier version wrote the table without a column.
    """
    check_columns(folder / name, columns)
    return pq.read_table(folder / name, columns=list(columns)).to_pylist()


def check_columns(file: Path, columns: Sequence[str]) -> None:
    """Raise DataError if the table lacks one of these columns."""
    present = pq.read_schema(file).names
    missing = [name for name in columns if name not in present]
    if missing:
        raise DataError(
            f"{file}: has no column {', '.join(missing)}, so an earlier version of Flyte Llama wrote it. Measure again."
        )


def list_files(folder: Path) -> set[str]:
    """The relative paths of all files and links in a folder and its subfolders, except the manifest."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    names = {path.relative_to(folder).as_posix() for path in paths}
    return names - {MANIFEST}


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file. A process reads the same file once, and again only if it has changed since.

    A change moves the time of the file's inode, which the system alone can set.
    """
    stat = path.stat()
    # Two changes within one tick of the clock have the same time, so nothing that is so new is remembered.
    if time.time_ns() - stat.st_ctime_ns < _CLOCK_TICK_NS:
        return _read_sha256(path)
    return _remembered_sha256(path, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _read_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=4096)
def _remembered_sha256(path: Path, *_: int) -> str:
    return _read_sha256(path)


def sha256_folder(folder: Path) -> str:
    """The sha256 of every file's relative path and content; the name of the folder does not matter."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def remove_tree(folder: Path) -> None:
    """Remove a folder and its contents, however deep and whatever their permissions."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        for command in (["chmod", "-R", "u+rwx", "--"], ["rm", "-rf", "--"]):
            subprocess.run([*command, str(folder)], check=False, capture_output=True)  # noqa: S603  # this user's folder


def sync_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parse_manifest(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return a manifest and the digest of itself that it has."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        digest = manifest.pop(_SELF_DIGEST, None)
        manifest["files"]  # without files it is no manifest
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: unreadable manifest ({error}). Write the folder again.") from None
    return manifest, digest


def _manifest_changed(path: Path) -> DataError:
    return DataError(f"{path}: has changed since it was sealed, so it is damaged. Write the folder again.")


def _sha256_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
