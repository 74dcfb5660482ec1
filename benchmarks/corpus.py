"""Cost of building the corpus: complete runs, growth with the input, and near-deduplication against peers.

    python benchmarks/corpus.py [--config PATH] [--parts run growth near] [--plot FILE.svg]

`run` measures the way from fetched repositories to the documents of both sides, deduplicated and without leaks: first
cold, then warm, with the file verdicts cached by the cold run. `growth` replicates the documents up to 1 GB
(`corpus_growth.py`). `near` compares near-deduplication with datatrove and datasketch (`corpus_near.py`). Only `near`
needs more packages than the project: `pip install 'datatrove[processing]' spacy orjson 'xxhash<4' datasketch`, in a
separate environment, since datatrove 0.8 breaks with a newer xxhash. Git's `url.<base>.insteadOf` can name mirrors of
the sources. Prints Markdown tables. Linux only.
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
from flyte_llama.corpus import build_corpus, pin_sources
from flyte_llama.documents import read_documents, write_documents
from flyte_llama.documents.cache import FilteredTextCache
from flyte_llama.documents.read import collect
from flyte_llama.sources import PinnedSource, first_commits, open_tree
from flyte_llama.storage import sha256_folder

PEERS = ("datatrove", "spacy", "orjson", "xxhash", "datasketch")
INSTALL = "pip install 'datatrove[processing]' spacy orjson 'xxhash<4' datasketch"


class Run(NamedTuple):
    """The cost and the result of one run."""

    collect_s: float
    build_s: float
    cpu_s: float
    """CPU time of this process. It is far below the wall time if the run waits for git or for busy cores."""

    num_bytes: int
    digests: tuple[str, str]
    """sha256 of the train folder and of the held-out folder."""

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
    """Do the work of the workflow's tasks, one source after another. Verdicts are cached in the same folder."""
    folders = [folder / f"documents-{index:03}" for index in range(len(pins))]
    train, heldout = folder / "train", folder / "heldout"
    for old in (*folders, train, heldout):
        shutil.rmtree(old, ignore_errors=True)
    num_train = len(config.train_sources)
    num_bytes = 0
    # Trees are opened, and so fetched, before the clock starts.
    with ExitStack() as stack:
        trees = [stack.enter_context(open_tree(source)) for source in pins]
        start, cpu_start = time.perf_counter(), time.process_time()
        for source, tree, known, target in zip(pins, trees, dates, folders, strict=True):
            cache = FilteredTextCache(folder / "verdicts", name=source.cache_name)
            collected = collect(source, tree, config.documents, cache=cache, dates=known)
            write_documents(target, collected.documents, source=collected.count.model_dump())
            num_bytes += collected.count.entries.num_bytes
        collected_at = time.perf_counter()
        build_corpus(folders[:num_train], folders[num_train:], config, released=released, train=train, heldout=heldout)
        ended, cpu_s = time.perf_counter(), time.process_time() - cpu_start
    digests = sha256_folder(train), sha256_folder(heldout)
    return Run(collected_at - start, ended - collected_at, cpu_s, num_bytes, digests)


def runs(*arguments, rounds: int, folder: Path) -> str:
    """Run cold and warm, and return a table. The documents of the last round stay in the folder."""
    results: dict[str, list[tuple[Run, float]]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        shutil.rmtree(folder, ignore_errors=True)
        for name in results:
            results[name].append(in_fresh_process(run_once, *arguments, folder))
    lines = ["| run | input MB | s | reading s | building s | CPU s | peak MB |", "|---|---|---|---|---|---|---|"]
    for name, measured in results.items():
        best = min((run for run, _ in measured), key=lambda run: run.seconds)
        lines.append(
            f"| {name} | {best.num_bytes / 1e6:.1f} | {best.seconds:.2f} | {best.collect_s:.2f} | {best.build_s:.2f} "
            f"| {best.cpu_s:.2f} | {max(peak for _, peak in measured):,.0f} |"
        )
    digests = {run.digests for measured in results.values() for run, _ in measured}
    all_equal = len(digests) == 1
    lines.append("")
    lines.append(
        f"Train and held-out folders of all {2 * rounds} runs are {'identical' if all_equal else 'NOT identical'}:"
    )
    lines += [f"sha256 {train} (train), {heldout} (held-out)" for train, heldout in sorted(digests)]
    return "\n".join(lines)


def missing_peers() -> list[str]:
    """The packages of `PEERS` that are not installed."""
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
    parser.add_argument(
        "--sizes", nargs="+", type=float, default=corpus_growth.SIZES_MB, help="sizes for growth, in MB"
    )
    parser.add_argument("--plot", type=Path, help="write a plot of growth to this SVG file")
    parser.add_argument("--folder", type=Path, help="folder for temporary files; growth to 1 GB needs about 1 GB")
    arguments = parser.parse_args()
    if "near" in arguments.parts and missing_peers():
        parser.exit(
            2,
            f"the part `near` needs packages that are not installed: {', '.join(missing_peers())}. Install them with "
            f"{INSTALL}, or leave the part out with --parts run growth.\n",
        )

    # pin every source, and find the dates of held-out files
    config = load_config(arguments.config)
    released = date.fromisoformat(config.model.released) if config.model.released else None
    pins = pin_sources(config.corpus, released=config.model.released)
    num_train = len(config.corpus.train_sources)
    dates = [first_commits(source) if source.dated else {} for source in pins]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        # The other parts need the documents, which one round writes.
        rounds = ROUNDS if "run" in arguments.parts else 1
        text = runs(pins, dates, config.corpus, released, rounds=rounds, folder=folder / "run")
        documents = sorted((folder / "run").glob("documents-*"))
        if "run" in arguments.parts:
            print(text, flush=True)
        if "growth" in arguments.parts:
            sizes, replicas = arguments.sizes, folder / "growth"
            costs = corpus_growth.costs(documents, num_train, config.corpus, released, sizes_mb=sizes, folder=replicas)
            print(f"\n{corpus_growth.table(costs)}", flush=True)
            if arguments.plot:
                arguments.plot.write_text(corpus_growth.plot(costs), encoding="utf-8")
        if "near" in arguments.parts:
            train = [document for source in documents[:num_train] for document in read_documents(source)]
            threshold = config.corpus.deduplication.near
            sides = corpus_near.compare(train, threshold=threshold, folder=folder / "near")
            print(f"\n{corpus_near.table(sides, train, threshold)}")
            print("\n" + ", ".join(f"{name} {version(name)}" for name in PEERS))


if __name__ == "__main__":
    main()
