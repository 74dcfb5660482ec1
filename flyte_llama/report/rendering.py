"""Templates of `templates/` filled with values: HTML that escapes every text, and Markdown that quotes it.

Every page and deck is a template that extends `frame.html.j2`, which has the one style of all of them, and is drawn
with the parts of `parts.html.j2`. Style and pictures are inline: a page fetches nothing, and works offline as well as
in a Flyte deck. Colours are classes of the style, so that they follow the reader's light or dark mode.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from typing import Any

from jinja2 import Environment, PackageLoader

from flyte_llama.progress import bytes_text
from flyte_llama.report.quotation import Markdown, quote_code, quote_name
from flyte_llama.report.sentences import interval_text

_FOLDER = re.compile(r"(?:[a-z0-9]+:/)?/\S+")
_WEB_ADDRESS = re.compile(r"https://[a-z0-9.-]+(?::\d+)?/[\w./%~+@=-]*(?:#L\d+)?", re.ASCII | re.IGNORECASE)


def render(name: str, **values: Any) -> str:
    """Fill values into a template, and escape every text: as HTML, or for a template `.md.j2` as a name in Markdown."""
    return _environment(is_markdown=name.endswith(".md.j2")).get_template(name).render(**values)


@functools.cache
def script_hash(name: str) -> str:
    """Return the hash by which a page's policy allows the script of a template, and no other script."""
    script = _environment(is_markdown=False).get_template(name).render()
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@functools.cache
def _environment(*, is_markdown: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("flyte_llama.report"),
        autoescape=not is_markdown,  # noqa: S701  # off for Markdown alone, which `_quote` escapes
        finalize=_quote if is_markdown else None,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = quote_code
    environment.filters["interval"] = interval_text
    environment.filters["duration"] = duration_text
    environment.filters["short_name"] = short_name
    environment.filters["size"] = bytes_text
    environment.filters["web_address"] = web_address
    environment.filters["thousands"] = lambda count: f"{count:,}"
    return environment


def duration_text(seconds: float) -> str:
    """Return a time in the two units that tell most of it.

    >>> [duration_text(seconds) for seconds in (1.5, 166, 7_260)]
    ['1.5 s', '2 min 46 s', '2 h 1 min']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def short_name(model: str) -> str:
    """Return the last part of a folder or a bucket's address, and a hub id as it is."""
    return model.rstrip("/").rsplit("/", 1)[-1] if _FOLDER.fullmatch(model) else model


def web_address(address: str) -> str:
    """Return the address if a page may link to it: of the web, without blanks, quotes or a query; otherwise nothing."""
    return address if _WEB_ADDRESS.fullmatch(address) else ""


def _quote(value: object) -> object:
    return quote_name(value) if isinstance(value, str) and not isinstance(value, Markdown) else value
