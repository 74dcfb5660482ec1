"""Texts that are like no other: outputs of programs, lines nobody writes, encoded data."""

from __future__ import annotations

import base64
import random

import pytest

from flyte_llama.documents.generated import output_reason, statistics_reason

DATA = random.Random(0).randbytes(6_000)  # noqa: S311  # no secret
CODE = "def add(a, b):\n    return a + b\n" * 40


def test_output_of_programs_without_a_header_is_recognised_by_its_form():
    rendered = "---\napiVersion: v1\nkind: Service\nmetadata:\n  labels:\n    helm.sh/chart: minio-12.6.7\n" * 6
    template = rendered.replace("minio-12.6.7", '{{ include "chart" . }}')
    assert output_reason(rendered, "yaml") == "generated"
    assert output_reason(template, "yaml") is None
    assert output_reason(rendered[: len(rendered) // 6], "yaml") is None
    assert output_reason("######\nProtocol Documentation\n######\n", "restructuredtext") == "generated"
    assert (
        output_reason("# x\n\n| Key | Type | Default | Description |\n|--|--|--|--|\n| a | int | `1` | |\n", "markdown")
        == "generated"
    )
    assert output_reason("See the Protocol Documentation\n", "markdown") is None


def test_code_in_lines_nobody_writes_is_minified():
    assert statistics_reason("var a=1;" * 1000 + "\n", "source") == "minified"
    assert statistics_reason("word " * 1000 + "\n", "docs") is None
    assert statistics_reason("key: " + "x" * 5000 + "\n", "config") is None


def test_a_test_with_one_long_query_is_kept():
    text = "func TestX(t *testing.T) {\n" * 100 + "query := `" + "SELECT a, " * 200 + "`\n"
    assert statistics_reason(text, "test") is None


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "yaml",
            "kind: CustomResourceDefinition\n  annotations:\n    controller-gen.kubebuilder.io/version: v0.16\n",
        ),
        ("java", 'package a;\n\n@javax.annotation.Generated(value = "x")\npublic class A {}\n'),
        ("html", '<!DOCTYPE html>\n<html>\n<head>\n<meta name="generator" content="Doxygen 1.9.1"/>\n'),
        ("javascript", "/******/ (() => { // webpackBootstrap\n"),
        ("javascript", "var a;\n//# sourceMappingURL=a.js.map\n"),
        (
            "markdown",
            "# Pet\n\nName | Type | Description | Notes\n--- | --- | --- | ---\n**id** | **int** |  | [optional]\n",
        ),
    ],
)
def test_programs_leave_other_marks_than_headers(language: str, text: str):
    assert output_reason(text, language) == "generated"
    assert output_reason("A text about it.\n" + text.replace("\n", " "), "text") is None


@pytest.mark.parametrize(
    "text",
    [
        "| Key | Type | Default | Description |\n|---|---|---|---|\n| ctrl-c | keys | none | ends it |\n",
        "Name | Type | Description | Notes\n--- | --- | --- | ---\nAda | person | writes | often\n",
        "# Design\n\n## Packages\n- [core](core)\n",
    ],
)
def test_people_write_tables_and_lists_with_the_same_heads(text: str):
    assert output_reason(text, "markdown") is None


def test_a_page_made_by_a_template_is_no_output():
    assert output_reason('<html>\n<meta name="generator" content="{{ hugo.Version }}">\n', "html") is None


def wrapped(data: bytes, *, begin: str, end: str) -> str:
    text = base64.b64encode(data).decode()
    return "".join(f"{begin}{text[at : at + 76]}{end}\n" for at in range(0, len(text), 76))


@pytest.mark.parametrize(
    "encoded",
    [
        f"[image]: <data:image/png;base64,{base64.b64encode(DATA).decode()}>\n",
        wrapped(DATA, begin='    "', end='"'),
        wrapped(DATA, begin="", end=""),
        "char data[] = {" + ", ".join(f"0x{byte:02x}" for byte in DATA) + "};\n",
        "char data[] = {\n" + ",\n".join(map(str, DATA)) + "};\n",
        'data = b"' + "".join(f"\\x{byte:02x}" for byte in DATA) + '"\n',
        DATA.hex() + "\n",
    ],
)
def test_encoded_data_is_left_out_if_it_is_most_of_a_text(encoded: str):
    for kind in ("source", "docs"):
        assert statistics_reason(CODE + encoded, kind) == "encoded"
        assert statistics_reason(CODE * 20 + encoded[:3_500], kind) is None


def test_a_table_of_numbers_in_a_test_is_no_encoded_data():
    text = "expected = [\n" + "".join(f"    {number % 250}, {number % 7},\n" for number in range(250)) + "]\n"
    assert statistics_reason(CODE + text, "test") is None


def test_many_unclosed_tags_take_no_time():
    assert output_reason("<meta name=generator content=" * 3_000, "html") is None


def test_a_table_of_checksums_and_long_names_is_no_encoded_data():
    sums = "".join(f'    "name-{number}": "{DATA[number:][:32].hex()}",\n' for number in range(50))
    assert statistics_reason(CODE * 5 + sums, "source") is None
    assert statistics_reason("a_very_long_name_" * 6 + " = 1\n" + CODE * 5, "source") is None


def test_style_sheets_and_scripts_in_long_lines_are_minified():
    assert statistics_reason(("a{color:red}" * 12 + "\n") * 10, "source", "css") == "minified"
    assert statistics_reason(("x = [1, 2]; " * 12 + "\n") * 10, "source", "python") is None
