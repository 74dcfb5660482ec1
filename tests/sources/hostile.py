"""Repositories that no porcelain would make: objects are written as they are, and refs point at them."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from pathlib import Path

from flyte_llama.config import DocumentsConfig, SourceConfig
from flyte_llama.documents import Amount, Collected, collect
from flyte_llama.sources import Entry, PinnedSource, open_tree, pin

FILE, SYMLINK, FOLDER, SUBMODULE = b"100644", b"120000", b"40000", b"160000"
Row = tuple[bytes, bytes, str]
"""Mode, name and object id of an entry of a tree."""


class RawRepository:
    """A bare repository whose objects are unchecked; `path` is its URL."""

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
        """In the order given, whatever the names."""
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
        """A flat tree of files; names are sorted as git wants them."""
        rows = [(FILE, name, self.blob(files[name])) for name in sorted(files)]
        return self.commit(self.tree(rows), *parents, time=time, ref=ref)

    def loose(self, object_id: str) -> Path:
        return self.path / "objects" / object_id[:2] / object_id[2:]

    def corrupt(self, object_id: str, data: bytes | None = None) -> None:
        """Make the object's file hold `data`, or an object that its id does not name."""
        self.loose(object_id).chmod(0o600)
        self.loose(object_id).write_bytes(zlib.compress(b"blob 5\0other") if data is None else data)

    def pinned(self, ref: str | None = None) -> PinnedSource:
        return pin(SourceConfig(url=str(self.path), ref=ref, accept_unknown_licence=True))


def entries_of(pinned: PinnedSource) -> list[Entry]:
    with open_tree(pinned) as tree:
        return list(tree.entries())


def read_files(pinned: PinnedSource) -> dict[str, bytes]:
    with open_tree(pinned) as tree:
        return {entry.path: tree.read(entry).data for entry in tree.entries() if entry.mode.startswith("100")}


def collect_all(pinned: PinnedSource) -> Collected:
    """Collected with the default rules; nothing may be lost."""
    with open_tree(pinned) as tree:
        collected = collect(pinned, tree, DocumentsConfig())
    count = collected.count
    assert len(collected.documents) == count.documents.files
    assert count.documents + sum(count.skipped.values(), Amount()) == count.entries
    return collected


def skipped(collected: Collected) -> dict[str, int]:
    """Reason → number of files."""
    return {reason: amount.files for reason, amount in collected.count.skipped.items()}


def children_of(marker: str) -> list[str]:
    """Command lines of live processes that were started with the marker in their environment or arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(") ")[2][0]
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in text and state != "Z":
            found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


def wrapped_git(folder: Path, script: str) -> str:
    """A PATH on which `git` is a shell script; in it `$REAL` is the true git."""
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\nREAL={shutil.which('git')}\n{script}\n")
    (folder / "git").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
