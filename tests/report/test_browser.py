"""A real browser opens every page with hostile text in it: no script runs, and no element is more or less."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from flyte_llama.report import EvaluationReport
from flyte_llama.report.pages import report_page
from tests.report.browser import needs_browser, open_page, script_ran
from tests.report.foreign import (
    HARMLESS,
    PAYLOADS,
    full_report,
    make_cards,
    make_pages,
    marked,
    mixed,
    read_html,
    render_markdown,
    replace_texts,
    without_code,
    without_looks,
)

pytestmark = [pytest.mark.slow, needs_browser]
PAGES = ["report_page", "dataset_page", "training_page", "trials_page"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> EvaluationReport:
    return full_report(tmp_path_factory.mktemp("report"))


def in_browser(page: str, folder: Path) -> str:
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    return open_page(file, folder)


def test_every_page_is_opened(report: EvaluationReport):
    assert make_pages(report, mixed).keys() == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_browser_runs_no_script_of_others_and_makes_no_element_of_their_text(
    report: EvaluationReport, tmp_path: Path, name: str
):
    hostile = in_browser(make_pages(report, mixed)[name], tmp_path)
    plain = in_browser(make_pages(report, marked(HARMLESS))[name], tmp_path)
    assert not script_ran(hostile)
    assert without_looks(read_html(hostile)).elements == without_looks(read_html(plain)).elements


def test_a_browser_makes_no_element_of_the_text_of_others_in_a_card(report: EvaluationReport, tmp_path: Path):
    plain = make_cards(report, marked(HARMLESS))
    for name, card in make_cards(report, mixed).items():
        opened, expected = (
            in_browser(f"<!doctype html><title>card</title>{render_markdown(text)}", tmp_path)
            for text in (card, plain[name])
        )
        assert not script_ran(opened)
        assert without_code(read_html(opened)).elements == without_code(read_html(expected)).elements


def test_each_hostile_text_alone_leaves_the_report_whole(report: EvaluationReport, tmp_path: Path):
    plain = without_looks(read_html(in_browser(report_page(replace_texts(report, marked(HARMLESS))), tmp_path)))
    for payload in PAYLOADS:
        opened = in_browser(report_page(replace_texts(report, marked(payload))), tmp_path)
        assert not script_ran(opened), payload
        assert without_looks(read_html(opened)).elements == plain.elements, payload


@pytest.mark.parametrize("start", ["<script", "<img", "<svg", '"><script'])
def test_the_browser_runs_the_scripts_of_a_page_that_escapes_nothing(
    report: EvaluationReport, tmp_path: Path, start: str
):
    payload = next(payload for payload in PAYLOADS if payload.startswith(start) and "window.pwned" in payload)
    assert script_ran(in_browser(html.unescape(make_pages(report, marked(payload))["report_page"]), tmp_path))
