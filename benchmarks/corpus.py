"""Cost of the corpus: whole runs cold and warm, growth with the input, and near-deduplication against peers.

    python benchmarks/corpus.py [--config PATH] [--parts run growth near] [--plot FILE.svg]

`run` measures from the configuration's repositories, fetched before the clock starts, to documents of both sides,
deduplicated and without leaks: cold, then warm, with the verdicts kept by the cold run. `growth` replicates their
documents up to 1 GB (`corpus_growth.py`), and `near` sets near-deduplication against datatrove and datasketch
(`corpus_near.py`). For `near` alone these are needed besides the project's own requirements, in an environment of their
own, since datatrove 0.8 breaks with a newer xxhash: `pip install 'datatrove[processing]' spacy orjson 'xxhash<4'
datasketch`. Sources are fetched as git is configured, so its `url.<base>.insteadOf` can name mirrors of them. Prints
Markdown tables. Linux only.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import corpus_growth
import corpus_near
from fresh_process import in_fresh_process
from timing import ROUNDS

from flyte_llama.config import CorpusConfig, load_config
from flyte_llama.corpus import build_corpus
from flyte_llama.documents import VerdictCache, collect, read_documents, write_documents
from flyte_llama.manifest import sha256_folder
from flyte_llama.sources import PinnedSource, first_commits, open_tree, pin

PEERS = ("datatrove", "spacy", "orjson", "xxhash", "datasketch")
INSTALL = "pip install 'datatrove[processing]' spacy orjson 'xxhash<4' datasketch"


class Run(NamedTuple):
    collect_s: float
    build_s: float
    cpu_s: float
    """Of this process; far below the seconds where it waits for git, or for cores that others hold."""

    num_bytes: int
    digests: tuple[str, str]
    """Of the train and the held-out folder."""

    @property
    def seconds(self) -> float:
        return self.collect_s + self.build_s


def run_once(
    pins: Sequence[PinnedSource],
    dates: Sequence[dict[str, int]],
    config: CorpusConfig,
    released: date | None,
    folder: Path,
) -> Run:
    """As the workflow's tasks do, one source after the other. Verdicts are kept beside the documents."""
    folders = [folder / f"documents-{number:03}" for number in range(len(pins))]
    train, heldout = folder / "train", folder / "heldout"
    for old in (*folders, train, heldout):
        shutil.rmtree(old, ignore_errors=True)
    heldout_urls = [source.url for source in pins[len(config.train_sources) :]]
    num_bytes = 0
    with ExitStack() as stack:
        trees = [stack.enter_context(open_tree(source)) for source in pins]
        start, cpu_start = time.perf_counter(), time.process_time()
        for source, tree, known, target in zip(pins, trees, dates, folders, strict=True):
            cache = VerdictCache(folder / "verdicts", url=source.url)
            collected = collect(source, tree, config.documents, cache=cache, first_commits=known)
            write_documents(target, collected.documents, source=collected.count.model_dump())
            num_bytes += collected.count.entries.num_bytes
        collected_at = time.perf_counter()
        build_corpus(folders, heldout_urls, config, released=released, train=train, heldout=heldout)
        ended, cpu_s = time.perf_counter(), time.process_time() - cpu_start
    digests = sha256_folder(train), sha256_folder(heldout)
    return Run(collected_at - start, ended - collected_at, cpu_s, num_bytes, digests)


def runs(*arguments, rounds: int, folder: Path) -> str:
    """A table; the documents of the last round stay in the folder."""
    found: dict[str, list[tuple[Run, float]]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        shutil.rmtree(folder, ignore_errors=True)
        for name in found:
            found[name].append(in_fresh_process(run_once, *arguments, folder))
    lines = ["| run | input MB | s | of it reading | building | CPU s | peak MB |", "|---|---|---|---|---|---|---|"]
    for name, measured in found.items():
        best = min((run for run, _ in measured), key=lambda run: run.seconds)
        lines.append(
            f"| {name} | {best.num_bytes / 1e6:.1f} | {best.seconds:.2f} | {best.collect_s:.2f} | {best.build_s:.2f} "
            f"| {best.cpu_s:.2f} | {max(peak for _, peak in measured):,.0f} |"
        )
    digests = {run.digests for measured in found.values() for run, _ in measured}
    one = len(digests) == 1
    lines.append("")
    lines.append(
        f"Train and held-out of all {2 * rounds} runs are {'the same bytes' if one else 'NOT the same bytes'}:"
    )
    lines += [f"sha256 {train} (train), {heldout} (held-out)" for train, heldout in sorted(digests)]
    return "\n".join(lines)


def missing_peers() -> list[str]:
    missing = []
    for name in PEERS:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/code_llama_7b_lora.yaml"))
    parser.add_argument("--parts", nargs="+", choices=["run", "growth", "near"], default=["run", "growth", "near"])
    parser.add_argument("--sizes", nargs="+", type=float, default=corpus_growth.SIZES_MB, help="MB, for growth")
    parser.add_argument("--plot", type=Path, help="write growth as an SVG")
    parser.add_argument("--folder", type=Path, help="for temporary files; growth to 1 GB takes about 1 GB there")
    arguments = parser.parse_args()
    if "near" in arguments.parts and missing_peers():
        parser.exit(
            2,
            f"{', '.join(missing_peers())}, needed for the part `near`, is not installed: {INSTALL}. "
            "Or leave that part out with --parts run growth.\n",
        )

    config = load_config(arguments.config)
    released = date.fromisoformat(config.model.released) if config.model.released else None
    pins = [pin(source) for source in config.corpus.train_sources]
    heldout = [pin(source) for source in config.corpus.heldout]
    dates = [{} for _ in pins] + [first_commits(source) if released else {} for source in heldout]
    heldout_urls = [source.url for source in heldout]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        # One round gives the documents that the other parts need.
        rounds = ROUNDS if "run" in arguments.parts else 1
        text = runs([*pins, *heldout], dates, config.corpus, released, rounds=rounds, folder=folder / "run")
        documents = sorted((folder / "run").glob("documents-*"))
        if "run" in arguments.parts:
            print(text, flush=True)
        if "growth" in arguments.parts:
            sizes, where = arguments.sizes, folder / "growth"
            found = corpus_growth.costs(documents, heldout_urls, config.corpus, released, sizes_mb=sizes, folder=where)
            print(f"\n{corpus_growth.table(found)}", flush=True)
            if arguments.plot:
                arguments.plot.write_text(corpus_growth.plot(found), encoding="utf-8")
        if "near" in arguments.parts:
            train = [document for source in documents[: len(pins)] for document in read_documents(source)]
            threshold = config.corpus.deduplication.near
            sides = corpus_near.compare(train, threshold=threshold, folder=folder / "near")
            print(f"\n{corpus_near.table(sides, train, threshold)}")
            print("\n" + ", ".join(f"{name} {version(name)}" for name in PEERS))


if __name__ == "__main__":
    main()
