"""REUSE's annotations are read as its specification says."""

from __future__ import annotations

import pytest

from flyte_llama.documents.licences import NOTHING, Statement
from flyte_llama.documents.licences.reuse import read_annotations

DEP5 = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: a/* *.md
Copyright: Acme
License: GPL-3+

Files: b/?.py
 c.py
Copyright: Acme
License: Expat
"""


def state(path: str, text: str, *, file: str) -> Statement:
    """What the last annotation of the file that matches the path states."""
    return next(
        (entry.stated for entry in reversed(read_annotations(file, text)) if entry.paths.fullmatch(path)), NOTHING
    )


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.py", "a.py", True),
        ("*.py", "b/a.py", False),
        ("**/*.py", "b/c/a.py", True),
        ("b/**", "b/c/a.py", True),
        ("a\\\\*.py", "a*.py", True),
        ("a\\\\*.py", "ab.py", False),
        ("a+.py", "aa.py", False),
        ("a*b*/**/c*.py", "axbx/d/e/cc.py", True),
        ("a*b*/**/c*.py", "ax/bx/c.py", False),
        ("**a" * 12 + "**b", "a" * 100, False),
        ("*a" * 40 + "b", "a" * 100, False),
    ],
)
def test_patterns_match_folders_only_with_two_stars(pattern: str, path: str, matches: bool):
    text = f'version = 1\n[[annotations]]\npath = "{pattern}"\nSPDX-License-Identifier = "MIT"\n'
    assert state(path, text, file="REUSE.toml") == (Statement("MIT") if matches else NOTHING)


@pytest.mark.parametrize(
    ("path", "spdx"),
    [("a/b/c.py", "GPL-3.0-or-later"), ("x/y.md", "GPL-3.0-or-later"), ("b/d.py", "MIT"), ("c.py", "MIT")],
)
def test_debians_format_is_read(path: str, spdx: str):
    assert state(path, DEP5, file=".reuse/dep5") == Statement(spdx)


@pytest.mark.parametrize(
    "text", ["version = \n", "annotations = 1\n", "[[annotations]]\npath = 1\n", f"a = {'[' * 50_000}"]
)
def test_a_file_that_cannot_be_read_is_not_recognised(text: str):
    assert state("a.py", text, file="REUSE.toml").unknown == "REUSE.toml cannot be read"


def test_an_unknown_name_is_not_recognised():
    text = '[[annotations]]\npath = "a"\nSPDX-License-Identifier = ["MIT", "Acme Internal"]\n'
    assert state("a", text, file="REUSE.toml") == Statement(unknown="Acme Internal")
