"""The files that a path, a name or a URL means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flyte_llama.errors import CorpusError
from tests.conftest import document
from tests.corpus.test_build import DOCUMENTS, build, long
from tests.corpus.test_tracing import explain, write_corpus

REMOTES = {"o/r": "https://github.com/o/r.git", "o/other": "https://gitlab.com/o/other"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("src/a.py", 2),
        ("/src/a.py", 2),
        ("o/r:src/a.py", 1),
        ("O/R:/src/a.py", 1),
        ("https://github.com/o/r/blob/main/src/a.py#L3", 1),
        ("https://github.com/O/R/blob/release/1.0/src/a.py?plain=1", 1),
        ("https://github.com/o/r/raw/refs/heads/main/src/a.py", 1),
        ("https://raw.githubusercontent.com/o/r/main/src/a.py", 1),
        ("https://gitlab.com/o/other/-/blob/0123abc/src/a.py", 1),
        ("https://gitlab.com/o/other/-/raw/release/1.0/src/a.py", 1),
    ],
)
def test_a_file_is_found_by_path_by_repository_and_by_address(tmp_path: Path, name: str, found: int):
    documents = [
        replace(document(long(seed), url=url, path=path), repository=repository)
        for seed, (repository, url) in enumerate(REMOTES.items())
        for path in ("src/a.py", "a.py")
    ]
    write_corpus(tmp_path, documents)
    traces = explain(tmp_path, name)
    assert len(traces) == found
    assert all(trace.path == "src/a.py" and trace.link.startswith("https://git") for trace in traces)


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/o/r/blob/main/lib/a.py",
        f"https://github.com/o/r/blob/{'0' * 40}/lib/a.py",
        "https://github.com/o/r2/blob/main/a.py",
        "https://github.com/o/r",
        "https://[o/r/blob/main/a.py",
    ],
)
def test_a_url_of_another_file_finds_none(tmp_path: Path, url: str):
    write_corpus(tmp_path, [document(long(1), url=REMOTES["o/r"], path="a.py")])
    with pytest.raises(CorpusError, match="no source of this run has a file"):
        explain(tmp_path, url)


@pytest.mark.parametrize("path", ["a:b.py", "deep/ns:sub:c.py"])
def test_each_printed_name_finds_its_file(tmp_path: Path, path: str):
    write_corpus(tmp_path, [document(long(1), path=path), document(long(2), path="b.py")])
    (trace,) = explain(tmp_path, f"o/r:{path}")
    assert trace.name == f"o/r:{path}"


def test_a_path_of_no_file_names_the_nearest(tmp_path: Path):
    build(tmp_path, DOCUMENTS)
    with pytest.raises(CorpusError, match=r"lake.py: no source .*nearest are:\n  o/train:leak.py") as raised:
        explain(tmp_path, "lake.py")
    assert "owner/name:path" in raised.value.message
    with pytest.raises(CorpusError, match=r"\n  o/train:copy.py"):
        explain(tmp_path, "sub/folder/copy.py")
