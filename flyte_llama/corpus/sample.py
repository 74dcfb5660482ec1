"""What the page of a corpus shows of its documents: a few to read, and what became of each file."""

from __future__ import annotations

import heapq
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq

from flyte_llama.config import Frozen
from flyte_llama.corpus.tracing import DOCUMENT_COLUMNS, PathTrace, read_traces
from flyte_llama.documents import draw, file_address
from flyte_llama.documents.document import TABLE
from flyte_llama.storage import read_verified_table

MOST_FILES = 2_000
"""Files that a page lists, so that it stays below a megabyte or two."""

_NUM_DOCUMENTS, _MOST_OF_A_GROUP = 18, 2
"""Documents to read, and how many of one language and kind."""

_SHOWN_CHARS = 1_600


class SampleDocument(Frozen):
    """The beginning of a document that the model is trained on."""

    repository: str
    path: str
    language: str
    kind: str
    licence: str
    num_bytes: int
    link: str
    """URL of the file; empty if its host is not known."""

    text: str
    is_cut: bool
    """Whether the document goes on after `text`."""


class CorpusSample(Frozen):
    """What a page shows of the documents of a corpus."""

    documents: list[SampleDocument]
    """Train documents of the largest languages and kinds, drawn by a hash of their paths."""

    files: list[PathTrace]
    """What became of each file; of very many, the largest of each outcome."""

    num_files: int
    """Files of both sides."""


def read_sample(train: Path, heldout: Path) -> CorpusSample:
    """Read what a page shows from the train and held-out folders of a run."""
    traces = read_traces(train, heldout)
    return CorpusSample(documents=_choose_documents(train), files=_choose_files(traces), num_files=len(traces))


def _choose_documents(folder: Path) -> list[SampleDocument]:
    rows = read_verified_table(folder, TABLE, DOCUMENT_COLUMNS)
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    sizes: defaultdict[tuple[str, str], int] = defaultdict(int)
    for index, row in enumerate(rows):
        groups[row["language"], row["kind"]].append(index)
        sizes[row["language"], row["kind"]] += row["end"] - row["start"]
    largest = sorted(groups, key=lambda group: (-sizes[group], group))
    chosen = [
        index
        for group in largest
        for index in heapq.nsmallest(
            _MOST_OF_A_GROUP, groups[group], key=lambda index: draw(rows[index]["url"], rows[index]["path"])
        )
    ][:_NUM_DOCUMENTS]
    texts = _read_texts(folder, set(chosen))
    return [
        SampleDocument(
            **{name: rows[index][name] for name in ("repository", "path", "language", "kind", "licence")},
            num_bytes=rows[index]["end"] - rows[index]["start"],
            link=file_address(rows[index]["url"], rows[index]["revision"], rows[index]["path"]),
            text=texts[index][:_SHOWN_CHARS],
            is_cut=len(texts[index]) > _SHOWN_CHARS,
        )
        for index in chosen
    ]


def _read_texts(folder: Path, indices: set[int]) -> dict[int, str]:
    """Return index → text, batch by batch, to save memory."""
    texts, first = {}, 0
    with pq.ParquetFile(folder / TABLE) as file:
        for batch in file.iter_batches(columns=["text"], batch_size=256):
            for index in indices & {*range(first, first + len(batch))}:
                texts[index] = batch.column(0)[index - first].as_py()
            first += len(batch)
    return texts


def _choose_files(traces: list[PathTrace]) -> list[PathTrace]:
    """Return the traces in their order; of too many, as many of each outcome as there is room for, the largest."""
    if len(traces) <= MOST_FILES:
        return traces
    by_outcome: defaultdict[str, list[int]] = defaultdict(list)
    for index, trace in enumerate(traces):
        by_outcome[trace.outcome].append(index)
    chosen: set[int] = set()
    room = MOST_FILES
    for position, outcome in enumerate(sorted(by_outcome, key=lambda name: (len(by_outcome[name]), name))):
        share = room // (len(by_outcome) - position)
        largest = sorted(by_outcome[outcome], key=lambda index: (-traces[index].num_bytes, index))[:share]
        chosen.update(largest)
        room -= len(largest)
    return [trace for index, trace in enumerate(traces) if index in chosen]
