"""Near-deduplication with exact verification against datatrove's MinHash pipeline and datasketch's MinHash LSH.

All sides get the same documents in the same order, in memory or, for datatrove, as files. Ours and datasketch's drop a
document for one kept before it, after the same exact comparison; datatrove verifies nothing and keeps one of each
cluster of documents linked through others.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from timing import best

from flyte_llama.corpus.near import near_duplicates
from flyte_llama.documents import Document
from flyte_llama.ngrams import NUM_PERMUTATIONS, SHINGLE_WORDS, jaccard, shingles, signature

WORKERS = 2
BANDS = 32
"""As many as ours, so that the peer's index finds what ours finds."""

_WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]+")

Groups = list[list[int]]
"""Documents held to be near-duplicates, one of each group kept."""


class Side(NamedTuple):
    name: str
    seconds: float
    groups: Groups

    @property
    def num_dropped(self) -> int:
        return sum(len(group) - 1 for group in self.groups)

    @property
    def members(self) -> set[int]:
        return {index for group in self.groups for index in group}


def compare(documents: Sequence[Document], *, threshold: float, folder: Path) -> list[Side]:
    """Ours first. datatrove's side takes minutes and so runs once, the others three times in turn."""
    sides: dict[str, Callable[[], Groups]] = {
        "ours": lambda: ours(documents, threshold),
        "datasketch": lambda: datasketch(documents, threshold, strings),
        "datasketch, our bands": lambda: datasketch(documents, threshold, strings, bands=BANDS),
        "datasketch, our shingles": lambda: datasketch(documents, threshold, integers),
    }
    seconds = dict(zip(sides, best(*sides.values()), strict=True))
    groups = {name: side() for name, side in sides.items()}
    write_shards(documents, folder / "input")
    start = time.perf_counter()
    datatrove(folder)
    seconds["datatrove"], groups["datatrove"] = time.perf_counter() - start, datatrove_groups(folder)
    return [Side(name, seconds[name], groups[name]) for name in groups]


def ours(documents: Sequence[Document], threshold: float) -> Groups:
    signed = [replace(document, signature=signature(document.text)) for document in documents]
    matches = near_duplicates(signed, threshold=threshold)
    return _groups((index, match.kept) for index, match in enumerate(matches) if match is not None)


