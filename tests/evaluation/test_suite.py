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


def test_the_train_sample_has_no_more_of_a_language_than_is_held_out(heldout: Path):
    suite = choose_suite(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=10**6)
    sizes = {role: Counter() for role in ("heldout", "train", "general")}
    for entry in suite:
        sizes[entry.role][entry.document.language] += entry.document.num_bytes
    assert sizes["train"].keys() == {"python", "go"}
    for language, num_bytes in sizes["train"].items():
        assert 0.5 * sizes["heldout"][language] < num_bytes <= sizes["heldout"][language]
    assert sum(entry.role == "general" for entry in suite) == len(GENERAL_SIDE)


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
