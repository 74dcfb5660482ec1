"""Both sides from folders of documents: nothing on both, tables that say what was left out, counts that add up."""

from __future__ import annotations

import itertools
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flyte_llama.config import CorpusConfig, SourceConfig
from flyte_llama.corpus import CorpusCard, build_corpus, funnel
from flyte_llama.documents import Amount, Document, read_documents, write_documents
from flyte_llama.errors import CorpusError
from flyte_llama.manifest import sha256_folder, verify
from flyte_llama.ngrams import jaccard, shingles
from tests.conftest import document, lines_of, source_count, words_of

TRAIN, HELDOUT = "https://example.com/o/train", "https://example.com/o/heldout"
CONFIG = CorpusConfig(train=[SourceConfig(url=TRAIN)], heldout=[SourceConfig(url=HELDOUT)])
LEAK = lines_of(words_of(40, seed=100))
RELEASED = date(2023, 8, 24)


def long(seed: int) -> str:
    return lines_of(words_of(60, seed=seed))


DOCUMENTS = [
    document(long(1), url=TRAIN, path="a.py"),
    document(long(1), url=TRAIN, path="copy.py"),
    document(long(2) + "\n" + LEAK + "\n" + long(3), url=TRAIN, path="leak.py", language="go", kind="test"),
    document(long(4), url=HELDOUT, path="x.py", first_commit=1_693_000_000),
    document(long(5) + LEAK, url=HELDOUT, path="y.py", first_commit=1_692_800_000),
    document((long(5) + LEAK).split("\n", 1)[1], url=HELDOUT, path="z.py"),
]


def build(folder: Path, documents: list[Document], *, reverse: bool = False) -> CorpusCard:
    folders = []
    for number, url in enumerate([TRAIN, HELDOUT]):
        own = [one for one in documents if one.url == url]
        skipped = {"generated": Amount(files=2, num_bytes=10)}
        entries = source_count(own).entries + skipped["generated"]
        folders.append(folder / f"source{number}")
        write_documents(folders[-1], own, source=source_count(own, skipped=skipped, entries=entries).model_dump())
    if reverse:
        folders.reverse()
    places = {"train": folder / "train", "heldout": folder / "heldout"}
    return build_corpus(folders, [HELDOUT], CONFIG, released=RELEASED, **places)


def test_copies_and_leaks_are_gone_and_the_rest_is_there(tmp_path: Path):
    build(tmp_path, DOCUMENTS)
    assert [(one.path, one.text) for one in read_documents(tmp_path / "train")] == [
        ("a.py", long(1)),
        ("leak.py", long(2) + "\n"),
        ("leak.py", long(3)),
    ]
    assert [one.path for one in read_documents(tmp_path / "heldout")] == ["x.py", "y.py"]


def test_documents_say_which_filters_they_passed_and_keep_no_signature(tmp_path: Path):
    build(tmp_path, DOCUMENTS)
    for side, own in (("train", ("leakage",)), ("heldout", ())):
        for one in read_documents(tmp_path / side):
            assert one.filters == ("mode", "name", "exact", "lineage", "near", *own)
            assert one.signature == b""


def test_what_was_left_out_is_written_down_with_what_was_kept_instead(tmp_path: Path):
    build(tmp_path, DOCUMENTS)
    rows = pq.read_table(tmp_path / "train/dropped.parquet").to_pylist()
    assert [(row["reason"], row["path"], row["kept_path"]) for row in rows] == [
        ("exact", "copy.py", "a.py"),
        ("leakage", "leak.py", None),
    ]
    span = rows[1]
    assert DOCUMENTS[2].text.encode()[span["start"] : span["end"]].decode() == LEAK + "\n"
    near = pq.read_table(tmp_path / "heldout/dropped.parquet").to_pylist()
    assert [(row["reason"], row["path"], row["kept_path"]) for row in near] == [("near", "z.py", "y.py")]
    assert near[0]["jaccard"] > 0.7
    assert set(verify(tmp_path / "heldout")["files"]) == {"documents.parquet", "dropped.parquet", "strata.parquet"}


def test_every_heldout_document_has_its_stratum(tmp_path: Path):
    card = build(tmp_path, DOCUMENTS)
    rows = pq.read_table(tmp_path / "heldout/strata.parquet").to_pylist()
    assert [(row["path"], row["stratum"], row["freshness"]) for row in rows] == [
        ("x.py", "clean", "fresh"),
        ("y.py", "partial", "not fresh"),
    ]
    assert [(row["num_words"], row["covered_words"]) for row in rows] == [(60, 0), (100, 40)]
    assert {name: amount.files for name, amount in card.leakage.strata.items()} == {"partial": 1, "clean": 1}
    assert (card.leakage.covered_words, card.leakage.heldout_words, card.leakage.residual_words) == (40, 160, 0)


@pytest.mark.parametrize("held_out", [False, True])
def test_each_step_of_the_funnel_leaves_what_the_one_before_left_less_what_it_removed(tmp_path: Path, held_out: bool):
    card = build(tmp_path, DOCUMENTS)
    steps = funnel(card, held_out=held_out)
    for before, step in itertools.pairwise(steps):
        assert step.left.num_bytes == before.left.num_bytes - step.removed.num_bytes
    side = card.heldout if held_out else card.train
    assert steps[-1].left == side.documents
    assert steps[0].left == source_count(
        [one for one in DOCUMENTS if (one.url == HELDOUT) == held_out]
    ).entries + Amount(files=2, num_bytes=10)


def test_the_order_of_sources_and_files_does_not_matter(tmp_path: Path):
    first = build(tmp_path / "one", DOCUMENTS)
    second = build(tmp_path / "two", DOCUMENTS[::-1], reverse=True)
    assert first == second
    for side in ("train", "heldout"):
        assert sha256_folder(tmp_path / "one" / side) == sha256_folder(tmp_path / "two" / side)


def test_pieces_that_became_alike_by_the_cut_are_not_kept_twice(tmp_path: Path):
    twins = [
        document(long(8) + "\n" + LEAK + long(seed) + "\n" + long(9), url=TRAIN, path=f"{seed}.py") for seed in (20, 30)
    ]
    card = build(tmp_path, [*twins, document(LEAK + long(20) + "\n" + LEAK + long(30), url=HELDOUT, path="x.py")])
    assert [(one.path, one.text) for one in read_documents(tmp_path / "train")] == [
        ("20.py", long(8) + "\n"),
        ("20.py", long(9)),
    ]
    assert card.train.dropped["near"].files == 2
    near = pq.read_table(tmp_path / "train/dropped.parquet", filters=[("reason", "=", "near")]).to_pylist()
    for row in near:
        texts = [
            next(one.text for one in twins if one.path == row[f"{which}path"])[
                row[f"{which}start"] : row[f"{which}end"]
            ]
            for which in ("", "kept_")
        ]
        assert jaccard(*map(shingles, texts)) == row["jaccard"] == 1.0


def test_an_empty_side_is_an_error(tmp_path: Path):
    only_leaks = [document(LEAK, url=TRAIN), *DOCUMENTS[3:]]
    with pytest.raises(CorpusError, match="0 train documents"):
        build(tmp_path, only_leaks)
