"""What became of a file: the sentences agree with the tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flyte_llama.corpus import PathTrace, build_corpus, explain_path
from flyte_llama.corpus.build import _make_dropped_table
from flyte_llama.corpus.card import _STEPS
from flyte_llama.corpus.reasons import REASONS
from flyte_llama.corpus.tracing import read_traces
from flyte_llama.documents import Document, LeftOutFile, join_left_out, read_documents, write_documents, write_source
from flyte_llama.documents.left_out import shown_path, write_left_out
from flyte_llama.errors import DataError
from flyte_llama.sources import pin
from flyte_llama.storage import write_unsealed_table
from tests.conftest import MakeRepo, document
from tests.corpus import test_split
from tests.corpus.test_build import CONFIG, DOCUMENTS, HELDOUT, LEAK, TRAIN, build, long


def explain(folder: Path, path: str) -> list[PathTrace]:
    return explain_path(folder / "train", folder / "heldout", path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    build(folder, DOCUMENTS)
    return folder


def test_a_kept_file_names_the_copies_that_were_dropped_for_it(built: Path):
    (trace,) = explain(built, "a.py")
    assert (trace.side, trace.name, trace.outcome, trace.num_bytes) == ("train", "o/train:a.py", "kept", len(long(1)))
    kept, copies = trace.sentences
    assert kept.startswith("Kept: python source, ")
    assert copies == "Kept in the place of 1 dropped: o/train:copy.py."


def test_a_copy_names_the_file_that_was_kept(built: Path):
    (trace,) = explain(built, "copy.py")
    assert trace.outcome == "exact"
    assert "an exact copy of o/train:a.py." in trace.sentences[0]
    (near,) = explain(built, "z.py")
    assert near.side == "held out"
    assert "a near-copy of o/heldout:y.py, similarity 0." in near.sentences[0]
    assert "Raise corpus.deduplication.near" in near.sentences[0]


def test_a_file_with_held_out_text_gives_its_pieces_the_removed_bytes_and_the_held_out_file(built: Path):
    (trace,) = explain(built, "leak.py")
    pieces = [piece for piece in read_documents(built / "train") if piece.path == "leak.py"]
    _, in_pieces, removed = trace.sentences
    assert trace.outcome == "kept in part"
    assert in_pieces == f"In 2 pieces: {', '.join(f'bytes {piece.start:,} to {piece.end:,}' for piece in pieces)}."
    span = f"bytes {pieces[0].end:,} to {pieces[1].start:,}"
    assert removed.startswith(f"Dropped, {span}: held-out text that o/heldout:y.py has. Raise corpus.leakage.num_words")
    (heldout,) = explain(built, "y.py")
    assert "Held out, so its text was taken out of train: o/train:leak.py." in heldout.sentences


@pytest.mark.parametrize("place", ["first", "between", "last"])
def test_a_piece_too_short_to_keep_is_told_wherever_it_is(tmp_path: Path, place: str):
    short, leak, kept = "a few words only\n\n", LEAK + "\n", long(1) + "\n"
    parts = {"first": [short, leak, kept], "between": [kept, leak, short, leak], "last": [kept, leak, short]}
    train = document("".join(parts[place]), url=TRAIN, path="x.py")
    card = build(tmp_path, [train, document(LEAK + long(4), url=HELDOUT, path="y.py")])
    (trace,) = explain(tmp_path, "x.py")
    assert f"Dropped, {len(short)} bytes: pieces of fewer than 50 words" in trace.sentences[-1]
    dropped = pq.read_table(tmp_path / "train/dropped.parquet").to_pylist()
    num_dropped = sum(row["end"] - row["start"] for row in dropped)
    assert trace.num_bytes + num_dropped == train.num_bytes
    assert num_dropped == card.leakage.removed.num_bytes


def test_a_file_of_held_out_text_and_a_few_words_is_dropped_for_its_held_out_text(tmp_path: Path):
    train = document("a few words only\n\n" + LEAK, url=TRAIN, path="x.py")
    build(tmp_path, [document(long(1), url=TRAIN), train, document(LEAK + long(4), url=HELDOUT, path="y.py")])
    (trace,) = explain(tmp_path, "x.py")
    assert (trace.outcome, trace.num_bytes) == ("leakage", train.num_bytes)


def test_only_the_side_that_kept_a_file_names_what_was_dropped_for_it(make_repo: MakeRepo, tmp_path: Path):
    train, heldout = long(1) + "\n" + LEAK + "\n" + long(2), long(3) + "\n" + LEAK
    files = {"a.py": train, "copy.py": train, "held/b.py": heldout, "held/copy.py": heldout}
    url = str(make_repo("mono", files))
    test_split.build(tmp_path / "c", test_split.config([{"url": url}], [{"url": url, "paths": ["/held/"]}]))
    for path, kept_on, copy in (("a.py", "train", "copy.py"), ("held/b.py", "held out", "held/copy.py")):
        for trace in explain(tmp_path / "c", path):
            told = " ".join(trace.sentences)
            assert (f"Kept in the place of 1 dropped: remotes/mono:{copy}." in told) == (trace.side == kept_on)
            is_leaked = path == "held/b.py" and trace.side == "held out"
            assert ("Held out, so its text was taken out of train: remotes/mono:a.py." in told) == is_leaked


def test_files_left_out_whose_masked_paths_are_equal_are_told_one_by_one(tmp_path: Path):
    paths = [f"mail/{name}@corp.com.txt" for name in ("ann", "bob")]
    assert shown_path(paths[0]) == shown_path(paths[1])
    left_out = [
        LeftOutFile(repository="o/r", path=shown_path(path), num_bytes=size, reason="secret_path")
        for size, path in enumerate(paths, start=1)
    ]
    write_corpus(tmp_path, [document(long(1))], left_out)
    assert len(read_traces(tmp_path / "train", tmp_path / "heldout")) == 3
    assert {trace.num_bytes for trace in explain(tmp_path, paths[0])} == {1, 2}


@pytest.mark.parametrize("side", ["train", "heldout"])
@pytest.mark.parametrize("name", ["documents", "dropped", "left_out"])
def test_a_damaged_or_missing_table_is_named(tmp_path: Path, side: str, name: str):
    write_corpus(tmp_path, [document(long(1))])
    file = tmp_path / side / f"{name}.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match=rf"{name}.parquet: differs from its manifest"):
        explain(tmp_path, "a.py")
    file.unlink()
    with pytest.raises(DataError, match=rf"{name}.parquet: is in the manifest but missing"):
        explain(tmp_path, "a.py")


def test_a_corpus_without_the_tables_asks_for_another_run(tmp_path: Path):
    for side in ("train", "heldout"):
        write_documents(tmp_path / side, [document(long(1))])
    with pytest.raises(DataError, match=r"train: has no dropped.parquet, so an earlier version wrote it"):
        explain(tmp_path, "a.py")


def write_corpus(folder: Path, documents: list[Document], left_out: Sequence[LeftOutFile] = ()) -> None:
    """A corpus of these train documents, and of these files left out of one source."""
    write_left_out(folder / "source", left_out, url="https://example.com/o/r")
    for side, content, sources in (("train", documents, [folder / "source"]), ("heldout", [], [])):
        tables = {"dropped.parquet": _make_dropped_table([], {}), "left_out.parquet": join_left_out(sources)}
        num_rows = {name: write_unsealed_table(folder / side, name, table) for name, table in tables.items()}
        write_documents(folder / side, content, other_tables=num_rows)


def test_every_file_of_a_source_has_one_trace_with_its_reason(make_repo: MakeRepo, tmp_path: Path):
    files = {"a.py": long(1), "go.sum": "x v1 h1:abc\n", "data.bin": "\x00", "empty.py": "", "notes.weird": "text"}
    repositories = [make_repo("o/train", files), make_repo("o/heldout", {"h.py": long(9)})]
    pinned = [
        pin(CONFIG.train[0].model_copy(update={"url": str(path), "accept_unknown_licence": True}))
        for path in repositories
    ]
    for index, source in enumerate(pinned):
        write_source(source, CONFIG.documents, tmp_path / str(index))
    folders = {"train": tmp_path / "train", "heldout": tmp_path / "heldout"}
    sources = [tmp_path / "0", tmp_path / "1"]
    card = build_corpus(sources[:1], sources[1:], CONFIG, released=None, **folders)
    traces = read_traces(**folders)
    assert len(traces) == sum(source.entries.files for side in (card.train, card.heldout) for source in side.sources)
    left_out = pq.read_table(tmp_path / "train/left_out.parquet").to_pylist()
    outcomes = {trace.path: trace.outcome for trace in traces if trace.side == "train"}
    assert outcomes == {"a.py": "kept", **{row["path"]: row["reason"] for row in left_out}}
    (lock,) = explain(tmp_path, "go.sum")
    assert lock.sentences[0].endswith(": a list of pinned versions.")


def test_every_reason_has_words():
    given = {reason for reasons in _STEPS.values() for reason in reasons}
    assert REASONS.keys() == given | {"exact", "lineage", "near", "leakage", "short"}
