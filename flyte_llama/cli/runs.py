"""The command `flyte-llama runs`: the finished runs of an output folder, one line each."""

from __future__ import annotations

from pathlib import Path

from flyte_llama.redaction import escape_line
from flyte_llama.runs import lines_table, list_lines


def runs_text(output: Path) -> str:
    """Return the table of runs, newest first, or how to make the first one."""
    lines = list_lines(output)
    if not lines:
        return f"{escape_line(str(output))} has no finished runs yet. `make run` makes one."
    return lines_table(lines)