def datasketch(
    documents: Sequence[Document],
    threshold: float,
    shingle: Callable[[str], tuple[list, Callable | None]],
    *,
    bands: int | None = None,
) -> Groups:
    """As ours, one document after the other.

    Args:
        bands: None is datasketch's choice for the threshold: fewer than ours, so that more pairs are missed.
    """
    from datasketch import MinHash, MinHashLSH

    @cache
    def grams(number: int) -> np.ndarray:
        return shingles(documents[number].text)

    params = (bands, NUM_PERMUTATIONS // bands) if bands else None
    index = MinHashLSH(threshold=threshold, num_perm=NUM_PERMUTATIONS, params=params)
    pairs = []
    first = MinHash(num_perm=NUM_PERMUTATIONS)
    for number, document in enumerate(documents):
        found, hash_function = shingle(document.text)
        # The permutations are the same for all, and slow to make.
        same = {"permutations": first.permutations, "scheme": first.scheme}
        sketch = MinHash(num_perm=NUM_PERMUTATIONS, hashfunc=hash_function, **same)
        sketch.update_batch(found)
        similar = {other: jaccard(grams(number), grams(other)) for other in sorted(index.query(sketch))}
        nearest = max(similar, key=lambda other: similar[other], default=None)
        if nearest is not None and similar[nearest] >= threshold:
            pairs.append((number, nearest))
        else:
            index.insert(number, sketch)
    return _groups(pairs)


def strings(text: str) -> tuple[list[bytes], None]:
    """The 5-grams as datasketch takes them: a set of byte strings, which it hashes itself."""
    words = _WORD.findall(text.encode("utf-8", "surrogatepass"))
    n = min(SHINGLE_WORDS, max(1, len(words)))
    return list({b" ".join(words[start : start + n]) for start in range(len(words) - n + 1)}), None


def integers(text: str) -> tuple[list[int], Callable[[int], int]]:
    """The hashes that ours makes of the 5-grams, cut to the 32 bits of its default scheme; it need not hash them."""
    return (shingles(text) & np.uint64(0xFFFFFFFF)).tolist(), int


def write_shards(documents: Sequence[Document], folder: Path) -> None:
    """JSON lines, a file for each worker; every second document goes to the second of two."""
    folder.mkdir(parents=True)
    for rank in range(WORKERS):
        with (folder / f"{rank}.jsonl").open("w", encoding="utf-8") as file:
            for index in range(rank, len(documents), WORKERS):
                file.write(json.dumps({"id": str(index), "text": documents[index].text}) + "\n")


def datatrove(folder: Path) -> None:
    """The four stages of datatrove's documentation, its defaults but for what names this run's files."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(n_grams=SHINGLE_WORDS, hash_config=HashConfig(precision=64))
    signatures, buckets, clusters = (str(folder / name) for name in ("signatures", "buckets", "clusters"))
    reader = JsonlReader(str(folder / "input"), compression=None)
    stages = [
        ([reader, MinhashDedupSignature(signatures, config=config)], WORKERS),
        ([MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets),
        ([MinhashDedupCluster(buckets, clusters, config=config, save_cluster_id=True)], 1),
        (
            [
                reader,
                MinhashDedupFilter(
                    clusters, exclusion_writer=JsonlWriter(str(folder / "removed")), load_cluster_ids=True
                ),
                JsonlWriter(str(folder / "output")),
            ],
            WORKERS,
        ),
    ]
    for number, (pipeline, tasks) in enumerate(stages):
        logs = str(folder / f"logs-{number}")
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(tasks, WORKERS), logging_dir=logs).run()


def datatrove_groups(folder: Path) -> Groups:
    clusters: defaultdict[int, list[int]] = defaultdict(list)
    num_removed = 0
    for name in ("output", "removed"):
        for file in (folder / name).glob("*.jsonl.gz"):
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                records = [json.loads(line) for line in lines]
            num_removed += len(records) if name == "removed" else 0
            for record in records:
                if record["metadata"]["minhash_cluster_id"] >= 0:
                    clusters[record["metadata"]["minhash_cluster_id"]].append(int(record["id"]))
    if num_removed != sum(len(members) - 1 for members in clusters.values()):
        raise SystemExit("datatrove removed other documents than its clusters say")
    return list(clusters.values())


def table(sides: Sequence[Side], documents: Sequence[Document], threshold: float) -> str:
    """Members are documents in a group; verified are those with another of their group at the threshold."""
    num_mb = sum(document.num_bytes for document in documents) / 1e6
    mine = sides[0]
    lines = [
        "| side | s | MB/s | ratio | dropped | members | verified | members in ours too |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for side in sides:
        ratio = f"{side.seconds / mine.seconds:.1f}" if side is not mine else ""
        verified = sum(_num_verified(group, documents, threshold) for group in side.groups)
        lines.append(
            f"| {side.name} | {side.seconds:.2f} | {num_mb / side.seconds:.2f} | {ratio} | {side.num_dropped:,} "
            f"| {len(side.members):,} | {verified:,} | {len(side.members & mine.members):,} |"
        )
    return "\n".join(lines)


def _num_verified(group: Sequence[int], documents: Sequence[Document], threshold: float) -> int:
    grams = [shingles(documents[index].text) for index in group]
    return sum(
        any(jaccard(one, other) >= threshold for other in grams[:place] + grams[place + 1 :])
        for place, one in enumerate(grams)
    )


def _groups(pairs: Iterable[tuple[int, int]]) -> Groups:
    """Of (dropped, kept), each with the one kept."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for dropped, kept in pairs:
        groups[kept] = [*(groups[kept] or [kept]), dropped]
    return list(groups.values())
