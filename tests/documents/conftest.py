"""The repository of `planted`, made on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import MakeRepo, commit_files, git
from tests.documents.planted import KEPT, SKIPPED


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    files = KEPT | {path: content for path, (content, _) in SKIPPED.items()}
    # `.gitattributes` itself is skipped by its type.
    repo = make_repo("r", files)
    os.symlink("src/main.go", repo / "link.go")
    commit_files(repo, {})
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    git(repo, "commit", "-q", "-m", "submodule")
    return repo
