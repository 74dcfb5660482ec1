"""A template of this room, rendered."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment


def render(name: str, *, autoescape: bool = True, **values: Any) -> str:
    """The text of a template with the values in it, which are escaped as HTML unless it is none."""
    text = resources.files("flyte_llama.report").joinpath(name).read_text(encoding="utf-8")
    environment = Environment(autoescape=autoescape, trim_blocks=True, lstrip_blocks=True)  # noqa: S701  # Markdown
    environment.filters["rounded"] = _rounded
    environment.filters["thousands"] = lambda number: f"{number:,}"
    return environment.from_string(text).render(**values)


def _rounded(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.2f} MB" if num_bytes >= 100_000 else f"{num_bytes / 1e3:,.1f} kB"
