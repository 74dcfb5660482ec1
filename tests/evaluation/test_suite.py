"""A suite has all held-out documents, a similar sample of train and general code, whatever the number of shards."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flyte_llama.corpus import STRATA_TABLE
from flyte_llama.documents import Document, write_documents
from flyte_llama.evaluation.suite import (
    SuiteDocument,
    choose_suite,
    mark_overlap,
    number_near_copies,
    read_suite_in_batches,
    split_into_shards,
    write_suite,
)
from tests.conftest import document, lines_of, words_of


def documents_of(side: str, language: str, sizes: list[int]) -> list[Document]:
    return [
        document(
            lines_of(words_of(size, seed=size)), url=f"https://example.com/o/{side}", path=f"{n}", language=language
        )
        for n, size in enumerate(sizes)
    ]


HELDOUT_SIDE = documents_of("held", "python", [100, 200]) + documents_of("held", "go", [50])
TRAIN_SIDE = (
    documents_of("train", "python", [90, 80, 70, 60, 500])
    + documents_of("train", "go", [10] * 20)
    + documents_of("train", "c", [50])
)
GENERAL_SIDE = documents_of("other", "python", [40] * 50)

TRAIN_TEXTS = [document.text for document in TRAIN_SIDE[:5]]


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    folder = tmp_path / "heldout"
    folder.mkdir()
    strata = pa.table({"stratum": ["clean", "partial", "contaminated"], "freshness": ["fresh", "unknown", "fresh"]})
    pq.write_table(strata, folder / STRATA_TABLE)
    write_documents(folder, HELDOUT_SIDE, other_tables={STRATA_TABLE: 3})
    return folder


def test_all_that_is_held_out_is_measured_and_knows_its_stratum(heldout: Path):
    suite = choose_suite(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=0)
    assert [entry.document.id for entry in suite] == [document.id for document in HELDOUT_SIDE]
    assert [(entry.role, entry.stratum) for entry in suite][1:] == [("heldout", "partial"), ("heldout", "contaminated")]


@pytest.mark.parametrize("probe_bytes", [1500, 2000, 3000])
def test_the_train_sample_has_the_mix_of_languages_that_is_held_out(heldout: Path, probe_bytes: int):
    suite = choose_suite(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=probe_bytes)
    sizes = {role: Counter() for role in ("heldout", "train", "general")}
    for entry in suite:
        sizes[entry.role][entry.document.language] += entry.document.num_bytes
    assert sizes["train"].keys() == {"python", "go"}
    for language, num_bytes in sizes["train"].items():
        wanted = probe_bytes * sizes["heldout"][language] / sizes["heldout"].total()
        assert 0.5 * wanted < num_bytes <= wanted


def test_with_room_for_all_every_document_of_a_language_that_is_held_out_is_measured(heldout: Path):
    suite = choose_suite(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=10**6)
    counts = Counter((entry.role, entry.document.language) for entry in suite if entry.role != "heldout")
    assert counts == {("train", "python"): 5, ("train", "go"): 20, ("general", "python"): 50}


def test_a_held_out_language_that_train_lacks_takes_no_room_from_the_others(heldout: Path):
    go = [each for each in TRAIN_SIDE if each.language == "go"]
    suite = choose_suite(heldout, go, [], probe_bytes=sum(each.num_bytes for each in go))
    assert sum(entry.role == "train" for entry in suite) == len(go)


@pytest.mark.parametrize("probe_bytes", [0, 500, 3000])
def test_train_and_general_have_at_most_probe_bytes_each(heldout: Path, probe_bytes: int):
    suite = choose_suite(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=probe_bytes)
    for role in ("train", "general"):
        assert sum(entry.document.num_bytes for entry in suite if entry.role == role) <= probe_bytes


def test_the_choice_does_not_depend_on_the_order_of_documents(heldout: Path):
    mixed = list(TRAIN_SIDE), list(GENERAL_SIDE)
    for side in mixed:
        random.Random(1).shuffle(side)  # noqa: S311  # no secret
    chosen = choose_suite(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=2000)
    again = choose_suite(heldout, *mixed, probe_bytes=2000)
    assert {(p.role, p.document.language, p.document.path) for p in chosen} == {
        (p.role, p.document.language, p.document.path) for p in again
    }


WORDS = words_of(400, seed=1)
NEAR_COPY = [word if index % 40 else "renamed" for index, word in enumerate(WORDS)]


@pytest.mark.parametrize(
    ("text", "stratum"),
    [
        (lines_of(words_of(400, seed=2)), "clean"),
        (lines_of(WORDS), "contaminated"),
        (", ".join(WORDS).replace(" ", "\r\n"), "contaminated"),
        (lines_of(NEAR_COPY), "contaminated"),
        (lines_of(words_of(400, seed=2) + WORDS[50:70]), "partial"),
        (lines_of(words_of(400, seed=2) + WORDS[50:62]), "clean"),
        ("import flytekit\n", "contaminated"),
        ("import flytekit as fk\n", "clean"),
    ],
)
def test_general_code_is_marked_by_how_much_of_it_is_in_train(text: str, stratum: str):
    vendored = document(lines_of(words_of(50, seed=9)) + "\n" + lines_of(WORDS), url="https://example.com/o/mono")
    train = [vendored, document("import  flytekit\n", url="https://example.com/o/mono", path="short.py")]
    suite = [
        SuiteDocument(document("held out\n"), "heldout", "partial", "fresh"),
        SuiteDocument(document(text, path="a.py"), "general", "", "unknown"),
        SuiteDocument(train[0], "train", "", "unknown"),
    ]
    marked = mark_overlap(suite, train, leak_words=13)
    assert [entry.stratum for entry in marked] == ["partial", stratum, ""]
    assert [entry.document for entry in marked] == [entry.document for entry in suite]


def test_the_number_of_words_that_count_as_shared_text_is_that_of_the_corpus():
    suite = [SuiteDocument(document(lines_of(words_of(400, seed=2) + WORDS[:20])), "general", "", "unknown")]
    strata = [mark_overlap(suite, [document(lines_of(WORDS))], leak_words=n)[0].stratum for n in (20, 21)]
    assert strata == ["partial", "clean"]


@pytest.mark.parametrize("shards", [1, 2, 3, 40])
def test_shards_hold_every_document_once_and_are_of_similar_size(heldout: Path, shards: int):
    suite = choose_suite(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=2000)
    parts = split_into_shards(suite, shards)
    assert len(parts) == shards
    assert Counter(id(entry) for part in parts for entry in part) == Counter(map(id, suite))
    sizes = [sum(entry.document.num_bytes for entry in part) for part in parts]
    assert max(sizes) - min(sizes) <= max(entry.document.num_bytes for entry in suite)


def test_a_suite_is_read_as_it_was_written_batch_by_batch(tmp_path: Path):
    suite = [SuiteDocument(document(f"text {n}\n", path=f"{n}"), "general", "", "unknown") for n in range(600)]
    write_suite(tmp_path / "suite", suite)
    batches = list(read_suite_in_batches(tmp_path / "suite"))
    assert len(batches) > 1
    assert [entry for batch in batches for entry in batch] == suite


NEAR_EMPTY = """.. currentmodule:: plugins.{name}

