"""Text of repositories, models and configurations is text in every page, card and table, whatever it holds."""

from __future__ import annotations

import ast
import html
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

import flyte_llama
from flyte_llama.redaction import escape_line
from flyte_llama.report import EvaluationReport, dataset_page, report_table, write_files
from tests.report.foreign import (
    HARMLESS,
    PAYLOADS,
    Shown,
    full_report,
    make_cards,
    make_pages,
    marked,
    read_html,
    read_markdown,
    replace_texts,
    without_looks,
)
from tests.report.test_report import CONFIG

PACKAGE = Path(flyte_llama.__file__).parent
TEMPLATES = PACKAGE / "report/templates"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
HTML_TAG = re.compile(r"</?(?:html|head|body|div|span|table|t[rdh]|pre|p|svg|script|style|ul|ol|li|a|img|h\d|code)\b")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> EvaluationReport:
    return full_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def plain(report: EvaluationReport) -> dict[str, Shown]:
    """Each page and card with harmless text in it, as a reader sees it."""
    pages, cards = make_pages(report, marked(HARMLESS)), make_cards(report, marked(HARMLESS))
    return {name: read_html(page) for name, page in pages.items()} | {
        name: read_markdown(card) for name, card in cards.items()
    }


def numbers_of(text: str, payload: str) -> Counter[str]:
    """Number of a replaced text → how often the text occurs, in full."""
    return Counter(re.findall(re.escape(marked(payload)(0).removesuffix("#0#")) + r"(#\d+#)", text))


def assert_is_text(hostile: Shown, plain: Shown, payload: str) -> None:
    """The page has the same elements as with harmless text, and shows the payload as often."""
    assert without_looks(hostile).elements == without_looks(plain).elements
    assert numbers_of(hostile.text, payload) == numbers_of(plain.text, HARMLESS) != Counter()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_of_others_is_text_in_every_page(report: EvaluationReport, plain: dict[str, Shown], payload: str):
    for name, page in make_pages(report, marked(payload)).items():
        assert_is_text(read_html(page), plain[name], payload)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_of_others_is_text_in_every_card(report: EvaluationReport, plain: dict[str, Shown], payload: str):
    for name, card in make_cards(report, marked(payload)).items():
        assert_is_text(read_markdown(card), plain[name], escape_line(marked(payload)(0)).removesuffix("#0#"))


def test_a_page_that_escaped_nothing_would_be_found(report: EvaluationReport, plain: dict[str, Shown]):
    for name, page in make_pages(report, marked(PAYLOADS[0])).items():
        assert read_html(html.unescape(page)).elements != plain[name].elements


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_of_others_adds_nothing_to_the_front_matter_of_a_card(report: EvaluationReport, payload: str):
    for card in make_cards(report, marked(payload)).values():
        if card.startswith("---"):
            front = yaml.safe_load(card.split("\n---\n")[0])
            assert front.keys() <= {
                *("base_model", "configs", "library_name", "license", "pipeline_tag", "pretty_name"),
                *("size_categories", "tags", "task_categories"),
            }
            assert "base_model" not in front or numbers_of(front["base_model"], payload)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_of_others_moves_no_cursor_and_adds_no_line_to_the_table_of_a_terminal(
    report: EvaluationReport, payload: str
):
    lines, plain = (report_table(replace_texts(report, marked(text))).split("\n") for text in (payload, HARMLESS))
    assert all(line.isprintable() for line in lines)
    rules = [index for index, line in enumerate(plain) if set(line) == {"-"}]
    assert [index for index, line in enumerate(lines) if set(line) == {"-"}] == rules


def test_every_file_of_a_run_is_a_page_or_a_card_that_these_tests_read(report: EvaluationReport, tmp_path: Path):
    choose = marked(PAYLOADS[0])
    hostile = replace_texts(report, choose)
    write_files(tmp_path, hostile, CONFIG, hostile.corpus)
    files = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    without_sample = dataset_page(hostile.corpus)
    read = {*make_pages(report, choose).values(), *make_cards(report, choose).values(), without_sample}
    assert {name for name, text in files.items() if text not in read} == {"config.yaml", "report.json"}


def test_every_page_is_among_those_that_these_tests_read(report: EvaluationReport):
    # The functions that fill in a template, and the templates that they name.
    makers, templates = set(), set()
    for tree in TREES.values():
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef) or function.name in ("render", "script_hash"):
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) == "render":
                    makers.add(function.name)
                    templates |= {part.value for part in call.args[:1] if isinstance(part, ast.Constant)}
    choose = marked("x")
    assert makers <= make_pages(report, choose).keys() | make_cards(report, choose).keys()

    # Each template is filled in by one of them, or is part of another template.
    parts = re.findall(r'{% (?:from|include|extends|import) "([^"]+)"', "".join(map(Path.read_text, all_templates())))
    assert {path.name for path in all_templates()} == templates | set(parts)


def test_no_template_and_no_module_writes_html_without_escaping():
    for path in all_templates():
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", path.read_text()), path.name
        # An attribute without quotes ends at a blank.
        assert not re.search(r"=\s*{{", path.read_text()), path.name
        # Escaping does not stop a text from being a script, or a URL that runs one.
        # So a link leads to a part of the page, or to an address of the web.
        text = re.sub(
            r'href="(?:#[a-z-]+(?:{{ loop\.index }})?|{{ \w+(?:\.\w+|\[\w+\.\w+\])*\|web_address }})"',
            "",
            path.read_text(),
        )
        # The one script is a template of its own, which nothing is filled into.
        text = text.replace('<script>{% include "look_up.js.j2" %}</script>', "")
        assert "{{" not in text or path.name != "look_up.js.j2"
        assert not re.search(r"<script|\b(?:href|src|action|on[a-z]+)\s*=", text), path.name
    for path, tree in TREES.items():
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in (
            "report",
            "runs",
            "tasks",
            "workflows",
            "cli",
        ):
            continue
        docstrings = {
            node.body[0].value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docstrings:
                assert not HTML_TAG.search(node.value), f"{path}:{node.lineno}"
            assert not (isinstance(node, ast.Name) and node.id == "Markup"), path


def all_templates() -> list[Path]:
    return sorted(path for path in TEMPLATES.rglob("*") if path.is_file())
