"""A template of this room, rendered."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader


def render(name: str, *, autoescape: bool = True, **values: Any) -> str:
    """The text of a template with the values in it, which are escaped as HTML unless it is none."""
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=autoescape,  # noqa: S701  # Markdown is no HTML
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rounded"] = _rounded
    environment.filters["thousands"] = lambda number: f"{number:,}"
    return environment.get_template(name).render(**values)


def _source(name: str) -> str:
    return resources.files("flyte_llama.report").joinpath(name).read_text(encoding="utf-8")


def _rounded(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.2f} MB" if num_bytes >= 100_000 else f"{num_bytes / 1e3:,.1f} kB"
