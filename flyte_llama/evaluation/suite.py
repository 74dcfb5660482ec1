"""The suite: the documents that every model is measured on, each with its role.

    held-out documents, all          ─┐
    train documents, a sample        ─┼→ suite → shards, one folder per pod
    documents of general code        ─┘

A suite is a sealed folder with `documents.parquet` and `probes.parquet`, which has a row for each document. To measure
one model in several pods, its documents are divided among shards; each shard is a suite, and each document is in
exactly one. Completion cases and FlyteEval items are not part of a suite.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from flyte_llama.corpus import STRATA_TABLE, measure_overlap
from flyte_llama.documents import Document, draw, open_documents, read_documents_in_batches, write_documents
from flyte_llama.documents.ngrams import shingles
from flyte_llama.storage import read_verified_table, write_unsealed_table

HELDOUT = "heldout"
"""The role of documents that no model trained on; the headline figures are computed on these."""

TRAIN = "train"
"""The role of documents that were trained on; used to check for memorisation."""

GENERAL = "general"
"""The role of code unlike the corpus; shows what training made the model forget."""

PROBES_TABLE = "probes.parquet"
_SCHEMA = pa.schema(
    [("role", pa.string()), ("stratum", pa.string()), ("freshness", pa.string()), ("near_copies", pa.int64())]
)

_SHARED = 0.5
"""Near-copies: this share of the shorter text's runs of five words is in the other one too …"""

_NEAR_EMPTY = 64
"""… and the other one has at most twice as many runs, or at most this many."""

_TINY = 5
"""Short texts of at most so many runs, which are nine words, hold too little to be told apart: all are near-copies."""

_TINY_CHARACTERS = 200


@dataclass(frozen=True)
class SuiteDocument:
    """A document to score, and its role in the suite."""

    document: Document
    role: str
    """`HELDOUT`, `TRAIN` or `GENERAL`."""

    stratum: str
    """For a held-out document and for general code clean, partial or contaminated, by its overlap with train; empty if
    unknown."""

    freshness: str
    """For a held-out document fresh, not fresh or unknown: whether it is newer than the base model."""

    near_copies: int = -1
    """Documents of a role with the same number are near-copies of one another; -1 if unknown."""


def choose_suite(
    heldout: Path, train: Sequence[Document], general: Sequence[Document], *, probe_bytes: int
) -> list[SuiteDocument]:
    """Choose all held-out documents with text, and at most `probe_bytes` bytes each of train and general documents.

    The train sample has the held-out side's mix of the languages and kinds that both have, so that the two are
    comparable. The choice depends only on the documents' ids, not on their order. The stratum of general code is left
    empty.

    Args:
        heldout: The held-out folder of a corpus.
    """
    # all held-out documents, with their stratum and freshness if the corpus has them
    documents, manifest = open_documents(heldout)
    facts = [{"stratum": "", "freshness": "unknown"}] * len(documents)
    if STRATA_TABLE in manifest["files"]:
        facts = read_verified_table(heldout, STRATA_TABLE, ["stratum", "freshness"])
    suite = [
        SuiteDocument(document, HELDOUT, known["stratum"], known["freshness"])
        for document, known in zip(documents, facts, strict=True)
        if document.text
    ]
    # train in the same mix, scaled to `probe_bytes`
    in_train = {(document.language, document.kind) for document in train}
    heldout_bytes = Counter[tuple[str, str]]()
    for document in documents:
        if (mix := (document.language, document.kind)) in in_train:
            heldout_bytes[mix] += document.num_bytes
    total = max(1, heldout_bytes.total())
    max_bytes = {mix: probe_bytes * num_bytes // total for mix, num_bytes in heldout_bytes.items()}
    sides = [
        suite,
        [SuiteDocument(document, TRAIN, "", "unknown") for document in _sample_mix(train, max_bytes)],
        [SuiteDocument(document, GENERAL, "", "unknown") for document in _sample(general, probe_bytes)],
    ]
    # number the near-copies of each side
    return [
        replace(entry, near_copies=number)
        for side in sides
        for entry, number in zip(side, number_near_copies([entry.document.text for entry in side]), strict=True)
    ]


def number_near_copies(texts: Sequence[str]) -> list[int]:
    """Return a number for each text, which near-copies share.

    Two texts are near-copies if half of the shorter one's runs of five words stand in the other one, and that has at
    most twice as many or is near-empty too. So near-empty files of one pattern are near-copies, and files that share a
    licence header are only if it is most of both. The texts of a number are near-copies of its shortest text, so no
    chain of small differences joins unlike texts. All texts of fewer than ten words, and 200 characters, are
    near-copies of one another.
    """
    grams = [shingles(text) for text in texts]
    distinct, counts = np.unique(np.concatenate([*grams, np.zeros(0, np.uint64)]), return_counts=True)
    numbers = list(range(len(texts)))
    # Run → the shortest texts with it among the rarest runs. Texts that share half of a short one's runs share at least
    # one of its rarer half, and few texts share any of those.
    shortest_with: defaultdict[int, list[int]] = defaultdict(list)
    by_length = sorted(range(len(texts)), key=lambda index: (len(grams[index]), index))
    for index in by_length:
        if len(grams[index]) <= _TINY and len(texts[index]) <= _TINY_CHARACTERS:
            numbers[index] = by_length[0]
            continue
        # join the text that shares the largest part of its runs
        runs = grams[index]
        frequency = counts[np.searchsorted(distinct, runs)]
        near = {short for run in runs[frequency > 1].tolist() for short in shortest_with.get(run, ())}
        shares = [
            (len(np.intersect1d(runs, grams[short], assume_unique=True)) / len(grams[short]), -short)
            for short in near
            if len(runs) <= max(2 * len(grams[short]), _NEAR_EMPTY)
        ]
        share, first = max(shares, default=(0.0, 0))
        if share >= _SHARED:
            numbers[index] = -first
            continue
        # or be one that longer texts may join
        rarest = np.argsort(frequency, kind="stable")[: len(runs) // 2 + 1]
        for run in runs[rarest[frequency[rarest] > 1]].tolist():
            shortest_with[run].append(index)
    return numbers


def mark_overlap(suite: Sequence[SuiteDocument], train: Sequence[Document], *, leak_words: int) -> list[SuiteDocument]:
    """Return the suite with the stratum of each document of general code: how much of it is in train.

    Args:
        train: All documents that were trained on.
        leak_words: The number of words in a row that count as shared text (`corpus.leakage.num_words`).
    """
    general = [entry.document for entry in suite if entry.role == GENERAL]
    if not general:
        return list(suite)
    strata = (coverage.stratum for coverage in measure_overlap(train, general, n=leak_words))
    return [replace(entry, stratum=next(strata)) if entry.role == GENERAL else entry for entry in suite]


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
