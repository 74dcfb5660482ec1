"""An empty repository for objects that no ordinary git command makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.hostile import RawRepository


@pytest.fixture
def raw(tmp_path: Path) -> RawRepository:
    return RawRepository(tmp_path / "raw")
