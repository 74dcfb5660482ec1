"""The language and the kind of a file, by its path alone."""

from __future__ import annotations

import pytest

from flyte_llama.documents.generated import path_reason
from flyte_llama.documents.languages import is_binary, kind_of, language_of


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
    ],
)
def test_language_and_kind_go_by_the_path(path: str, language: str, kind: str):
    assert path_reason(path) is None
    assert (language_of(path), kind_of(path, language)) == (language, kind)


@pytest.mark.parametrize("path", ["a.png", "a.csv", "LICENSE", "a.json", "Notes.in", "no_suffix"])
def test_other_types_have_no_language(path: str):
    assert language_of(path) is None
    assert is_binary(path) is path.endswith(".png")


def test_templates_are_helm_only_inside_a_chart():
    charts = {"charts/flyte"}
    assert language_of("charts/flyte/templates/a/x.yaml", charts) == "helm"
    assert language_of("charts/flyte/templates/NOTES.txt", charts) == "helm"
    assert language_of("charts/flyte/values.yaml", charts) == "yaml"
    assert language_of("docs/templates/x.yaml", charts) == "yaml"
    assert language_of("templates/x.yaml", {""}) == "helm"
