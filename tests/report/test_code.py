"""Code as pieces: joined they are the text again, and what differs is marked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.documents.languages import LANGUAGES
from flyte_llama.report.code import find_differences, highlight
from tests.report.foreign import PAYLOADS

CODE = 'def f(x):\n    # twice\n    return 2 * x + len("two")\n'


def joined(text: str, language: str, *marks: list[bool]) -> str:
    return "".join(piece.text for piece in highlight(text, language, *marks))


@pytest.mark.parametrize("language", ["python", "go", "yaml", "markdown", "shell", "no such language"])
def test_the_pieces_of_any_text_are_the_text(language: str):
    for text in [*PAYLOADS, CODE, "", "\n\n  \r\n\t", "\x00\u2028"]:
        assert joined(text, language) == text


@given(st.text(max_size=40), st.text(max_size=40))
def test_every_character_has_a_mark(wanted: str, written: str):
    missing, extra = find_differences(wanted, written)
    assert (len(missing), len(extra)) == (len(wanted), len(written))
    assert joined(written, "python", extra) == written


def test_python_is_coloured_by_its_syntax():
    looks = {piece.text.strip(): piece.classes for piece in highlight(CODE, "python")}
    assert looks["def"] == looks["return"] == "k"
    assert looks["f"] == looks["len"] == "f"
    assert (looks["# twice"], looks["2"], looks['"two"']) == ("c", "n", "s")
    assert {piece.classes for piece in highlight(CODE, "no such language")} == {""}


def test_most_languages_of_documents_have_a_syntax():
    from flyte_llama.report.code import _lexer

    known = [language for language in LANGUAGES if _lexer(language) is not None]
    assert len(known) > 0.6 * len(LANGUAGES)
    assert {"python", "go", "notebook", "typescript", "yaml", "rust", "c++", "c#"} <= set(known)


def test_the_words_that_differ_are_marked_and_blanks_never():
    missing, extra = find_differences("return self.one", "return  self.two + 1")
    marked = [
        "".join(c for c, mark in zip(text, marks, strict=True) if mark)
        for text, marks in (("return self.one", missing), ("return  self.two + 1", extra))
    ]
    assert marked == ["one", "two+1"]


def test_equal_texts_have_no_mark_and_long_ones_are_not_compared():
    assert not any(any(marks) for marks in find_differences(CODE, CODE))
    assert find_differences("a " * 3000, "b") == ([], [])