This package contains things that are useful when extending the tool.

.. autosummary::
   :template: custom.rst

   {name}Task
"""


def test_near_empty_files_of_one_pattern_share_a_number():
    texts = [NEAR_EMPTY.format(name=name) for name in ("athena", "hive", "pod", "spark")]
    texts += [" ".join(words_of(200, seed=seed)) for seed in range(3)]
    numbers = number_near_copies(texts)
    assert len(set(numbers[:4])) == 1
    assert len(set(numbers[4:]) - set(numbers[:4])) == 3


def test_a_licence_header_makes_no_near_copies_of_longer_files():
    header = " ".join(words_of(100, seed=99))
    texts = [f"{header} {' '.join(words_of(300, seed=seed))}" for seed in range(4)] + [header]
    assert len(set(number_near_copies(texts))) == 5


def test_a_text_that_was_edited_here_and_there_is_a_near_copy():
    words = words_of(300, seed=1)
    edited = [word if index % 20 else "edited" for index, word in enumerate(words)]
    assert len(set(number_near_copies([" ".join(words), " ".join(edited), " ".join(words_of(300, seed=2))]))) == 2


def test_texts_too_short_to_be_told_apart_are_near_copies():
    assert len(set(number_near_copies(["", "import a", "from .b import c", *TRAIN_TEXTS]))) == 1 + len(TRAIN_TEXTS)


def test_the_near_copies_of_a_suite_are_numbered_for_each_role_and_kept(tmp_path: Path):
    texts = [NEAR_EMPTY.format(name=name) for name in ("athena", "hive", "pod")]
    copies = [document(text, path=f"{index}.py") for index, text in enumerate(texts)]
    write_documents(tmp_path / "heldout", copies)
    suite = choose_suite(tmp_path / "heldout", [], copies, probe_bytes=10**6)
    numbers = {role: {entry.near_copies for entry in suite if entry.role == role} for role in ("heldout", "general")}
    assert [len(each) for each in numbers.values()] == [1, 1]
    write_suite(tmp_path / "suite", suite)
    read = [entry for batch in read_suite_in_batches(tmp_path / "suite") for entry in batch]
    assert [entry.near_copies for entry in read] == [entry.near_copies for entry in suite]
