"""What is measured: all that is held out, a like probe of train, code of another kind; the same however it is cut."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flyte_llama.corpus import STRATA_TABLE
from flyte_llama.documents import Document, write_documents
from flyte_llama.evaluation import Probe, choose_probes, cut, probes_in_batches, write_suite
from tests.conftest import document, lines_of, words_of


def some(side: str, language: str, sizes: list[int]) -> list[Document]:
    return [
        document(
            lines_of(words_of(size, seed=size)), url=f"https://example.com/o/{side}", path=f"{n}", language=language
        )
        for n, size in enumerate(sizes)
    ]


HELDOUT_SIDE = some("held", "python", [100, 200]) + some("held", "go", [50])
TRAIN_SIDE = some("train", "python", [90, 80, 70, 60, 500]) + some("train", "go", [10] * 20) + some("train", "c", [50])
GENERAL_SIDE = some("other", "python", [40] * 50)


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    folder = tmp_path / "heldout"
    folder.mkdir()
    strata = pa.table({"stratum": ["clean", "partial", "contaminated"], "freshness": ["fresh", "unknown", "fresh"]})
    pq.write_table(strata, folder / STRATA_TABLE)
    write_documents(folder, HELDOUT_SIDE, beside={STRATA_TABLE: 3})
    return folder


def test_all_that_is_held_out_is_measured_and_knows_its_stratum(heldout: Path):
    probes = choose_probes(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=0)
    assert [probe.document.path for probe in probes] == [document.path for document in HELDOUT_SIDE]
    assert [(probe.role, probe.stratum) for probe in probes][1:] == [
        ("heldout", "partial"),
        ("heldout", "contaminated"),
    ]


def test_the_probe_of_train_has_no_more_of_a_language_than_is_held_out(heldout: Path):
    probes = choose_probes(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=10**6)
    sizes = {role: Counter() for role in ("heldout", "train", "general")}
    for probe in probes:
        sizes[probe.role][probe.document.language] += probe.document.num_bytes
    assert sizes["train"].keys() == {"python", "go"}
    for language, num_bytes in sizes["train"].items():
        assert 0.5 * sizes["heldout"][language] < num_bytes <= sizes["heldout"][language]
    assert sum(probe.role == "general" for probe in probes) == len(GENERAL_SIDE)


@pytest.mark.parametrize("probe_bytes", [0, 500, 3000])
def test_no_more_than_the_bytes_allowed_are_measured_beside_it(heldout: Path, probe_bytes: int):
    probes = choose_probes(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=probe_bytes)
    for role in ("train", "general"):
        assert sum(probe.document.num_bytes for probe in probes if probe.role == role) <= probe_bytes


def test_the_choice_does_not_hang_on_the_order_of_documents(heldout: Path):
    mixed = list(TRAIN_SIDE), list(GENERAL_SIDE)
    for side in mixed:
        random.Random(1).shuffle(side)  # noqa: S311  # no secret
    chosen = choose_probes(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=2000)
    again = choose_probes(heldout, *mixed, probe_bytes=2000)
    assert {(p.role, p.document.language, p.document.path) for p in chosen} == {
        (p.role, p.document.language, p.document.path) for p in again
    }


@pytest.mark.parametrize("shards", [1, 2, 3, 40])
def test_shards_hold_every_document_once_and_are_of_like_size(heldout: Path, shards: int):
    probes = choose_probes(heldout, TRAIN_SIDE, GENERAL_SIDE, probe_bytes=2000)
    parts = cut(probes, shards)
    assert len(parts) == shards
    assert Counter(id(probe) for part in parts for probe in part) == Counter(map(id, probes))
    sizes = [sum(probe.document.num_bytes for probe in part) for part in parts]
    assert max(sizes) - min(sizes) <= max(probe.document.num_bytes for probe in probes)


def test_a_suite_is_read_as_it_was_written_batch_by_batch(tmp_path: Path):
    probes = [Probe(document(f"text {n}\n", path=f"{n}"), "general", "", "unknown") for n in range(600)]
    write_suite(tmp_path / "suite", probes)
    batches = list(probes_in_batches(tmp_path / "suite"))
    assert len(batches) > 1
    assert [probe for batch in batches for probe in batch] == [
        Probe(document(f"text {n}\n", path=f"{n}"), "general", "", "unknown") for n in range(600)
    ]
