"""After the removal nothing of the held-out text is left in train; what is removed is what leaked, and no more."""

from __future__ import annotations

import random

import pytest

from flyte_llama.corpus.leakage import Cleaned, remove_leaks
from flyte_llama.documents import Document
from flyte_llama.ngrams import words
from tests.conftest import document, lines_of, words_of

N = 13
HELDOUT = "https://example.com/o/heldout"


def cleaned(train: list[str], heldout: list[str], **options: str) -> Cleaned:
    return remove_leaks(
        [document(text, path=f"{number}.py") for number, text in enumerate(train)],
        [document(text, url=HELDOUT, path=f"{number}.py") for number, text in enumerate(heldout)],
        n=N,
        remove=options.get("remove", "spans"),
    )


def runs(text: str) -> set[tuple[bytes, ...]]:
    data = text.encode()
    found = words(text)
    own = [data[start:end] for start, end in zip(found.starts, found.ends, strict=True)]
    return {tuple(own[start : start + N]) for start in range(len(own) - N + 1)}


def shared(train: list[Document], heldout: list[str]) -> int:
    known = set().union(*map(runs, heldout))
    return sum(len(runs(piece.text) & known) for piece in train)


def test_a_planted_leak_goes_with_its_paragraph_and_the_rest_stays():
    before, leak, after = (lines_of(words_of(60, seed=seed)) for seed in (1, 2, 3))
    beside = "beside\n" + leak + "and\n\n \n"
    found = cleaned([before + "\n" + beside + after], [lines_of(words_of(30, seed=8)) + leak])
    assert [piece.text for piece in found.train] == [before + "\n", after]
    start = len(before) + 1
    assert [(span.start, span.end) for span in found.removed] == [(start, start + len(beside))]
    text = (before + "\n" + beside + after).encode()
    assert [text[piece.start : piece.end].decode() for piece in found.train] == [before + "\n", after]
    assert (found.coverage[0].num_words, found.coverage[0].covered_words) == (90, 60)


def test_other_layout_and_punctuation_leak_too():
    listed = words_of(40)
    assert cleaned([", ".join(listed)], [lines_of(listed, a_line=3)]).train == []


@pytest.mark.parametrize(("length", "left"), [(N - 1, 1), (N, 2)])
def test_a_run_counts_from_its_length_on(length: int, left: int):
    leak = words_of(length, seed=5)
    train = [lines_of(words_of(60, seed=1)) + "\n" + " ".join(leak) + "\n\n" + lines_of(words_of(60, seed=2))]
    found = cleaned(train, [lines_of(words_of(30, seed=8) + leak + words_of(30, seed=9))])
    assert len(found.train) == left


def test_whole_documents_can_go_instead():
    before, leak = lines_of(words_of(40, seed=1)), lines_of(words_of(20, seed=2))
    found = cleaned([before + leak, before], [leak], remove="documents")
    assert [piece.path for piece in found.train] == ["1.py"]


def test_a_short_file_leaks_only_as_a_copy():
    found = cleaned(["import x\n", "import x, y\n"], ["import x\n", "import y\n"])
    assert [piece.path for piece in found.train] == ["1.py"]
    assert [one.stratum for one in found.coverage] == ["contaminated", "clean"]


def test_a_short_file_leaks_with_other_line_ends_and_marks_too():
    found = cleaned(["\ufeffimport x\r\n"], ["import  x\n"])
    assert found.train == []
    assert [one.stratum for one in found.coverage] == ["contaminated"]


@pytest.mark.parametrize("between", ["\u00a0", "\u2014", "\uff0c", "\u200b", " \u201c", "\u3000"])
def test_no_sign_between_words_hides_a_leak(between: str):
    listed = words_of(40)
    assert cleaned([between.join(listed)], [" ".join(listed)]).train == []


def test_text_without_blanks_leaks_by_its_characters():
    sentence = "これはフライトの実行を再現するための説明文であり試験用に書かれた"
    found = cleaned([f"{'word ' * 60}\n\n{sentence}を含む\n"], [f"例えば{sentence}。\n"])
    assert [piece.text for piece in found.train] == [f"{'word ' * 60}\n\n"]


@pytest.mark.parametrize("left", [49, 50])
def test_pieces_too_short_to_say_anything_are_left_out(left: int):
    leak, rest = lines_of(words_of(40, seed=2)), lines_of(words_of(left, seed=3))
    assert len(cleaned([leak + "\n" + rest], [leak]).train) == (left == 50)
    assert len(cleaned([rest], [leak]).train) == 1


def test_strata_go_by_the_share_of_words_that_leaked():
    leaks = [words_of(30, seed=seed) for seed in (1, 2)]
    heldout = [
        lines_of(words_of(60, seed=7)),
        lines_of(leaks[0] + words_of(31, seed=8)),
        lines_of(leaks[1] + words_of(30, seed=9)),
    ]
    found = cleaned([lines_of(leaks[0]), lines_of(leaks[1])], heldout)
    assert [one.stratum for one in found.coverage] == ["clean", "partial", "contaminated"]


def test_text_with_carriage_returns_and_letters_of_two_bytes_is_cut_at_its_blank_lines():
    before, after = ("größe " * 3 + "\r\n") * 20, ("naïve " * 3 + "\r\n") * 20
    leak = " ".join(words_of(20)) + "\r\n\r\n"
    found = cleaned([before + "\r\n" + leak + after], [leak])
    assert [piece.text for piece in found.train] == [before + "\r\n", after]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_in_common_is_left_whatever_was_mixed(seed: int):
    rng = random.Random(seed)  # noqa: S311  # no secret
    pool = [words_of(rng.randrange(5, 40), seed=number) for number in range(12)]

    def text() -> str:
        listed = [word for part in rng.choices(pool, k=6) for word in part]
        return "".join(line + rng.choice(["", "", "\n"]) for line in lines_of(listed).splitlines(keepends=True))

    train, heldout = [text() for _ in range(8)], [text() for _ in range(3)]
    found = cleaned(train, heldout)
    assert shared(found.train, heldout) == 0
    assert sum(one.covered_words for one in cleaned([piece.text for piece in found.train], heldout).coverage) == 0
    known = set().union(*map(runs, train))
    for one in found.coverage:
        data = one.document.text.encode()
        own = words(one.document.text)
        listed = [data[start:end] for start, end in zip(own.starts, own.ends, strict=True)]
        covered = set()
        for start in range(len(listed) - N + 1):
            if tuple(listed[start : start + N]) in known:
                covered.update(range(start, start + N))
        assert one.covered_words == len(covered)
