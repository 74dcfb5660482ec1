"""The language and the kind of a file, by its path alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyte_llama.documents.generated import path_reason
from flyte_llama.documents.languages import (
    KNOWN_LANGUAGES,
    is_binary,
    kind_of,
    language_of,
    may_be_script,
    script_language,
)


@pytest.mark.parametrize(
    ("path", "language", "kind"),
    [
        ("a/b.ts", "typescript", "source"),
        ("a/__tests__/b.tsx", "typescript", "test"),
        ("a/b.test.ts", "typescript", "test"),
        ("a/b.d.ts", "typescript", "source"),
        ("Dockerfile", "dockerfile", "config"),
        ("Dockerfile.flyteadmin", "dockerfile", "config"),
        ("p.proto", "protobuf", "source"),
        ("BUILD.bazel", "starlark", "config"),
        ("rules.star", "starlark", "config"),
        ("docs-requirements.in", "requirements", "config"),
        ("requirements.txt", "requirements", "config"),
        ("config.yaml.in", "yaml", "config"),
        ("Dockerfile.in", "dockerfile", "config"),
        ("a.py" + ".in" * 1300, "python", "source"),
        ("script/generate.tpl", "template", "source"),
        ("tests/README.md", "markdown", "docs"),
        ("intro.mdx", "markdown", "docs"),
        ("contest/a.py", "python", "source"),
        ("notebooks/a.ipynb", "notebook", "source"),
        ("hooks/pre-push", "shell", "source"),
        (".gitignore", "ignore-list", "config"),
        ("lib/main.dart", "dart", "source"),
        ("lib/a.ex", "elixir", "source"),
        ("contracts/Token.sol", "solidity", "source"),
        ("src/A.fs", "f#", "source"),
        ("fast.pyx", "cython", "source"),
        ("src/main.zig", "zig", "source"),
        ("flake.nix", "nix", "source"),
        ("Justfile", "just", "config"),
        ("meson.build", "meson", "config"),
        ("pom.xml", "xml", "config"),
        ("README", "text", "docs"),
        ("src/test/java/ATest.java", "java", "test"),
        ("src/CarTests.cs", "c#", "test"),
        ("lib/a_spec.rb", "ruby", "test"),
        ("Latest.java", "java", "source"),
    ],
)
def test_language_and_kind_go_by_the_path(path: str, language: str, kind: str):
    assert path_reason(path) is None
    assert (language_of(path), kind_of(path, language)) == (language, kind)


@pytest.mark.parametrize("path", ["a.png", "a.csv", "LICENSE", "a.json", "Notes.in", "no_suffix", "a.svg", "a.resx"])
def test_other_types_have_no_language(path: str):
    assert language_of(path) is None
    assert is_binary(path) is path.endswith(".png")


def test_a_setting_takes_more_files():
    assert language_of("src/a.ABAP", more={".abap": "abap"}) == "abap"
    assert language_of("build/Rules", more={"rules": "makefile"}) == "makefile"
    assert language_of("a.py", more={".py": "cython"}) == "cython"


@pytest.mark.parametrize(
    ("data", "language"),
    [
        (b"#!/usr/bin/env python3\nx", "python"),
        (b"#!/bin/bash -e\nls", "shell"),
        (b"#!/usr/bin/env -S deno run\n", "javascript"),
        (b"#!/usr/bin/Rscript\n", "r"),
        (b"#!/opt/unknown\n", None),
        (b"no script", None),
        (b"\xff\xfe\x00", None),
        (b"", None),
    ],
)
def test_a_script_without_a_suffix_is_known_by_its_first_line(data: bytes, language: str | None):
    assert script_language(data) == language
    assert may_be_script("bin/run")
    assert not may_be_script("bin/run.txt")


def test_templates_are_helm_only_inside_a_chart():
    charts = {"charts/flyte"}
    assert language_of("charts/flyte/templates/a/x.yaml", charts) == "helm"
    assert language_of("charts/flyte/templates/NOTES.txt", charts) == "helm"
    assert language_of("charts/flyte/values.yaml", charts) == "yaml"
    assert language_of("docs/templates/x.yaml", charts) == "yaml"
    assert language_of("templates/x.yaml", {""}) == "helm"


WORDS = [
    "a",
    "docs",
    "gen",
    "Chart",
    "templates",
    "tests",
    "test_x",
    "vendor",
    "README",
    "requirements",
    "go",
    "_pb2",
    "ü",
]
SUFFIXES = ["", ".py", ".PY", ".in", ".pb.go", ".tpl", ".yaml", ".md", ".ipynb", ".png", ".lock", ".min.js", "_test.go"]
PARTS = st.tuples(st.sampled_from(WORDS) | st.text(max_size=6), st.sampled_from(SUFFIXES)).map("".join)
PATHS = st.lists(PARTS.filter(lambda part: part and "/" not in part), min_size=1, max_size=4).map("/".join)


@settings(max_examples=300, deadline=None)
@given(path=PATHS, charts=st.lists(st.sampled_from(["", "a", "docs/a"]), max_size=2))
def test_every_path_has_one_language_one_kind_and_one_reason_or_none(path: str, charts: list[str]):
    language = language_of(path, charts)
    assert language is None or language in KNOWN_LANGUAGES
    assert kind_of(path, str(language)) in ("source", "test", "docs", "config")
    assert path_reason(path) in (None, "vendored", "lock", "generated", "licence", "changelog", "fixture")
    assert language_of(path, set(charts)) == language_of(path, charts[::-1]) == language
