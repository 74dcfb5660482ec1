"""Near-deduplication with exact verification against datatrove's MinHash pipeline and datasketch's MinHash LSH.

All sides get the same documents in the same order, in memory or (datatrove) as files. Ours and datasketch drop a
document in favour of an earlier kept one, after the same exact comparison. datatrove does not verify: it keeps one
document of each cluster, and a cluster may link two documents only through others.
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

from flyte_llama.corpus.deduplication import near_duplicates
from flyte_llama.documents import Document
from flyte_llama.documents.ngrams import NUM_PERMUTATIONS, SHINGLE_WORDS, jaccard, shingles, signature

WORKERS = 2
BANDS = 32
"""As many bands as in our index, so that datasketch finds the same candidates."""

_WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]+")

Groups = list[list[int]]
"""Groups of documents taken to be near-duplicates; one of each group is kept."""


class Side(NamedTuple):
    name: str
    seconds: float
    groups: Groups

    @property
    def num_dropped(self) -> int:
        return sum(len(group) - 1 for group in self.groups)

    @property
    def members(self) -> set[int]:
        """The documents that are in a group."""
        return {index for group in self.groups for index in group}


def compare(documents: Sequence[Document], *, threshold: float, folder: Path) -> list[Side]:
    """Run all sides, ours first. datatrove takes minutes, so it runs once; the others alternate for three rounds."""
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
    return _groups((index, match.kept_index) for index, match in enumerate(matches) if match is not None)


def datasketch(
    documents: Sequence[Document],
    threshold: float,
    shingle: Callable[[str], tuple[list, Callable | None]],
    *,
    bands: int | None = None,
) -> Groups:
    """Drop near-duplicates one document at a time, as ours does.

    Args:
        bands: None lets datasketch choose for the threshold; it takes fewer bands than ours, and misses more pairs.
    """
    from datasketch import MinHash, MinHashLSH

    @cache
    def grams(document_index: int) -> np.ndarray:
        return shingles(documents[document_index].text)

    params = (bands, NUM_PERMUTATIONS // bands) if bands else None
    lsh = MinHashLSH(threshold=threshold, num_perm=NUM_PERMUTATIONS, params=params)
    pairs = []
    first = MinHash(num_perm=NUM_PERMUTATIONS)
    for index, document in enumerate(documents):
        document_shingles, hash_function = shingle(document.text)
        # The permutations are the same for all documents, and slow to make.
        shared = {"permutations": first.permutations, "scheme": first.scheme}
        sketch = MinHash(num_perm=NUM_PERMUTATIONS, hashfunc=hash_function, **shared)
        sketch.update_batch(document_shingles)
        similar = {other: jaccard(grams(index), grams(other)) for other in sorted(lsh.query(sketch))}
        nearest = max(similar, key=lambda other: similar[other], default=None)
        if nearest is not None and similar[nearest] >= threshold:
            pairs.append((index, nearest))
        else:
            lsh.insert(index, sketch)
    return _groups(pairs)


def strings(text: str) -> tuple[list[bytes], None]:
    """The distinct 5-grams of words as byte strings, the usual input of datasketch, which hashes them itself."""
    words = _WORD.findall(text.encode("utf-8", "surrogatepass"))
    n = min(SHINGLE_WORDS, max(1, len(words)))
    return list({b" ".join(words[start : start + n]) for start in range(len(words) - n + 1)}), None


def integers(text: str) -> tuple[list[int], Callable[[int], int]]:
    """Our hashes of the 5-grams, cut to the 32 bits of datasketch's default scheme, so that it need not hash them."""
    return (shingles(text) & np.uint64(0xFFFFFFFF)).tolist(), int


def write_shards(documents: Sequence[Document], folder: Path) -> None:
    """Write one JSON-lines file per worker, with documents assigned in turn."""
    folder.mkdir(parents=True)
    for rank in range(WORKERS):
        with (folder / f"{rank}.jsonl").open("w", encoding="utf-8") as file:
            for index in range(rank, len(documents), WORKERS):
                file.write(json.dumps({"id": str(index), "text": documents[index].text}) + "\n")


def datatrove(folder: Path) -> None:
    """The four stages of datatrove's documentation. Only the n-gram length, hash precision and paths are set here."""
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
    for index, (pipeline, tasks) in enumerate(stages):
        logs = str(folder / f"logs-{index}")
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(tasks, WORKERS), logging_dir=logs).run()


def datatrove_groups(folder: Path) -> Groups:
    """The clusters that datatrove wrote, checked against the number of documents it removed."""
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
        raise SystemExit("the number of documents datatrove removed does not match its clusters")
    return list(clusters.values())


def table(sides: Sequence[Side], documents: Sequence[Document], threshold: float) -> str:
    """Members are documents in a group. A member is verified if another one of its group reaches the threshold."""
    num_mb = sum(document.num_bytes for document in documents) / 1e6
    our_side = sides[0]
    lines = [
        "| side | s | MB/s | ratio | dropped | members | verified | members also in ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for side in sides:
        ratio = f"{side.seconds / our_side.seconds:.1f}" if side is not our_side else ""
        verified = sum(_num_verified(group, documents, threshold) for group in side.groups)
        lines.append(
            f"| {side.name} | {side.seconds:.2f} | {num_mb / side.seconds:.2f} | {ratio} | {side.num_dropped:,} "
            f"| {len(side.members):,} | {verified:,} | {len(side.members & our_side.members):,} |"
        )
    return "\n".join(lines)


def _num_verified(group: Sequence[int], documents: Sequence[Document], threshold: float) -> int:
    grams = [shingles(documents[index].text) for index in group]
    return sum(
        any(jaccard(member, other) >= threshold for other in grams[:index] + grams[index + 1 :])
        for index, member in enumerate(grams)
    )


def _groups(pairs: Iterable[tuple[int, int]]) -> Groups:
    """Pairs (dropped, kept) → one group per kept document, which comes first."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for dropped, original in pairs:
        groups[original] = [*(groups[original] or [original]), dropped]
    return list(groups.values())
