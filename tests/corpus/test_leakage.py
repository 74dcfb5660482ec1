"""After the removal no held-out text is left in train, and only leaked text is removed."""

from __future__ import annotations

import random

import pytest

from flyte_llama.corpus.leakage import LeakRemoval, remove_leaks
from flyte_llama.documents import Document
from flyte_llama.documents.ngrams import split_words
from tests.conftest import document, lines_of, words_of

N = 13
HELDOUT = "https://example.com/o/heldout"


def clean(train: list[str], heldout: list[str], **options: str) -> LeakRemoval:
    return remove_leaks(
        [document(text, path=f"{index}.py") for index, text in enumerate(train)],
        [document(text, url=HELDOUT, path=f"{index}.py") for index, text in enumerate(heldout)],
        n=N,
        remove=options.get("remove", "spans"),
    )


def runs(text: str) -> set[tuple[bytes, ...]]:
    data = text.encode()
    text_words = split_words(text)
    listed = [data[start:end] for start, end in zip(text_words.starts, text_words.ends, strict=True)]
    return {tuple(listed[start : start + N]) for start in range(len(listed) - N + 1)}


def count_shared_runs(train: list[Document], heldout: list[str]) -> int:
    known = set().union(*map(runs, heldout))
    return sum(len(runs(piece.text) & known) for piece in train)


def test_a_planted_leak_goes_with_its_paragraph_and_the_rest_stays():
    before, leak, after = (lines_of(words_of(60, seed=seed)) for seed in (1, 2, 3))
    paragraph = "beside\n" + leak + "and\n\n \n"
    removal = clean([before + "\n" + paragraph + after], [lines_of(words_of(30, seed=8)) + leak])
    assert [piece.text for piece in removal.train] == [before + "\n", after]
    start = len(before) + 1
    assert [(span.start, span.end) for span in removal.removed] == [(start, start + len(paragraph))]
    text = (before + "\n" + paragraph + after).encode()
    assert [text[piece.start : piece.end].decode() for piece in removal.train] == [before + "\n", after]
    assert (removal.coverage[0].num_words, removal.coverage[0].covered_words) == (90, 60)


def test_other_layout_and_punctuation_leak_too():
    listed = words_of(40)
    assert clean([", ".join(listed)], [lines_of(listed, a_line=3)]).train == []


@pytest.mark.parametrize(("length", "left"), [(N - 1, 1), (N, 2)])
def test_a_run_counts_as_a_leak_from_n_words_on(length: int, left: int):
    leak = words_of(length, seed=5)
    train = [lines_of(words_of(60, seed=1)) + "\n" + " ".join(leak) + "\n\n" + lines_of(words_of(60, seed=2))]
    removal = clean(train, [lines_of(words_of(30, seed=8) + leak + words_of(30, seed=9))])
    assert len(removal.train) == left


def test_whole_documents_can_go_instead():
    before, leak = lines_of(words_of(40, seed=1)), lines_of(words_of(20, seed=2))
    removal = clean([before + leak, before], [leak], remove="documents")
    assert [piece.path for piece in removal.train] == ["1.py"]


def test_a_short_file_leaks_only_as_a_copy():
    removal = clean(["import x\n", "import x, y\n"], ["import x\n", "import y\n"])
    assert [piece.path for piece in removal.train] == ["1.py"]
    assert [entry.stratum for entry in removal.coverage] == ["contaminated", "clean"]


def test_a_short_file_leaks_with_other_line_ends_and_a_byte_order_mark_too():
    removal = clean(["\ufeffimport x\r\n"], ["import  x\n"])
    assert removal.train == []
    assert [entry.stratum for entry in removal.coverage] == ["contaminated"]


@pytest.mark.parametrize("between", ["\u00a0", "\u2014", "\uff0c", "\u200b", " \u201c", "\u3000"])
def test_no_character_between_words_hides_a_leak(between: str):
    listed = words_of(40)
    assert clean([between.join(listed)], [" ".join(listed)]).train == []


def test_text_without_blanks_leaks_by_its_characters():
    sentence = "これはフライトの実行を再現するための説明文であり試験用に書かれた"
    removal = clean([f"{'word ' * 60}\n\n{sentence}を含む\n"], [f"例えば{sentence}。\n"])
    assert [piece.text for piece in removal.train] == [f"{'word ' * 60}\n\n"]


@pytest.mark.parametrize("left", [49, 50])
def test_pieces_too_short_to_be_of_use_are_dropped(left: int):
    leak, rest = lines_of(words_of(40, seed=2)), lines_of(words_of(left, seed=3))
    assert len(clean([leak + "\n" + rest], [leak]).train) == (left == 50)
    assert len(clean([rest], [leak]).train) == 1


def test_strata_go_by_the_share_of_words_that_leaked():
    leaks = [words_of(30, seed=seed) for seed in (1, 2)]
    heldout = [
        lines_of(words_of(60, seed=7)),
        lines_of(leaks[0] + words_of(31, seed=8)),
        lines_of(leaks[1] + words_of(30, seed=9)),
    ]
    removal = clean([lines_of(leaks[0]), lines_of(leaks[1])], heldout)
    assert [entry.stratum for entry in removal.coverage] == ["clean", "partial", "contaminated"]


def test_text_with_carriage_returns_and_letters_of_two_bytes_is_cut_at_its_blank_lines():
    before, after = ("größe " * 3 + "\r\n") * 20, ("naïve " * 3 + "\r\n") * 20
    leak = " ".join(words_of(20)) + "\r\n\r\n"
    removal = clean([before + "\r\n" + leak + after], [leak])
    assert [piece.text for piece in removal.train] == [before + "\r\n", after]


@pytest.mark.parametrize("seed", range(20))
def test_no_shared_run_is_left_whatever_was_mixed(seed: int):
    rng = random.Random(seed)  # noqa: S311  # no secret
    pool = [words_of(rng.randrange(5, 40), seed=index) for index in range(12)]

    def text() -> str:
        listed = [word for part in rng.choices(pool, k=6) for word in part]
        return "".join(line + rng.choice(["", "", "\n"]) for line in lines_of(listed).splitlines(keepends=True))

    train, heldout = [text() for _ in range(8)], [text() for _ in range(3)]
    removal = clean(train, heldout)
    assert count_shared_runs(removal.train, heldout) == 0
    assert sum(entry.covered_words for entry in clean([piece.text for piece in removal.train], heldout).coverage) == 0
    known = set().union(*map(runs, train))
    for entry in removal.coverage:
        data = entry.document.text.encode()
        text_words = split_words(entry.document.text)
        listed = [data[start:end] for start, end in zip(text_words.starts, text_words.ends, strict=True)]
        covered = set()
        for start in range(len(listed) - N + 1):
            if tuple(listed[start : start + N]) in known:
                covered.update(range(start, start + N))
        assert entry.covered_words == len(covered)


def test_removed_text_names_the_held_out_document_that_has_most_of_it():
    first, second = lines_of(words_of(20, seed=1)), lines_of(words_of(60, seed=2))
    heldout = [document(text, path=f"{index}.py") for index, text in enumerate((first, first + second, "a b c\n"))]
    train = [document(second + first, path="long.py"), document("a b c\n", path="short.py")]
    removed = remove_leaks(train, heldout, n=13, remove="spans").removed
    assert [(span.document.path, span.heldout.path) for span in removed] == [("long.py", "1.py"), ("short.py", "2.py")]
