"""What the page of a corpus shows: documents of every language, and a bounded number of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.corpus import read_sample, sample
from flyte_llama.documents import read_documents
from tests.conftest import document
from tests.corpus.test_build import DOCUMENTS, HELDOUT, TRAIN, build, long


def test_a_sample_has_documents_of_each_language_and_kind_as_they_are_trained_on(tmp_path: Path):
    more = [
        document(long(seed) * 30, url=TRAIN, path=f"{seed}.go", language="go", kind="docs") for seed in range(20, 25)
    ]
    build(tmp_path, [*DOCUMENTS, *more])
    documents = read_sample(tmp_path / "train", tmp_path / "heldout").documents
    texts = {document.path: document.text for document in read_documents(tmp_path / "train")}
    assert {(document.language, document.kind) for document in documents} == {
        ("python", "source"),
        ("go", "test"),
        ("go", "docs"),
    }
    assert sum(document.kind == "docs" for document in documents) == 2
    for shown in documents:
        if shown.path != "leak.py":
            assert texts[shown.path].startswith(shown.text)
            assert shown.is_cut == (shown.text != texts[shown.path])


def test_of_many_files_the_largest_of_each_outcome_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = [document(long(seed) * (seed + 1), url=TRAIN, path=f"{seed:02}.py") for seed in range(200, 220)]
    held = [document(long(seed), url=HELDOUT, path=f"h{seed}.py") for seed in range(3)]
    build(tmp_path, [*kept, document(kept[0].text, url=TRAIN, path="copy.py"), *held])
    monkeypatch.setattr(sample, "MOST_FILES", 8)
    read = read_sample(tmp_path / "train", tmp_path / "heldout")
    assert read.num_files == 24
    assert [trace.path for trace in read.files] == [*(f"{seed}.py" for seed in range(213, 220)), "copy.py"]
