"""Memory and time of the data stages on a large corpus: by default 200,000 files of 1 GB in eight git repositories.

    python benchmarks/load.py [--files 200000] [--mb 1000] [--limit-gb 4] [--folder FOLDER]

`load_corpus` makes the repositories, the same ones for the same size. Then each stage runs in a process of its own, as
in a pod: pin, read (cold, and again with cached filter results), build the corpus, train a tokenizer, encode (plain,
and as infilling). Prints a Markdown table, and ends with 1 if a stage needed more memory than the limit. Linux only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import load_corpus
from fresh_process import in_fresh_process_tree

from flyte_llama.config import CompositionConfig, CorpusConfig, ModelConfig, ObjectiveConfig, RunLength
from flyte_llama.corpus import build_corpus, pin_sources
from flyte_llama.corpus.composition import ORIGINS_TABLE, compose, write_origins
from flyte_llama.documents import read_documents, read_documents_in_batches, write_source
from flyte_llama.encoding import DocumentTokenizer, add_keys, write_epochs
from flyte_llama.model import pin_model, prepare_base
from flyte_llama.sources import PinnedSource

SEQ_LEN = 1024
RELEASED = date(2024, 6, 1)
# A model from scratch: its tokenizer is trained on all texts.
MODEL = ModelConfig(name="scratch")
CLM, FIM = ObjectiveConfig(), ObjectiveConfig(kind="fim")


class Stage(NamedTuple):
    """The cost of one stage; of a stage that runs once for each source, the sum of times and the largest peaks."""

    name: str
    seconds: float
    peak_mb: float
    """Of the Python process."""

    git_mb: float
    """Of the git processes that it started, together."""

    documents: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--mb", type=float, default=1000)
    parser.add_argument("--limit-gb", type=float, default=4)
    parser.add_argument("--folder", type=Path, help="where to keep the repositories and the results; else temporary")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flyte-llama-load-") as temporary:
        folder = options.folder or Path(temporary)
        start = time.perf_counter()
        made = load_corpus.write_repositories(folder / "repositories", num_files=options.files, num_mb=options.mb)
        print(f"{made}, made in {time.perf_counter() - start:.0f} s\n", flush=True)
        stages = measure_stages(folder)
    above = [stage.name for stage in stages if stage.peak_mb + stage.git_mb > options.limit_gb * 1000]
    if above:
        sys.exit(f"More than {options.limit_gb:g} GB: {', '.join(above)}.")
    print(f"\nEvery stage stayed within {options.limit_gb:g} GB.")


def measure_stages(folder: Path) -> list[Stage]:
    """Run every stage, and print its row as soon as it is done."""
    config = corpus_config(folder / "repositories")
    stages: list[Stage] = []

    def run(name: str, function: Callable[..., Any], *calls: Sequence[Any]) -> list[Any]:
        """Call the function once for each tuple of arguments, one after the other, each in a process of its own."""
        costs = [in_fresh_process_tree(timed, function, arguments) for arguments in calls]
        seconds = sum(cost.result[1] for cost in costs)
        results = [cost.result[0] for cost in costs]
        peaks = max(cost.peak_mb for cost in costs), max(cost.children_mb for cost in costs)
        stages.append(Stage(name, seconds, *peaks, sum(value for value in results if isinstance(value, int))))
        print(row(stages[-1]), flush=True)
        return results

    print("| stage | s | peak MB | git MB | documents |\n|---|---|---|---|---|", flush=True)
    (pinned,) = run("pin", pin_all, (config,))
    sources = [folder / "documents" / str(index) for index in range(len(pinned))]
    for name in ("read, cold", "read, warm"):
        calls = [(source, config, target, folder / "cache") for source, target in zip(pinned, sources, strict=True)]
        run(name, read_one, *calls)
    run("build_corpus", build, (sources, config, folder))
    run("prepare_base", prepare, (folder,))
    run("encode, clm", encode, (folder, CLM))
    run("encode, fim", encode, (folder, FIM))
    return stages


def corpus_config(repositories: Path) -> CorpusConfig:
    urls = sorted(str(path) for path in repositories.iterdir() if path.suffix == ".git")
    sides = {
        "train": [{"url": url} for url in urls if "heldout" not in url],
        "heldout": [{"url": url} for url in urls if "heldout" in url],
    }
    return CorpusConfig.model_validate(sides)


def timed(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return function(*arguments), time.perf_counter() - start


def pin_all(config: CorpusConfig) -> list[PinnedSource]:
    return pin_sources(config, released=RELEASED.isoformat())


def read_one(source: PinnedSource, config: CorpusConfig, target: Path, cache: Path) -> int:
    return write_source(source, config.documents, target, cache_folder=cache).documents.files


def build(sources: Sequence[Path], config: CorpusConfig, folder: Path) -> int:
    num_train = len(config.train_sources)
    sides = {"train": folder / "train", "heldout": folder / "heldout"}
    card = build_corpus(sources[:num_train], sources[num_train:], config, released=RELEASED, **sides)
    return card.train.documents.files + card.heldout.documents.files


def prepare(folder: Path) -> int:
    num_texts = 0

    def texts() -> Iterator[str]:
        nonlocal num_texts
        for batch in read_documents_in_batches(folder / "train"):
            num_texts += len(batch)
            yield from (document.text for document in batch)

    prepare_base(pin_model(MODEL), MODEL, texts(), longest_input=SEQ_LEN, folder=folder / "base", objective=FIM)
    return num_texts


def encode(folder: Path, objective: ObjectiveConfig) -> int:
    rows = folder / f"rows-{objective.kind}"
    texts = compose(read_documents(folder / "train"), CompositionConfig())
    origins = write_origins(rows, texts)
    run_length = RunLength(epochs=1, max_steps=-1, global_batch_size=8)
    tokenizer = DocumentTokenizer(folder / "base")
    tables = {ORIGINS_TABLE: origins}
    write_epochs(
        rows, add_keys(texts), objective, tokenizer, seq_len=SEQ_LEN, run_length=run_length, other_tables=tables
    )
    return len(texts)


def row(stage: Stage) -> str:
    return f"| {stage.name} | {stage.seconds:,.1f} | {stage.peak_mb:,.0f} | {stage.git_mb:,.0f} | {stage.documents:,} |"


if __name__ == "__main__":
    main()
