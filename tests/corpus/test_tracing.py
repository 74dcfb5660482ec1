"""What became of a file: the sentences agree with the tables, whatever way the file is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flyte_llama.corpus import PathTrace, build_corpus, explain_path
from flyte_llama.corpus.card import _STEPS
from flyte_llama.corpus.reasons import REASONS
from flyte_llama.corpus.tracing import read_traces
from flyte_llama.documents import read_documents, write_source
from flyte_llama.errors import CorpusError
from flyte_llama.sources import pin
from tests.conftest import MakeRepo, document
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


def test_pieces_too_short_to_keep_are_counted(tmp_path: Path):
    short = "a few words only\n"
    train = document(long(1) + "\n" + LEAK + "\n" + short + "\n" + long(4), url=TRAIN, path="x.py")
    build(tmp_path, [train, document(LEAK + long(4), url=HELDOUT, path="y.py")])
    (trace,) = [trace for trace in explain(tmp_path, "x.py") if trace.side == "train"]
    assert f"Dropped, {len(short) + 1} bytes: pieces of fewer than 50 words" in trace.sentences[-1]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("src/a.py", 2),
        ("o/r:src/a.py", 1),
        ("https://github.com/o/r/blob/main/src/a.py#L3", 1),
        ("https://gitlab.com/o/other/-/blob/0123abc/src/a.py", 1),
    ],
)
def test_a_file_is_found_by_path_by_repository_and_by_address(tmp_path: Path, name: str, found: int):
    urls = {"o/r": "https://github.com/o/r.git", "o/other": "https://gitlab.com/o/other"}
    documents = [
        replace(document(long(seed), url=url, path="src/a.py"), repository=repository)
        for seed, (repository, url) in enumerate(urls.items())
    ]
    write_corpus(tmp_path, documents)
    traces = explain(tmp_path, name)
    assert len(traces) == found
    assert all(trace.link.startswith("https://git") for trace in traces)


def write_corpus(folder: Path, documents: list) -> None:
    """A corpus of these train documents."""
    from flyte_llama.corpus.build import _make_dropped_table
    from flyte_llama.documents import join_left_out, write_documents
    from flyte_llama.storage import write_unsealed_table

    for side, content in (("train", documents), ("heldout", [])):
        (folder / side).mkdir()
        for name, table in (("dropped", _make_dropped_table([], [])), ("left_out", join_left_out([]))):
            write_unsealed_table(folder / side, f"{name}.parquet", table)
        write_documents(folder / side, content)


def test_a_path_of_no_file_names_the_nearest(built: Path):
    with pytest.raises(CorpusError, match=r"lake.py: no source .*nearest are:\n  o/train:leak.py") as raised:
        explain(built, "lake.py")
    assert "owner/name:path" in raised.value.message
    with pytest.raises(CorpusError, match=r"\n  o/train:copy.py"):
        explain(built, "sub/folder/copy.py")


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
