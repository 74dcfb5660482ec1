"""Both sides from folders of documents: no text on both, tables of the text left out, counts that add up."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flyte_llama.config import CorpusConfig, SourceConfig
from flyte_llama.corpus import CorpusCard, build_corpus, funnel, pin_sources
from flyte_llama.documents import Amount, Document, read_documents, read_source, write_documents, write_source
from flyte_llama.documents.ngrams import jaccard, shingles
from flyte_llama.errors import CorpusError
from flyte_llama.storage import sha256_folder, verify
from tests.conftest import MakeRepo, document, lines_of, source_count, words_of

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
    """Build a corpus of one source for each URL of the documents; `reverse` gives the train sources in reverse."""
    folders: dict[str, Path] = {}
    for url in sorted({TRAIN, HELDOUT, *(entry.url for entry in documents)}):
        in_source = [entry for entry in documents if entry.url == url]
        skipped = {"generated": Amount(files=2, num_bytes=10)}
        entries = source_count(in_source).entries + skipped["generated"]
        folders[url] = folder / f"source{len(folders)}"
        write_documents(
            folders[url], in_source, source=source_count(in_source, skipped=skipped, entries=entries).model_dump()
        )
    outputs = {"train": folder / "train", "heldout": folder / "heldout"}
    heldout = folders.pop(HELDOUT)
    train = list(folders.values())
    return build_corpus(train[::-1] if reverse else train, [heldout], CONFIG, released=RELEASED, **outputs)


def test_copies_and_leaks_are_gone_and_the_rest_is_there(tmp_path: Path):
    build(tmp_path, DOCUMENTS)
    assert [(piece.path, piece.text) for piece in read_documents(tmp_path / "train")] == [
        ("a.py", long(1)),
        ("leak.py", long(2) + "\n"),
        ("leak.py", long(3)),
    ]
    assert [document.path for document in read_documents(tmp_path / "heldout")] == ["x.py", "y.py"]


def test_documents_list_the_filters_they_passed_and_keep_no_signature(tmp_path: Path):
    build(tmp_path, DOCUMENTS)
    for side, last_filters in (("train", ("leakage",)), ("heldout", ())):
        for left in read_documents(tmp_path / side):
            assert left.filters == ("mode", "name", "exact", "lineage", "near", *last_filters)
            assert left.signature == b""


def test_each_text_left_out_is_recorded_with_the_document_kept_instead(tmp_path: Path):
    build(tmp_path, DOCUMENTS)
    rows = pq.read_table(tmp_path / "train/dropped.parquet").to_pylist()
    assert [(row["reason"], row["path"], row["kept_path"]) for row in rows] == [
        ("exact", "copy.py", "a.py"),
        ("leakage", "leak.py", "y.py"),
    ]
    span = rows[1]
    assert DOCUMENTS[2].text.encode()[span["start"] : span["end"]].decode() == LEAK + "\n"
    near = pq.read_table(tmp_path / "heldout/dropped.parquet").to_pylist()
    assert [(row["reason"], row["path"], row["kept_path"]) for row in near] == [("near", "z.py", "y.py")]
    assert near[0]["jaccard"] > 0.7
    tables = {"documents.parquet", "dropped.parquet", "left_out.parquet", "strata.parquet"}
    assert set(verify(tmp_path / "heldout")["files"]) == tables


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
def test_each_step_of_the_funnel_subtracts_the_bytes_that_it_removed(tmp_path: Path, held_out: bool):
    card = build(tmp_path, DOCUMENTS)
    steps = funnel(card, held_out=held_out)
    for before, step in itertools.pairwise(steps):
        assert step.left.num_bytes == before.left.num_bytes - step.removed.num_bytes
    side = card.heldout if held_out else card.train
    assert steps[-1].left == side.documents
    assert steps[0].left == source_count(
        [entry for entry in DOCUMENTS if (entry.url == HELDOUT) == held_out]
    ).entries + Amount(files=2, num_bytes=10)


def test_the_order_of_sources_and_files_does_not_matter(tmp_path: Path):
    documents = [*DOCUMENTS, document(long(40), url="https://example.com/o/other")]
    first = build(tmp_path / "one", documents)
    second = build(tmp_path / "two", documents[::-1], reverse=True)
    assert first == second
    for side in ("train", "heldout"):
        assert sha256_folder(tmp_path / "one" / side) == sha256_folder(tmp_path / "two" / side)


def test_pieces_that_are_equal_after_the_cut_are_kept_once(tmp_path: Path):
    twins = [
        document(long(8) + "\n" + LEAK + long(seed) + "\n" + long(9), url=TRAIN, path=f"{seed}.py") for seed in (20, 30)
    ]
    card = build(tmp_path, [*twins, document(LEAK + long(20) + "\n" + LEAK + long(30), url=HELDOUT, path="x.py")])
    assert [(piece.path, piece.text) for piece in read_documents(tmp_path / "train")] == [
        ("20.py", long(8) + "\n"),
        ("20.py", long(9)),
    ]
    assert card.train.dropped["near"].files == 2
    near = pq.read_table(tmp_path / "train/dropped.parquet", filters=[("reason", "=", "near")]).to_pylist()
    for row in near:
        texts = [
            next(twin.text for twin in twins if twin.path == row[f"{prefix}path"])[
                row[f"{prefix}start"] : row[f"{prefix}end"]
            ]
            for prefix in ("", "kept_")
        ]
        assert jaccard(*map(shingles, texts)) == row["jaccard"] == 1.0


def test_an_empty_train_side_counts_what_each_reason_took(tmp_path: Path):
    only_leaks = [document(LEAK, url=TRAIN), document(LEAK, url=TRAIN, path="copy.py"), *DOCUMENTS[3:]]
    with pytest.raises(CorpusError) as caught:
        build(tmp_path, only_leaks)
    assert caught.value.message == (
        "0 train documents are left. 4 files seen: 2 generated, vendored, lock, minified, encoded; 1 exact copies; "
        "1 held-out text alone. Add sources to corpus.train, or hold out repositories that share less text with it."
    )


@pytest.mark.parametrize("side", ["train", "heldout"])
def test_a_side_that_the_filters_empty_counts_the_files_of_each_filter(tmp_path: Path, side: str):
    urls = {"train": TRAIN, "heldout": HELDOUT}
    for name, url in urls.items():
        kept = [] if name == side else [document(long(1), url=url)]
        skipped = {"type": Amount(files=180, num_bytes=9), "not_permitted": Amount(files=30), "kind": Amount(files=4)}
        licences = {"GPL-3.0-only": Amount(files=21), "Acme Licence": Amount(files=9)}
        unread = {".abap": 150, ".prg": 30} if name == side else {}
        count = source_count(
            [document(long(1), url=url)],
            skipped=skipped,
            unread=unread,
            not_permitted=licences,
            entries=Amount(files=214 + len(kept)),
        )
        write_documents(tmp_path / name, kept, source=count.model_dump())
    sides = {"train": tmp_path / "built/train", "heldout": tmp_path / "built/heldout"}
    with pytest.raises(CorpusError) as caught:
        build_corpus([tmp_path / "train"], [tmp_path / "heldout"], CONFIG, released=RELEASED, **sides)
    assert caught.value.message == (
        f"0 {side} documents are left. 214 files seen: 180 other types (.abap, .prg); 30 licence not allowed "
        "(GPL-3.0-only, Acme Licence); 4 kinds not selected. "
        f"Add sources to corpus.{side}, or name more types in corpus.documents.languages."
    )


def test_a_source_of_which_nothing_is_left_is_said_with_the_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    mirror = "https://example.com/o/mirror"
    copies = [replace(entry, url=mirror, repository="o/mirror", committed=-1) for entry in DOCUMENTS[:1]]
    folders = []
    for name, in_source in (("a", DOCUMENTS[:3]), ("b", copies), ("c", DOCUMENTS[3:])):
        folders.append(tmp_path / name)
        write_documents(folders[-1], in_source, source=source_count(in_source).model_dump())
    sides = {"train": tmp_path / "train", "heldout": tmp_path / "heldout"}
    build_corpus(folders[:2], folders[2:], CONFIG, released=RELEASED, **sides)
    said = [line for line in capsys.readouterr().err.splitlines() if "0 documents" in line]
    assert said == [f"{mirror}: 0 documents of corpus.train are left. 1 file seen: 1 exact copies"]


def test_repositories_of_one_name_on_two_sides_have_the_names_that_tell_them_apart(tmp_path: Path):
    documents = [
        replace(document(long(seed), url=url), repository="acme/tools") for seed, url in ((1, TRAIN), (2, HELDOUT))
    ]
    card = build(tmp_path, documents)
    assert card.source_names == {TRAIN: "example.com/o/train", HELDOUT: "example.com/o/heldout"}
    assert [list(side.by_repository) for side in (card.train, card.heldout)] == [
        [name] for name in card.source_names.values()
    ]


def test_only_held_out_sources_are_dated_and_only_if_the_release_of_the_model_is_known(
    make_repo: MakeRepo, tmp_path: Path
):
    train, heldout = (
        SourceConfig(url=str(make_repo(side, {f"{side}.py": long(1)})), accept_unknown_licence=True) for side in "ab"
    )
    config = CorpusConfig(train=[train], heldout=[heldout])
    for released, is_dated in (("2023-08-24", True), ("", False)):
        sources = pin_sources(config, released=released)
        assert [source.dated for source in sources] == [False, is_dated]
        read = [read_source(source, config.documents) for source in sources]
        assert [bool(source.documents[0].first_commit) for source in read] == [False, is_dated]
        for source, collected in zip(sources, read, strict=True):
            folder = tmp_path / released / source.name
            assert write_source(source, config.documents, folder) == collected.count
            assert read_documents(folder) == collected.documents
