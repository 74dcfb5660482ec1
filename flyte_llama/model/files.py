"""The files of a model, checked before anything reads them.

    find_folder(path)               a local folder that can be read
    verify_sealed(folder)           a folder that this package wrote: all files as in its manifest, and no others
    verify_pinned(folder, digest)   a local model folder: as it was when it was pinned
    download_files(name, …)         files of a hub model: as the hub lists them for the pinned commit

The hub's client checks the size of what it downloads, and believes whatever its cache holds later. The cache keeps the
hub's digests in two places, and both are checked here:

    models--OWNER--NAME/
      trees/COMMIT.json            path → sha256 of a large file (LFS), git's blob id of a small one
      snapshots/COMMIT/PATH        a link to ../../blobs/DIGEST, with the same digest as its name
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from flyte_llama.errors import DataError, ModelError, hub_error
from flyte_llama.model.weights import INDEX, WEIGHTS, listed_parts
from flyte_llama.progress import say_once
from flyte_llama.sources.entry import git_blob_id
from flyte_llama.storage import content_digest, is_sealed, sha256_file, sha256_folder, verify

ADAPTER_FOLDER = "adapter"
"""Subfolder with the adapter: in a prepared base the one to continue, in a fine-tuned folder the trained one."""

PREFIX = "sha256:"
"""How the digest of a folder begins, to tell it from a commit of the hub."""

_NOT_THE_HUBS = "not the hub's"
_SHA256, _BLOB_ID = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


def find_folder(path: str | Path, *, name: str) -> Path:
    """Return the absolute path of a local folder, which exists and can be read.

    Args:
        path: May begin with `~` for a home.
        name: What the message begins with: the key and the folder.

    Raises:
        ModelError: if it does not exist, is no folder, or cannot be read.
    """
    try:
        folder = Path(os.path.expanduser(path)).resolve()
        # Whether its files may be opened, and whether they may be listed: these are two permissions.
        os.stat(f"{folder}/.")
        os.listdir(folder)
    except FileNotFoundError:
        reason = "does not exist"
    except NotADirectoryError:
        reason = "is not a folder"
    except (OSError, ValueError, RuntimeError) as error:  # as for a path that is too long, has a NUL or is a circle
        reason = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    else:
        return folder
    raise ModelError(f"{name}: {reason}. Give a folder in hub format.")


def verify_sealed(folder: Path) -> str | None:
    """Check a folder against its manifest, if it has one, and return the digest of the content that it lists.

    None without a manifest of this package: the folder comes from elsewhere. The manifest of the folder above lists an
    adapter, and the model that it was merged into.

    Raises:
        DataError: if a file is missing, differs or is not in the manifest, or the manifest is damaged.
    """
    root = folder.parent if folder.name == ADAPTER_FOLDER and not is_sealed(folder) else folder
    if not is_sealed(root):
        return None
    return PREFIX + content_digest(verify(root, strict=True))


def verify_pinned(folder: Path, digest: str, *, key: str = "model.name") -> None:
    """Check that a local folder is as it was when it was pinned.

    Raises:
        DataError: if it is gone, or has another digest.
    """
    if not folder.is_dir():
        raise DataError(f"{key} = {folder}: no longer exists. Put the folder back, or name another.")
    if folder_digest(folder) != digest:
        raise DataError(
            f"{key} = {folder}: a file in it has changed since this run pinned the folder. Restore the folder, or "
            "start the same command again to use it as it is now."
        )


def folder_digest(folder: Path) -> str:
    """Return what a local folder is pinned by: the digest of the content in its manifest, or of all files without one.

    Raises:
        DataError: if it has a manifest that it does not match.
    """
    return verify_sealed(folder) or PREFIX + sha256_folder(folder)


def download_files(name: str, revision: str, patterns: Sequence[str]) -> Path:
    """Download the files of a hub model that match, unless they are in the cache, and return their checked folder.

    Args:
        revision: The commit.
        patterns: Shell patterns for files at the top of the repository.

    Raises:
        ModelError: if the hub cannot be reached or does not have them.
        DataError: if a file in the cache is not the one that the hub has.
    """
    from huggingface_hub import snapshot_download

    try:
        snapshot = Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # raised by the client, its transport or the system
        raise hub_error(name, revision, error) from None
    _verify_snapshot(snapshot, patterns, name=name)
    return snapshot


def download_weights(name: str, revision: str) -> Path:
    """Download the config, the card and the weights of a hub model in safetensors; return their checked folder.

    Raises:
        ModelError: if the hub cannot be reached or does not have them.
        DataError: if a file in the cache is not the one that the hub has.
    """
    # Not every *.safetensors: some repositories hold the same weights a second time, in their authors' own format.
    snapshot = download_files(name, revision, ["config.json", "generation_config.json", "README.md", INDEX])
    parts = listed_parts(snapshot, name=f"{name} at {revision}")
    download_files(name, revision, sorted(parts) or [WEIGHTS])
    # The library prefers some files to others, so a file that was not asked for must be the hub's too.
    _verify_snapshot(snapshot, ["*.json", "*.safetensors"], name=name)
    return snapshot


def _verify_snapshot(snapshot: Path, patterns: Sequence[str], *, name: str) -> None:
    """Check the files of a snapshot that match against the digests in the hub's cache."""
    tree = _read_tree(snapshot.parent.parent / "trees" / f"{snapshot.name}.json")
    files = [file for file in sorted(snapshot.rglob("*")) if not file.is_dir()]
    # Where the system has no links, the snapshot holds the files themselves, and only the tree has digests.
    linked = any(file.is_symlink() for file in files)
    if tree is None and not linked:
        say_once(f"{name}: the hub's cache has no digests of it in {snapshot}, so its files are not verified")
        return
    for file in files:
        path = file.relative_to(snapshot).as_posix()
        if not any(fnmatchcase(path, pattern) for pattern in patterns):
            continue
        digests = [] if tree is None else [tree.get(path, _NOT_THE_HUBS)]
        if linked:
            digests.append(file.readlink().name if file.is_symlink() else _NOT_THE_HUBS)
        if not all(_has_digest(file, digest) for digest in digests):
            raise DataError(
                f"{file}: is not the file that the hub has in {name} at {snapshot.name}, so the cache is damaged. "
                f"Remove {file.resolve()} and start the same command again: it is downloaded again."
            )


def _read_tree(path: Path) -> dict[str, str] | None:
    """Return path → digest as the hub's client stored it for a commit; None if it stored nothing that can be read."""
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {name: str(file.get("lfs_sha256") or file["blob_id"]) for name, file in files.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _has_digest(file: Path, digest: str) -> bool:
    """Whether a file has this sha256, or this blob id of git; a mirror of the hub may use other names."""
    if digest == _NOT_THE_HUBS or not file.is_file():
        return False
    if _SHA256.fullmatch(digest):
        return sha256_file(file) == digest
    return _BLOB_ID.fullmatch(digest) is None or git_blob_id(file.read_bytes()) == digest
