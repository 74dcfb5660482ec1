"""Nothing is on both sides, and nothing is there twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from flyte_llama.corpus import build_corpus, split
from flyte_llama.documents import read_documents, write_documents
from flyte_llama.errors import CorpusError
from tests.conftest import document

TRAIN, HELDOUT = "https://example.com/o/train", "https://example.com/o/heldout"
DOCUMENTS = [
    document("one\n", url=TRAIN, path="a.py"),
    document("one\n", url=TRAIN, path="copy.py"),
    document("leaked\n", url=TRAIN, path="leak.py"),
    document("leaked\n", url=HELDOUT, path="x.py"),
    document("other\n", url=HELDOUT, path="y.py"),
    document("other\n", url=HELDOUT, path="z.py"),
]


def test_copies_and_heldout_text_leave_train_and_are_counted():
    sides = split(DOCUMENTS, [HELDOUT])
    assert [d.path for d in sides.train] == ["a.py"]
    assert [d.path for d in sides.heldout] == ["x.py", "y.py"]
    assert sides.dropped == {"train": {"duplicate": 1, "heldout": 1}, "heldout": {"duplicate": 1}}


def test_the_order_of_input_does_not_matter():
    shuffled = random.Random(0).sample(DOCUMENTS, len(DOCUMENTS))  # noqa: S311  # no secret
    assert split(shuffled, [HELDOUT]) == split(DOCUMENTS, [HELDOUT])


def test_an_empty_side_is_an_error():
    with pytest.raises(CorpusError, match="0 train documents"):
        split(DOCUMENTS, [HELDOUT, TRAIN])
    with pytest.raises(CorpusError, match="0 heldout documents"):
        split(DOCUMENTS, [])


def test_a_corpus_is_built_from_folders_and_its_card_counts_them(tmp_path: Path):
    for name, url in (("t", TRAIN), ("h", HELDOUT)):
        own = [d for d in DOCUMENTS if d.url == url]
        source = {"repository": name, "url": url, "revision": "0" * 40, "num_entries": 7, "skipped": {"type": 4}}
        write_documents(tmp_path / name, own, source=source)
    folders = [tmp_path / "t", tmp_path / "h"]
    card = build_corpus(folders, [HELDOUT], train=tmp_path / "train", heldout=tmp_path / "heldout")
    assert [d.path for d in read_documents(tmp_path / "train")] == ["a.py"]
    assert (card.train.num_documents, card.train.num_bytes) == (1, 4)
    assert card.heldout.bytes_by_language == {"python": 13}
    assert [(source.repository, source.held_out, source.num_documents) for source in card.sources] == [
        ("t", False, 3),
        ("h", True, 3),
    ]
