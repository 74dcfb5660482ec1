"""The cost of `build_corpus` by the size of its input, from a fraction of the documents to many replicas of them.

Each replica is enciphered with a different cipher, which substitutes letters and digits in texts, paths and names. So
replicas share no words, while each keeps the structure of the original: lengths, copies, earlier versions of a file,
near-duplicates and leaks.
"""

from __future__ import annotations

import hashlib
import random
import string
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from math import log10
from pathlib import Path
from typing import NamedTuple

from fresh_process import in_fresh_process

from flyte_llama.config import CorpusConfig
from flyte_llama.corpus import build_corpus
from flyte_llama.documents import open_documents, write_documents
from flyte_llama.documents.ngrams import signature

SIZES_MB = (10, 30, 100, 300, 1000)


class Cost(NamedTuple):
    """The cost of one call of `build_corpus`."""

    num_mb: float
    num_documents: int
    num_kept: int
    seconds: float
    cpu_s: float
    peak_mb: float


def costs(
    folders: Sequence[Path],
    num_train: int,
    config: CorpusConfig,
    released: date | None,
    *,
    sizes_mb: Sequence[float],
    folder: Path,
) -> list[Cost]:
    """The cost at each size, approximated by whole replicas, or by every n-th document for a smaller size.

    Args:
        folders: The documents, one folder per source.
        num_train: How many of the folders are trained on; they come first.
        folder: The folder for replicas; needs about as much space as the largest size.
    """
    whole_mb = sum(_size_mb(source) for source in folders)
    measured = []
    for size_mb in sizes_mb:
        every, replicas = max(1, round(whole_mb / size_mb)), max(1, round(size_mb / whole_mb))
        # A replica is written once and reused for larger sizes.
        targets = [folder / f"every-{every}-replica-{replica}" for replica in range(replicas)]
        for replica, target in enumerate(targets):
            if not target.exists():
                in_fresh_process(write_replica, folders, target, replica, every)
        sources = [source for target in targets for source in sorted(target.iterdir())]
        sides = [[source for source in sources if (int(source.name) >= num_train) == side] for side in (False, True)]
        measured.append(in_fresh_process(_build, *sides, config, released, folder / "built"))
    return [cost._replace(peak_mb=peak_mb) for cost, peak_mb in measured]


def cipher(replica: int) -> dict[int, int]:
    """Character → its substitute; empty for replica 0, which is the original."""
    if not replica:
        return {}
    shuffled = random.Random(replica)  # noqa: S311  # the same each time, not a secret
    letters = "".join(shuffled.sample(string.ascii_letters, 52))
    return str.maketrans(string.ascii_letters + string.digits, letters + "".join(shuffled.sample(string.digits, 10)))


def write_replica(folders: Sequence[Path], target: Path, replica: int, every: int) -> None:
    """Write every n-th document of each source, enciphered for this replica."""
    table = cipher(replica)
    for source, folder in enumerate(folders):
        documents, manifest = open_documents(folder)
        changed = []
        for document in documents[::every]:
            text = document.text.translate(table)
            names = {name: getattr(document, name).translate(table) for name in ("repository", "url", "path")}
            # Blob ids must be equal exactly for files that were equal within this replica.
            blob_id = hashlib.sha1(f"{replica} {document.blob_id}".encode(), usedforsecurity=False).hexdigest()
            changed.append(replace(document, text=text, signature=signature(text), blob_id=blob_id, **names))
        count = {**manifest["source"], **{n: manifest["source"][n].translate(table) for n in ("repository", "url")}}
        write_documents(target / f"{source:03}", changed, source=count)


def _build(
    train: Sequence[Path], heldout: Sequence[Path], config: CorpusConfig, released: date | None, folder: Path
) -> Cost:
    start, cpu_start = time.perf_counter(), time.process_time()
    card = build_corpus(train, heldout, config, released=released, train=folder / "train", heldout=folder / "heldout")
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    read, left = ([getattr(side, name) for side in (card.train, card.heldout)] for name in ("read", "documents"))
    num_mb = sum(amount.num_bytes for amount in read) / 1e6
    return Cost(num_mb, sum(amount.files for amount in read), sum(amount.files for amount in left), seconds, cpu_s, 0.0)


def _size_mb(folder: Path) -> float:
    return sum(document.num_bytes for document in open_documents(folder)[0]) / 1e6


def table(measured: Sequence[Cost]) -> str:
    lines = ["| documents | MB | kept | s | CPU s | MB/s | peak MB |", "|---|---|---|---|---|---|---|"]
    for cost in measured:
        lines.append(
            f"| {cost.num_documents:,} | {cost.num_mb:,.1f} | {cost.num_kept:,} | {cost.seconds:.1f} "
            f"| {cost.cpu_s:.1f} | {cost.num_mb / cost.seconds:.1f} | {cost.peak_mb:,.0f} |"
        )
    return "\n".join(lines)


def plot(measured: Sequence[Cost]) -> str:
    """An SVG of seconds over MB, both logarithmic, with a dashed line of constant seconds per MB."""
    # the ranges of both axes
    width, height, margin = 480, 320, 50
    slowest = max(cost.seconds / cost.num_mb for cost in measured)
    ends = [measured[0].num_mb, measured[-1].num_mb]
    left, right = log10(ends[0]), log10(ends[1])
    low, high = log10(min(cost.seconds for cost in measured)), log10(ends[1] * slowest)

    def at(num_mb: float, seconds: float) -> tuple[float, float]:
        x = margin + (log10(num_mb) - left) / (right - left or 1) * (width - 2 * margin)
        return x, height - margin - (log10(seconds) - low) / (high - low or 1) * (height - 2 * margin)

    def line(points: Sequence[tuple[float, float]], style: str) -> str:
        return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="none" {style}/>'

    # the dashed line and the measured curve, then a dot with two labels for each size
    first = measured[0].seconds / measured[0].num_mb
    shapes = [
        '<rect width="100%" height="100%" fill="#fff"/>',
        line([at(num_mb, num_mb * first) for num_mb in ends], 'stroke="#999" stroke-dasharray="4"'),
        line([at(cost.num_mb, cost.seconds) for cost in measured], 'stroke="#06c" stroke-width="2"'),
    ]
    for cost in measured:
        x, y = at(cost.num_mb, cost.seconds)
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#06c"/>')
        shapes.append(f'<text x="{x:.1f}" y="{height - margin + 18}" text-anchor="middle">{cost.num_mb:,.0f} MB</text>')
        shapes.append(f'<text x="{x - 6:.1f}" y="{y - 8:.1f}" text-anchor="end">{cost.seconds:,.1f} s</text>')
    title = "build_corpus: seconds by size; dashed: the seconds per MB of the smallest size"
    shapes.append(f'<text x="{width / 2:.0f}" y="16" text-anchor="middle">{title}</text>')
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="11"'
    return "\n".join([f'{opening} font-family="sans-serif">', *shapes, "</svg>", ""])
