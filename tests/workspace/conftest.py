"""A temporary folder of a test's own, and processes that hold what they took."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HOLD = """
import sys, time
from pathlib import Path
from flyte_llama import workspace
{what}
    print({shown}, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def hold(what: str, shown: str, **environment: str) -> tuple[subprocess.Popen, str]:
    """A process that does `what` and then waits, and the line that it printed."""
    code = HOLD.format(what=what, shown=shown)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | environment
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()
