"""A real browser, to see what it makes of a page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed to open the pages in")
_OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    # The time that timers and events of the page get; it passes at once if they are idle.
    "--virtual-time-budget=2000",
]


def open_page(page: Path, folder: Path) -> str:
    """Open a page, let its scripts run, and return the HTML of the elements that there are then.

    Args:
        folder: Where the browser keeps its profile.
    """
    assert BROWSER is not None
    command = [BROWSER, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.rstrip().endswith("</html>"), done.stderr[-2000:]
    return done.stdout


def script_ran(opened: str) -> bool:
    """Whether a script of the payloads changed the opened page: its title, or the id of its first element."""
    title = re.search(r"<title>(.*?)</title>", opened, re.DOTALL)
    return title is None or title[1] == "pwned" or 'id="pwned"' in opened.split(">")[0]
