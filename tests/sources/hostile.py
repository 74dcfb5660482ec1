"""Repositories that no ordinary git command makes: objects are written unchecked, and refs point at them."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from pathlib import Path

from flyte_llama.config import DocumentsConfig, SourceConfig
from flyte_llama.documents import Amount
from flyte_llama.documents.read import SourceDocuments, collect
from flyte_llama.sources import Entry, PinnedSource, open_tree, pin

FILE, SYMLINK, FOLDER, SUBMODULE = b"100644", b"120000", b"40000", b"160000"
Row = tuple[bytes, bytes, str]
"""Mode, name and object id of an entry of a tree."""


class RawRepository:
    """A bare repository with unchecked objects; `path` is its URL."""

    def __init__(self, path: Path) -> None:
        self.path = path
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True)
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")

    def git(self, *command: str, stdin: bytes = b"") -> str:
        done = subprocess.run(["git", *command], cwd=self.path, input=stdin, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def blob(self, data: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=data)

    def tree(self, rows: list[Row]) -> str:
        """Write a tree with the rows in this order, whatever their names, and return its id."""
        data = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(object_id) for mode, name, object_id in rows)
        return self.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=data)

    def commit(self, tree: str, *parents: str, time: int = 1_700_000_000, ref: str = "refs/heads/main") -> str:
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        who = f"Test <test@example.com> {time} +0000"
        text = "\n".join([*lines, f"author {who}", f"committer {who}", "", "files", ""])
        commit = self.git("hash-object", "-w", "-t", "commit", "--stdin", stdin=text.encode())
        self.git("update-ref", ref, commit)
        return commit

    def commit_files(
        self, files: dict[bytes, bytes], *parents: str, time: int = 1_700_000_000, ref: str = "refs/heads/main"
    ) -> str:
        """Commit a flat tree of files, with the names sorted as git requires, and return the commit."""
        rows = [(FILE, name, self.blob(files[name])) for name in sorted(files)]
        return self.commit(self.tree(rows), *parents, time=time, ref=ref)

    def loose_path(self, object_id: str) -> Path:
        return self.path / "objects" / object_id[:2] / object_id[2:]

    def corrupt(self, object_id: str, data: bytes | None = None) -> None:
        """Replace the content of the object's file by `data`, or by an object that has another id."""
        self.loose_path(object_id).chmod(0o600)
        self.loose_path(object_id).write_bytes(zlib.compress(b"blob 5\0other") if data is None else data)

    def pin(self, ref: str | None = None) -> PinnedSource:
        return pin(SourceConfig(url=str(self.path), ref=ref, accept_unknown_licence=True))


def list_entries(pinned: PinnedSource) -> list[Entry]:
    with open_tree(pinned) as tree:
        return list(tree.entries())


def read_files(pinned: PinnedSource) -> dict[str, bytes]:
    with open_tree(pinned) as tree:
        return {entry.path: tree.read(entry).data for entry in tree.entries() if entry.mode.startswith("100")}


def collect_all(pinned: PinnedSource) -> SourceDocuments:
    """Collect a source with the default rules, and check that every entry is counted."""
    with open_tree(pinned) as tree:
        collected = collect(pinned, tree, DocumentsConfig())
    count = collected.count
    assert len(collected.documents) == count.documents.files
    assert count.documents + sum(count.skipped.values(), Amount()) == count.entries
    return collected


def count_skipped(collected: SourceDocuments) -> dict[str, int]:
    """Return reason → number of files skipped for it."""
    return {reason: amount.files for reason, amount in collected.count.skipped.items()}


def find_processes(marker: str) -> list[str]:
    """Return the command lines of live processes with the marker in their environment or arguments."""
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(") ")[2][0]
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in text and state != "Z":
            commands.append((process / "cmdline").read_text().replace("\0", " "))
    return commands


def cpu_s() -> float:
    """CPU time of this process and its finished children; a wall clock would include the machine's other work."""
    return sum(os.times()[:4])


def wrap_git(folder: Path, script: str) -> str:
    """Write a shell script named `git` and return a PATH that starts with it; in the script `$REAL` is the real git."""
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\nREAL={shutil.which('git')}\n{script}\n")
    (folder / "git").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
