"""The command `flyte-llama clean`: what takes room in the output folder, and the removal of what no run needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flyte_llama.progress import bytes_text
from flyte_llama.redaction import escape_line
from flyte_llama.workspace import StoredItem


def items_table(items: Sequence[StoredItem], output: Path) -> str:
    """A line for each item, the largest first, with its size and the run that needs it; and the totals."""
    lines = []
    for item in sorted(items, key=lambda item: item.num_bytes, reverse=True):
        path = item.path.relative_to(output) if item.path.is_relative_to(output) else item.path
        lines.append(f"{bytes_text(item.num_bytes):>12}  {escape_line(str(path))}  {_reason(item)}")
    removable = [item for item in items if not item.needed_by]
    total, free = sum(item.num_bytes for item in items), sum(item.num_bytes for item in removable)
    lines.append(f"{bytes_text(total):>12}  in all; no run needs {bytes_text(free)} of it, in {len(removable)} folders")
    return "\n".join(lines)


def _reason(item: StoredItem) -> str:
    return f"needed by {item.needed_by}" if item.needed_by else "not needed"
