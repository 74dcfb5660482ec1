"""The command `flyte-llama compare`: two runs side by side, in the terminal and as a page."""

from __future__ import annotations

import os
import re
from pathlib import Path

from flyte_llama.errors import DataError
from flyte_llama.report.sentences import count_text
from flyte_llama.runs import MeasuredRun, RunComparison, comparison_page, open_measured_run
from flyte_llama.workspace import read_runs

_FOLDER = "comparisons"


def open_both(a: str | None, b: str | None, output: Path) -> tuple[MeasuredRun, MeasuredRun]:
    """Open the two runs that the names mean.

    Args:
        a: None compares the two newest runs, the older one as A.
        b: None compares `a` with the newest run.

    Raises:
        DataError: if a name means nothing, or there is no run to compare with.
    """
    if b is not None and a is not None:
        return open_measured_run(a, output), open_measured_run(b, output)
    finished, _ = read_runs(output)
    if len(finished) < (2 if a is None else 1):
        raise DataError(
            f"{output}: has {count_text(len(finished), 'finished run')}, too few to compare. Make another "
            "one, or name two runs, evaluations or reports."
        )
    newest = finished[0]
    older = open_measured_run(str(finished[1].folder) if a is None else a, output)
    if older.folder.resolve() == newest.folder.resolve():
        raise DataError(f"{a}: is the newest run itself. Name another one to compare it with.")
    return older, open_measured_run(str(newest.folder), output)


def check_page(page: Path | None) -> None:
    """Raise DataError unless the file may be written as a page: a report given by mistake would be lost."""
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"{page}: is not the name of a page. Give --output a name that ends with .html.")


def write_page(comparison: RunComparison, page: Path | None, output: Path) -> Path:
    """Write the page of a comparison, and return its path.

    Args:
        page: The file; None is `comparisons/A--B.html` in the output folder.

    Raises:
        DataError: if it cannot be written.
    """
    if page is None:
        page = output / _FOLDER / f"{_file_name(comparison.a.line.name)}--{_file_name(comparison.b.line.name)}.html"
    page = Path(os.path.expanduser(page)).resolve()
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(comparison_page(comparison), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{page}: cannot be written ({error.strerror}). Give another file as --output.") from None
    return page


def _file_name(run: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run)[:100]
