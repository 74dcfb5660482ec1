"""A document's permalink, and its round trip through the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flyte_llama.documents import read_documents, read_documents_in_batches, write_documents
from tests.conftest import document, peak_bytes

COMMIT = "0" * 40


def test_the_table_has_a_document_and_its_permalink(tmp_path: Path):
    written = document("x = 1\n", url="https://github.com/o/r")
    write_documents(tmp_path / "out", [written])
    (row,) = pq.read_table(tmp_path / "out/documents.parquet").to_pylist()
    assert row["permalink"] == written.permalink != ""
    assert read_documents(tmp_path / "out") == [written]


def test_documents_of_one_path_on_two_hosts_have_different_ids():
    ids = {document("x\n", url=f"https://{host}/acme/tools").id for host in ("github.com", "gitlab.com")}
    assert ids == {("https://github.com/acme/tools", "a.py", 0), ("https://gitlab.com/acme/tools", "a.py", 0)}


@pytest.mark.parametrize(
    ("url", "path", "permalink"),
    [
        ("https://github.com/o/R.git", "a b/#1?%.py", f"https://github.com/o/R/blob/{COMMIT}/a%20b/%231%3F%25.py"),
        ("git@github.com:o/R.git", "ü.py", f"https://github.com/o/R/blob/{COMMIT}/%C3%BC.py"),
        ("ssh://git@github.com/o/r", "a.py", f"https://github.com/o/r/blob/{COMMIT}/a.py"),
        ("https://gitlab.example.com/g/s/r", "a.py", f"https://gitlab.example.com/g/s/r/-/blob/{COMMIT}/a.py"),
        ("https://bitbucket.org/o/r", "a.py", f"https://bitbucket.org/o/r/src/{COMMIT}/a.py"),
        ("https://codeberg.org/o/r", "a.py", f"https://codeberg.org/o/r/src/commit/{COMMIT}/a.py"),
        ("https://git.example.com/o/r", "a.py", ""),
        ("https://github.com.example.com/o/r", "a.py", ""),
        ("/srv/github.com/r", "a.py", ""),
        ("package:flytekit", "a.py", ""),
    ],
)
def test_a_permalink_follows_its_host_or_is_empty(url: str, path: str, permalink: str):
    assert document("x\n", url=url, path=path).permalink == permalink


def test_documents_are_written_a_batch_at_a_time(tmp_path: Path):
    documents = (replace(document("x = 1\n"), path=f"{index}.py", text="x" * 10_000) for index in range(3000))
    write_documents(tmp_path / "first", [document("x = 1\n")])  # whose imports take memory too
    # 30 MB of text
    assert peak_bytes(lambda: write_documents(tmp_path / "out", documents)) < 8_000_000
    assert sum(map(len, read_documents_in_batches(tmp_path / "out"))) == 3000
