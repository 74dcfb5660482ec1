"""A real browser opens every page with hostile text in it: no script runs, and no element is more or less."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte_llama.report import EvaluationReport
from flyte_llama.report.pages import report_page
from tests.report.browser import Tab, needs_browser, open_browser, open_page, script_ran
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
PAGES = ["report_page", "comparison_page", "dataset_page", "training_page", "trials_page"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> EvaluationReport:
    return full_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with open_browser(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


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
def test_a_page_that_escapes_nothing_would_be_found_and_its_policy_stops_the_script(
    report: EvaluationReport, tmp_path: Path, start: str
):
    payload = next(payload for payload in PAYLOADS if payload.startswith(start) and "window.pwned" in payload)
    page = html.unescape(make_pages(report, marked(payload))["report_page"])
    assert not script_ran(in_browser(page, tmp_path)), "the policy of the page lets a script run"
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert script_ran(in_browser(without_policy, tmp_path))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_fits_a_phone_follows_dark_mode_and_prints(
    report: EvaluationReport, tab: Tab, tmp_path: Path, name: str
):
    page = tmp_path / f"{name}.html"
    # long names without a blank, which are the hardest to fit
    page.write_text(make_pages(report, lambda index: f"{'long_name/' * 7}{index}")[name], encoding="utf-8")
    paper = "getComputedStyle(document.querySelector('.page')).backgroundColor"
    colours = set()
    for width in (1280, 390):
        for dark in (False, True):
            tab.open(page, width=width, dark=dark)
            tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
            colours.add((dark, tab.evaluate(paper), tab.evaluate(paper.replace("'.page'", "'html'"))))
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            # Where a part scrolls by itself, nothing outside of it shows that there is more.
            assert width > 390 or tab.evaluate(WIDER_THAN_THE_PAGE) == []
            assert tab.requests == [page.resolve().as_uri()]
            assert tab.complaints == []
    assert len(colours) == 2
    assert all(page_colour == whole_colour for _, page_colour, whole_colour in colours)
    assert tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert contrast(*tab.evaluate(f"[{paper}, {paper.replace('backgroundColor', 'color')}]")) > 7
    tab.call("Emulation.setEmulatedMedia", media="print")
    tab.call("Emulation.setDeviceMetricsOverride", width=720, height=1000, deviceScaleFactor=1, mobile=False)
    assert tab.evaluate(WIDER_THAN_THE_PAGE) == []
    assert tab.print_pages().startswith(b"%PDF")


WIDER_THAN_THE_PAGE = """[...document.querySelectorAll(".page *")]
    .filter(each => !each.closest("svg") && each.getBoundingClientRect().right > innerWidth + 1)
    .map(each => each.outerHTML.slice(0, 200))"""


TYPE = """(field => {{ field.value = {!r}; field.dispatchEvent(new Event("input")); }})(
    document.querySelector(".look-up input"))"""


def contrast(*colours: str) -> float:
    """The ratio of two colours by WCAG 2.2, 1 to 21."""
    lights = []
    for colour in colours:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    low, high = sorted(lights)
    return (high + 0.05) / (low + 0.05)


def test_a_file_is_looked_up_by_a_part_of_its_path(report: EvaluationReport, tab: Tab, tmp_path: Path):
    page = tmp_path / "dataset.html"
    page.write_text(make_pages(report, lambda index: f"name-{index}-")["dataset_page"], encoding="utf-8")
    tab.open(page)
    shown = "[...document.querySelectorAll('.file')].filter(each => each.checkVisibility()).map(each => each.innerText)"
    assert tab.evaluate(shown) == []
    last = tab.evaluate("[...document.querySelectorAll('.file code')].at(-1).textContent")
    tab.evaluate(TYPE.format(last.upper()))
    found = tab.evaluate(shown)
    assert found
    assert all(last in text for text in found)
    assert tab.evaluate("document.querySelector('.look-up output').textContent") == f"{len(found)} found"
    tab.evaluate(TYPE.format(""))
    assert tab.evaluate(shown) == []
