"""The suite: the documents that every model is measured on, each with its role.

    held-out documents, all          ─┐
    train documents, a sample        ─┼→ suite → shards, one folder per pod
    documents of general code        ─┘

A suite is a sealed folder with `documents.parquet` and `probes.parquet`, which has a row for each document. To measure
one model in several pods, its documents are divided among shards; each shard is a suite, and each document is in
exactly one. Completion cases and FlyteEval items are not part of a suite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from flyte_llama.corpus import STRATA_TABLE
from flyte_llama.documents import Document, draw, open_documents, read_documents_in_batches, write_documents
from flyte_llama.storage import read_verified_table, write_unsealed_table

HELDOUT = "heldout"
"""The role of documents that no model trained on; the headline figures are computed on these."""

TRAIN = "train"
"""The role of documents that were trained on; used to check for memorisation."""

GENERAL = "general"
"""The role of code unlike the corpus; shows what training made the model forget."""

PROBES_TABLE = "probes.parquet"
_SCHEMA = pa.schema([("role", pa.string()), ("stratum", pa.string()), ("freshness", pa.string())])


@dataclass(frozen=True)
class SuiteDocument:
    """A document to score, and its role in the suite."""

    document: Document
    role: str
    """`HELDOUT`, `TRAIN` or `GENERAL`."""

    stratum: str
    """For a held-out document clean, partial or contaminated, by its overlap with train; empty if unknown."""

    freshness: str
    """For a held-out document fresh, not fresh or unknown: whether it is newer than the base model."""


def choose_suite(
    heldout: Path, train: Sequence[Document], general: Sequence[Document], *, probe_bytes: int
) -> list[SuiteDocument]:
    """Choose all held-out documents with text, and at most `probe_bytes` bytes each of train and general documents.

    The train sample has the held-out side's mix of languages and kinds, so that the two are comparable, and never more
    bytes of a language and kind than the held-out side. The choice depends only on the documents' ids, not on their
    order.

    Args:
        heldout: The held-out folder of a corpus.
    """
    # all held-out documents, with their stratum and freshness if the corpus has them
    documents, manifest = open_documents(heldout)
    facts = [{"stratum": "", "freshness": "unknown"}] * len(documents)
    if STRATA_TABLE in manifest["files"]:
        facts = read_verified_table(heldout, STRATA_TABLE, ["stratum", "freshness"])
    suite = [
        SuiteDocument(document, HELDOUT, **known)
        for document, known in zip(documents, facts, strict=True)
        if document.text
    ]
    # train in the same mix, scaled down to `probe_bytes`
    heldout_bytes = Counter[tuple[str, str]]()
    for document in documents:
        heldout_bytes[document.language, document.kind] += document.num_bytes
    share = min(1.0, probe_bytes / max(1, heldout_bytes.total()))
    max_bytes = {mix: int(num_bytes * share) for mix, num_bytes in heldout_bytes.items()}
    suite += [SuiteDocument(document, TRAIN, "", "unknown") for document in _sample_mix(train, max_bytes)]
    return suite + [SuiteDocument(document, GENERAL, "", "unknown") for document in _sample(general, probe_bytes)]


def split_into_shards(suite: Sequence[SuiteDocument], num_shards: int) -> list[list[SuiteDocument]]:
    """Divide the documents among `num_shards` lists of similar size in bytes; each list keeps their order."""
    # Largest first, each to the shard that is smallest so far.
    sizes, shard_of = [0] * num_shards, [0] * len(suite)
    for index in sorted(range(len(suite)), key=lambda index: (-suite[index].document.num_bytes, index)):
        shard_of[index] = sizes.index(min(sizes))
        sizes[shard_of[index]] += suite[index].document.num_bytes
    shards: list[list[SuiteDocument]] = [[] for _ in range(num_shards)]
    for entry, shard in zip(suite, shard_of, strict=True):
        shards[shard].append(entry)
    return shards


def write_suite(folder: Path, suite: Sequence[SuiteDocument]) -> None:
    """Write the documents and their roles, and seal the folder."""
    columns = {name: [getattr(entry, name) for entry in suite] for name in _SCHEMA.names}
    num_rows = write_unsealed_table(folder, PROBES_TABLE, pa.table(columns, schema=_SCHEMA))
    write_documents(folder, [entry.document for entry in suite], other_tables={PROBES_TABLE: num_rows})


def read_suite_in_batches(folder: Path) -> Iterator[list[SuiteDocument]]:
    """Yield a suite's documents in the order written, in batches of a few hundred, to bound memory.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    batches = read_documents_in_batches(folder)
    roles = iter(read_verified_table(folder, PROBES_TABLE, _SCHEMA.names))
    for documents in batches:
        yield [SuiteDocument(document, **next(roles)) for document in documents]


def _sample_mix(documents: Sequence[Document], max_bytes: Mapping[tuple[str, str], int]) -> list[Document]:
    """Sample up to `max_bytes` bytes of each language and kind."""
    sample: list[Document] = []
    for mix, num_bytes in max_bytes.items():
        sample += _sample([each for each in documents if (each.language, each.kind) == mix], num_bytes)
    return sample


def _sample(documents: Sequence[Document], num_bytes: int) -> list[Document]:
    """Take documents in a random but fixed order, up to `num_bytes` bytes in all; skip any that no longer fits."""
    sample = []
    for document in sorted(documents, key=lambda document: draw(*document.id)):
        if document.num_bytes <= num_bytes:
            sample.append(document)
            num_bytes -= document.num_bytes
    return sample
