"""Experiments that the shipped defaults rest on: one small pretrained base, trained in many ways on one corpus.

    python benchmarks/experiments.py --base FOLDER --train DOCS --heldout DOCS --items ITEMS --out FOLDER
        [--only NAME …] [--seeds 2] [--jobs 4] [--minutes M] [--documents N] [--seq-len 4096] [--batch 32]
        [--learning-rate 5e-4] [--cases 200] [--probe-bytes N] [--precision bf16]
    python benchmarks/experiments.py --out FOLDER --items ITEMS --page

`--base` is a model in the hub's format; the others are folders that a workflow leaves in `output/data` (train-…,
heldout-…, items-…). Each experiment changes one thing of the reference: full fine-tuning for one epoch, objective `fim`
at a rate of 0.5. LoRA is tried at 2 and 4 times the reference's learning rate. A run encodes the documents, trains by
the package's launcher, and is measured as a workflow measures: held-out text, general code, completions, and
FlyteEval's items if there are any.

`--jobs` runs share one GPU: a small model cannot fill it alone. The most wanted experiments come first; once a run
ended, one that would probably not end within `--minutes` is skipped. Each run is printed as soon as it is known, and
kept in `--out`, so that the same command adds what is missing. `--page` prints the table of all runs in `--out`; it
first grades the answers to FlyteEval, which needs flytekit and the sandbox, but no GPU.

`--documents 40 --seq-len 256 --batch 4 --cases 40 --probe-bytes 30000` is for a CPU. The table is Markdown on standard
output.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from experiments_runs import (
    ANSWERS,
    EXPERIMENTS,
    GROUPS,
    Amounts,
    Experiment,
    Run,
    do_run,
    measure_base,
)
from experiments_table import BASE, FACTS, page, read_figures, row_text
from fresh_process import in_fresh_process

from flyte_llama.config import DocumentsConfig, EvaluationConfig, ModelConfig
from flyte_llama.config.corpus import LeakageConfig
from flyte_llama.documents import Document, draw, open_documents, write_documents
from flyte_llama.evaluation.measure import make_suite
from flyte_llama.flyte_eval import write_items
from flyte_llama.model import pin_model, prepare_base


def prepare(arguments: argparse.Namespace, amounts: Amounts, work: Path) -> None:
    """Prepare the base for each objective, and write the documents and the suite that all runs share."""
    model = ModelConfig(name=str(arguments.base.resolve()))
    pinned = pin_model(model)
    for experiment in [Experiment(), EXPERIMENTS["clm"]]:
        folder, objective = work / experiment.base_name, experiment.objective
        prepare_base(pinned, model, [], longest_input=arguments.seq_len, folder=folder, objective=objective)
    for side in ("train", "heldout"):
        documents, _ = open_documents(getattr(arguments, side))
        write_documents(work / side, sample(documents, arguments.documents))
    items = arguments.items or work / "items"
    if arguments.items is None:
        write_items(items, [], dropped={}, source="none")
    evaluation = EvaluationConfig(probe_bytes=amounts.probe_bytes, completion=amounts.completion, flyte_eval=ANSWERS)
    words = LeakageConfig().num_words
    make_suite(work / "heldout", None, items, evaluation, DocumentsConfig(), leak_words=words, shards=[work / "suite"])


def sample(documents: Sequence[Document], count: int | None) -> list[Document]:
    """A random but fixed sample in the order given; all if `count` is None."""
    chosen = {document.id for document in sorted(documents, key=lambda each: draw(*each.id))[:count]}
    return [document for document in documents if document.id in chosen]


def wanted(arguments: argparse.Namespace, amounts: Amounts, work: Path) -> Iterator[Run]:
    """The base, then the chosen experiments, each with all seeds."""
    names = ("jobs", "seq_len", "batch", "learning_rate", "precision", "out")
    shared: dict[str, Any] = {name: getattr(arguments, name) for name in names} | {"amounts": amounts, "work": work}
    yield Run(name=BASE, seed=0, **shared)
    for group in GROUPS:
        for seed in range(arguments.seeds):
            for name in group:
                if not arguments.only or name in arguments.only:
                    yield Run(name=name, seed=seed, **shared)


class Pace:
    """How long the next run will probably take, by those that have ended."""

    def __init__(self) -> None:
        self._runs: list[tuple[float, float]] = []

    def note(self, run: Run) -> None:
        facts = json.loads((run.folder / FACTS).read_text(encoding="utf-8"))
        if "seconds" in facts:
            epochs = facts["training"]["epochs"]
            self._runs.append((sum(facts["seconds"]) - facts["train_s"], facts["train_s"] / epochs))

    def seconds(self, run: Run) -> float:
        """Return 0 until a run has ended; then the mean time without the steps, plus the mean time of each epoch."""
        if not self._runs:
            return 0.0
        beside_s, epoch_s = np.mean(self._runs, axis=0)
        return float(beside_s + run.training.epochs * epoch_s)


def do_all(runs: list[Run], *, jobs: int, minutes: float) -> None:
    """Start the runs in order, `jobs` at a time, and print the row of each as it ends."""
    begin, pace, running = time.monotonic(), Pace(), dict[Future[Any], Run]()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    print(page([]), flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        while runs or running:
            while runs and len(running) < jobs:
                run = runs.pop(0)
                left_s = minutes * 60 - (time.monotonic() - begin)
                if run.is_done:
                    pace.note(run)
                    print(row_text(read_figures(run.folder, run.out / f"{BASE}-0")), flush=True)
                elif left_s < pace.seconds(run):
                    print(f"skipped: {run.name}, seed {run.seed}: {left_s:.0f} s are left", file=sys.stderr, flush=True)
                else:
                    function = measure_base if run.name == BASE else do_run
                    running[pool.submit(in_fresh_process, function, run)] = run
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(future)
                if error := future.exception():
                    print(f"failed: {run.name}, seed {run.seed}: {error}", file=sys.stderr, flush=True)
                    continue
                pace.note(run)
                print(row_text(read_figures(run.folder, run.out / f"{BASE}-0")), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("base", "train", "heldout", "items"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(EXPERIMENTS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--documents", type=int, help="sample of each side; all by default")
    parser.add_argument("--seq-len", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=32, help="rows in an optimizer step")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="of the reference")
    parser.add_argument("--cases", type=int, default=200, help="lines to complete; see Amounts for the rest")
    parser.add_argument("--probe-bytes", type=int, default=300_000, help="of general code")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--page", action="store_true", help="print the table of the results in --out, and stop")
    arguments = parser.parse_args()
    if not arguments.page:
        if missing := [name for name in ("base", "train", "heldout") if getattr(arguments, name) is None]:
            parser.error(f"needs --{', --'.join(missing)}")
        arguments.out.mkdir(parents=True, exist_ok=True)
        work = arguments.out / "work"
        shutil.rmtree(work, ignore_errors=True)
        amounts = Amounts(arguments.cases, arguments.probe_bytes)
        prepare(arguments, amounts, work)
        do_all(list(wanted(arguments, amounts, work)), jobs=arguments.jobs, minutes=arguments.minutes)
        shutil.rmtree(work)
        return
    order = list(EXPERIMENTS)
    folders = [path.parent for path in arguments.out.glob(f"*/{FACTS}")]
    rows = [read_figures(folder, arguments.out / f"{BASE}-0", items=arguments.items) for folder in folders]
    rows.sort(key=lambda row: (order.index(row["name"]) if row["name"] in order else -1, row["seed"]))
    (arguments.out / "figures.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(page(rows))


if __name__ == "__main__":
    main()
