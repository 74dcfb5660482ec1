"""Any text at all, quoted for Markdown, is shown as it is, in a table and in a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.redaction import escape_line
from flyte_llama.report.quotation import quote_code, quote_name, quote_text
from tests.report.foreign import PAYLOADS, read_markdown

TEXTS = st.text(st.sampled_from("|`\\<>[]()!&#*_~$:/@.-+=\"'{}^ w1a\n\t\x1bä")) | st.text() | st.sampled_from(PAYLOADS)
CELL = ["<tr>", "<td>", "</td>", "<td>", "</td>", "</tr>"]


@given(TEXTS)
@pytest.mark.parametrize("quote", [quote_name, quote_code, quote_text])
def test_a_quoted_text_is_one_cell_of_a_table(quote, text: str):
    shown = read_markdown(f"| first | second |\n|---|---|\n| {quote(text)} | end |\n")
    begin = shown.elements.index("<tbody>") + 1
    assert shown.elements[begin : begin + len(CELL)] == CELL
    assert escape_line(text).strip() in shown.text
    assert shown.elements.count("<td>") == 2


@given(TEXTS)
@pytest.mark.parametrize("quote", [quote_name, quote_code, quote_text])
def test_a_quoted_text_in_a_sentence_is_text(quote, text: str):
    shown = read_markdown(f"Of {quote(text)}: all.\n")
    assert shown.elements == ["<p>", "</p>"]
    assert shown.text == f"Of {escape_line(text)}: all.\n"


@pytest.mark.parametrize(
    "name", ["overall", "not fresh", "fine-tuned", "256 bytes to 1 KiB", "Apache-2.0", "MIT OR ISC"]
)
def test_words_and_figures_stay_as_they_are(name: str):
    assert quote_name(name) == name


@pytest.mark.parametrize(
    "sentence",
    ["1.587 → 0.793 bits per byte (base → fine-tuned), 95 % [-0.793, -0.793].", "pass@1 of 5: 20.0%; set probe_bytes"],
)
def test_a_sentence_of_the_report_stays_as_it_is(sentence: str):
    assert quote_text(sentence) == sentence


def test_a_name_with_other_characters_is_code():
    assert quote_name("o/r") == "`o/r`"
    assert quote_name("a|b") == "`a`&#124;`b`"
    assert quote_name("a`b") == "``a`b``"
