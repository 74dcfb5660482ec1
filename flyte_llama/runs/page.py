"""A comparison as one HTML page, with the full lists that a terminal has no room for."""

from __future__ import annotations

from flyte_llama.runs.run_comparison import RunComparison


def comparison_page(comparison: RunComparison) -> str:
    """Return the comparison as a complete HTML document."""
    return ""
