"""The dataset card and page. The tests recompute their numbers from the tables that `build_corpus` wrote."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
import yaml

from flyte_llama.config import CorpusConfig, SourceConfig
from flyte_llama.corpus import CorpusCard, build_corpus
from flyte_llama.documents import Amount, LeftOutFile, write_documents
from flyte_llama.report import dataset_page
from flyte_llama.report.dataset import dataset_card
from tests.conftest import document, lines_of, source_count, words_of

TRAIN, HELDOUT = "https://example.com/o/train", "https://example.com/o/<heldout>"
LEAK = lines_of(words_of(40, seed=100))


def long(seed: int) -> str:
    return lines_of(words_of(60, seed=seed))


READ = {
    TRAIN: [
        document(long(1), url=TRAIN, path="a.py"),
        document(long(1), url=TRAIN, path="copy.py"),
        document(long(2) + "\n" + LEAK + "\n" + long(3), url=TRAIN, path="leak.go", language="go", kind="test"),
        document(long(6) * 40, url=TRAIN, path="long.md", language="markdown", kind="docs"),
    ],
    HELDOUT: [
        document(long(4), url=HELDOUT, path="x.py", first_commit=1_700_000_000),
        document(long(5) + LEAK, url=HELDOUT, path="y.py"),
    ],
}
SKIPPED = {"generated": Amount(files=3, num_bytes=1234), "type": Amount(files=2, num_bytes=77)}


@pytest.fixture
def card(tmp_path: Path) -> CorpusCard:
    for name, (url, documents) in zip(("t", "h"), READ.items(), strict=True):
        entries = source_count(documents).entries + SKIPPED["generated"] + SKIPPED["type"]
        count = source_count(
            documents,
            skipped=SKIPPED,
            not_permitted={"GPL-3.0-only": Amount(files=2, num_bytes=50)},
            entries=entries,
            redacted={"email": len(documents)},
            url=url,
        )
        write_documents(tmp_path / name, documents, source=count.model_dump())
    config = CorpusConfig(train=[SourceConfig(url=TRAIN)], heldout=[SourceConfig(url="https://example.com/o/h")])
    folders = {"train": tmp_path / "train", "heldout": tmp_path / "heldout"}
    return build_corpus([tmp_path / "t"], [tmp_path / "h"], config, released=None, **folders)


def rows_of(markdown: str, heading: str, first_cell: str) -> list[list[str]]:
    """The cells, without the header, of the table under this heading that has this name in its first column."""
    section = markdown.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = section.split(f"| {first_cell} |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def parse_number(cell: str) -> int:
    return int(cell.replace(",", ""))


@pytest.mark.parametrize("heading", ["Train", "Held out"])
def test_the_card_lists_the_licences_that_are_not_allowed(card: CorpusCard, heading: str):
    assert rows_of(dataset_card(card), heading, "licence not allowed") == [["GPL-3.0-only", "2", "50"]]


@pytest.mark.parametrize(("heading", "folder"), [("Train", "train"), ("Held out", "heldout")])
@pytest.mark.parametrize(("title", "column"), [("language", "language"), ("kind", "kind"), ("licence", "licence")])
def test_documents_and_bytes_by_column_agree_with_the_table(
    card: CorpusCard, tmp_path: Path, heading: str, folder: str, title: str, column: str
):
    files, sizes = Counter(), Counter()
    for row in pq.read_table(tmp_path / folder / "documents.parquet").to_pylist():
        files[row[column]] += 1
        sizes[row[column]] += len(row["text"].encode())
    shown = {
        name: (parse_number(count), parse_number(size))
        for name, count, size in rows_of(dataset_card(card), heading, title)
    }
    assert shown == {name: (files[name], sizes[name]) for name in files}


@pytest.mark.parametrize(("heading", "folder", "url"), [("Train", "train", TRAIN), ("Held out", "heldout", HELDOUT)])
def test_the_funnel_leads_from_all_files_to_the_tables_rows(
    card: CorpusCard, tmp_path: Path, heading: str, folder: str, url: str
):
    steps = {row[0]: [parse_number(cell) for cell in row[1:]] for row in rows_of(dataset_card(card), heading, "step")}
    num_bytes = sum(len(document.text.encode()) for document in READ[url])
    assert steps["files"] == [0, 0, len(READ[url]) + 5, num_bytes + 1311]
    assert steps["generated, vendored, lock, minified, encoded"][:2] == [3, 1234]
    assert steps["other types"] == [2, 77, len(READ[url]), num_bytes]
    left = pq.read_table(tmp_path / folder / "documents.parquet").to_pylist()
    last = list(steps.values())[-1]
    assert last[2:] == [len(left), sum(len(row["text"].encode()) for row in left)]
    dropped = pq.read_table(tmp_path / folder / "dropped.parquet").to_pylist()
    exact = [row["end"] - row["start"] for row in dropped if row["reason"] == "exact"]
    if exact:
        assert steps["exact copies"][:2] == [len(exact), sum(exact)]


def test_the_planted_leaks_sources_and_placeholders_are_counted(card: CorpusCard):
    markdown = dataset_card(card)
    assert "It covered 40 of 160 held-out words before the removal, and\n0 after it." in markdown
    assert f"removed from\n1 train files ({len(LEAK) + 1} bytes)" in markdown
    shown = rows_of(markdown, "Sources", "source")
    assert [(row[0], row[2], parse_number(row[4]), parse_number(row[5])) for row in shown] == [
        ("`o/train`", "train", 9, 4),
        ("`o/<heldout>`", "held out", 7, 2),
    ]
    assert rows_of(markdown, "Train", "redacted") == [["email", "4"]]
    strata = rows_of(markdown, "Leakage", "held-out documents, by leaked text")
    assert [(row[0], parse_number(row[1])) for row in strata] == [("partial", 1), ("clean", 1)]


def test_the_front_matter_has_the_fields_of_the_hub(card: CorpusCard):
    front = yaml.safe_load(dataset_card(card).split("---\n")[1])
    assert front["license"] == "apache-2.0"
    assert front["size_categories"] == ["n<1K"]
    assert [file["split"] for file in front["configs"][0]["data_files"]] == ["train", "test"]


def test_the_page_is_well_formed_escapes_names_and_draws_every_length(card: CorpusCard):
    page = dataset_page(card)
    body = page[page.index("<body>") : page.index("</html>")]
    tree = ElementTree.fromstring(body)  # noqa: S314  # HTML made by this test
    texts = [element.text or "" for element in tree.iter()]
    assert "o/<heldout>" in texts
    titles = [element.text or "" for element in tree.iter("title")]
    drawn = Counter(text.split()[0] for text in titles if text.endswith(" documents"))
    lengths = [count for side in (card.train, card.heldout) for count in side.lengths]
    assert drawn == Counter(map(str, lengths))
    assert sum(lengths) == card.train.documents.files + card.heldout.documents.files
    assert "http" not in page.replace("https://example.com", "").replace("http-equiv", "")


def test_the_page_names_the_largest_files_left_out_by_reason(card: CorpusCard):
    files = {"type": [LeftOutFile(repository="o/r", path="<b>.bin", num_bytes=4_096, reason="type")]}
    page = dataset_page(card.model_copy(update={"train": card.train.model_copy(update={"left_out": files})}))
    assert "<summary>type</summary>" in page
    assert "<code>o/r/&lt;b&gt;.bin</code>" in page
    assert "the largest files left out" not in dataset_page(card)
