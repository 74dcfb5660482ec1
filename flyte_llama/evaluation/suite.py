"""What a model is measured on: held-out documents, and beside them a probe of the train text and code of another kind.

A suite is a sealed folder: `documents.parquet`, and `probes.parquet` with a row for each document. It is cut into
shards, each a suite of its own, so that several pods measure one model; together they hold each document once.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.corpus import STRATA_TABLE
from flyte_llama.documents import Document, documents_in_batches, open_documents, write_documents
from flyte_llama.evaluation.roles import GENERAL, HELDOUT, TRAIN

PROBES_TABLE = "probes.parquet"


@dataclass(frozen=True)
class Probe:
    """A document to be scored, and what it stands for."""

    document: Document
    role: str
    """`heldout`; `train`, the memorisation probe; `general`, code that is not the corpus's kind."""

    stratum: str
    """Of a held-out document: clean, partial, contaminated; empty if unknown."""

    freshness: str
    """Of a held-out document: fresh, not fresh, unknown."""


def choose_probes(
    heldout: Path, train: Sequence[Document], general: Sequence[Document], *, probe_bytes: int
) -> list[Probe]:
    """The whole held-out side, and of the other two at most `probe_bytes` bytes each.

    Of train as many bytes of each language and kind as the held-out side has, so that the two compare. Which documents
    are taken hangs on their names alone.

    Args:
        heldout: The held-out folder of a corpus.
    """
    documents, manifest = open_documents(heldout)
    strata: list[tuple[str, str]] = [("", "unknown")] * len(documents)
    if STRATA_TABLE in manifest["files"]:
        table = pq.read_table(heldout / STRATA_TABLE, columns=["stratum", "freshness"])
        strata = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    probes = [Probe(document, HELDOUT, *known) for document, known in zip(documents, strata, strict=True)]
    probes = [probe for probe in probes if probe.document.text]
    wanted = Counter[tuple[str, str]]()
    for document in documents:
        wanted[document.language, document.kind] += document.num_bytes
    share = min(1.0, probe_bytes / max(1, wanted.total()))
    like = {which: int(num_bytes * share) for which, num_bytes in wanted.items()}
    probes += [Probe(document, TRAIN, "", "unknown") for document in _some(train, like)]
    return probes + [Probe(document, GENERAL, "", "unknown") for document in _first(general, probe_bytes)]


def cut(probes: Sequence[Probe], shards: int) -> list[list[Probe]]:
    """As many lists, of about as many bytes each; every probe in one of them, in the order given."""
    sizes, share = [0] * shards, [0] * len(probes)
    for number in sorted(range(len(probes)), key=lambda number: (-probes[number].document.num_bytes, number)):
        share[number] = sizes.index(min(sizes))
        sizes[share[number]] += probes[number].document.num_bytes
    return [[probe for probe, own in zip(probes, share, strict=True) if own == shard] for shard in range(shards)]


def write_suite(
    folder: Path, probes: Sequence[Probe], *, beside: Mapping[str, int] | None = None, **facts: Any
) -> None:
    """Write the probes and seal the folder; `beside` and `facts` as in `write_documents`."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {name: [getattr(probe, name) for probe in probes] for name in ("role", "stratum", "freshness")}
    table = pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))
    pq.write_table(table, folder / PROBES_TABLE, compression="zstd")
    documents = [probe.document for probe in probes]
    write_documents(folder, documents, beside={PROBES_TABLE: len(probes), **(beside or {})}, **facts)


def probes_in_batches(folder: Path) -> Iterator[list[Probe]]:
    """The probes of a suite in the order written, a few hundred in memory at a time.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    table = pq.read_table(folder / PROBES_TABLE, columns=["role", "stratum", "freshness"])
    known = zip(*(column.to_pylist() for column in table.columns), strict=True)
    for documents in documents_in_batches(folder):
        yield [Probe(document, *next(known)) for document in documents]


def _some(documents: Sequence[Document], like: Mapping[tuple[str, str], int]) -> list[Document]:
    return [
        document
        for which, num_bytes in like.items()
        for document in _first([own for own in documents if (own.language, own.kind) == which], num_bytes)
    ]


def _first(documents: Sequence[Document], num_bytes: int) -> list[Document]:
    """Documents in an order that is chance but always the same, up to so many bytes; one that is too long is passed."""
    taken = []
    for document in sorted(documents, key=_key):
        if document.num_bytes <= num_bytes:
            taken.append(document)
            num_bytes -= document.num_bytes
    return taken


def _key(document: Document) -> bytes:
    return hashlib.sha256(f"{document.url}\0{document.path}\0{document.start}".encode()).digest()
