"""Speed and memory of held-out perplexity on a CPU, in one run: ours, lm-evaluation-harness, and `evaluate`.

    python benchmarks/evaluation.py [--tokens N] [--rounds N] [--contexts N …] [--metric FOLDER]

One small Llama with random weights in float32 and as many vocabulary entries as Code Llama, less its infill tokens, two
threads, the same texts: the installed flytekit's, cut to lengths that are distributed as those of the Python and
Markdown files of flytesnacks and flyte-conference-talks (`LENGTHS`), in a shuffled order. Windows of 1,024 and of 4,096
tokens (or --contexts) that share one token, as the harness has them.

- `ours`: `score_suite`, as the workflow runs it, ranks and token nats included, with room for one window a thread.
- `harness`: `loglikelihood_rolling` of lm-evaluation-harness, with each of several batch sizes.
- `evaluate`: the metric `perplexity` of the package `evaluate`, at its batch size of 16 if that fits; it cuts a text
  behind the window, so its tokens are those before it. The metric's program is no part of the package: give the folder
  `metrics/perplexity` of its repository as --metric, or it is left out.

Batches of more than `MOST_POSITIONS` are left out: both peers hold several copies of a batch's logits.

Each measurement is of a process of its own; rounds alternate, and of each side its fastest round counts. Needed beside
the project's own requirements: `pip install lm-eval evaluate`. Linux only. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from fresh_process import in_fresh_process

from flyte_llama.config import (
    DocumentsConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    ScratchConfig,
    SourceConfig,
)
from flyte_llama.documents import Document, collect
from flyte_llama.evaluation import Probe, probes_in_batches, score_suite, write_suite
from flyte_llama.model import open_model, pin_model, prepare_base
from flyte_llama.sources import open_tree, pin
from flyte_llama.tokens import DocumentTokenizer

MODEL = ModelConfig(
    name="scratch",
    scratch=ScratchConfig(
        vocab_size=32_000, hidden_size=256, num_layers=4, num_heads=8, intermediate_size=688, max_positions=4097
    ),
)
LENGTHS = (143, 259, 386, 527, 654, 814, 949, 1132, 1633, 3584)
"""Their tokens at the quantiles 0.05, 0.15 to 0.95, at 3.08 bytes a token; measured 2026-11-24."""

CONTEXTS = (1024, 4096)
BATCH_SIZES = (1, 4, 16)
THREADS = 2
MOST_POSITIONS = 16_384
"""Of a peer's batch; their logits in float32 are 2 GiB."""


class Run(NamedTuple):
    """One side on all texts."""

    num_tokens: int
    seconds: float
    """Of scoring; loading the model is left out where it can be."""

    nats: dict[int, float]
    """Text → nats, of the texts that were scored whole."""

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds


def texts_and_base(num_tokens: int, folder: Path) -> tuple[list[Document], Path]:
    """Documents of about that many tokens together, of which no two begin alike, and the base that scores them."""
    documents, base = installed("flytekit"), folder / "base"
    # flytekit alone does not have words enough for the vocabulary.
    texts = [document.text for document in documents + installed("transformers")]
    prepare_base(pin_model(MODEL), MODEL, texts, objective=ObjectiveConfig(), longest_input=4097, folder=base)
    tokenizer, rng = DocumentTokenizer(base), random.Random(0)  # noqa: S311  # no secret
    ids = tokenizer.encode_batch(["\n".join(document.text for document in documents)])[0]
    taken: list[Document] = []
    begin = 0
    while begin < min(num_tokens, len(ids)):
        end = begin + rng.choice(LENGTHS)
        text = tokenizer.decode(ids[begin:end].tolist())
        first = documents[0]
        taken.append(
            Document(
                **{name: getattr(first, name) for name in first.__slots__}
                | {"path": f"{len(taken)}.py", "start": 0, "end": len(text.encode()), "text": text}
            )
        )
        begin = end
    rng.shuffle(taken)
    return taken, base


def installed(package: str) -> list[Document]:
    source = pin(SourceConfig(url=f"package:{package}"))
    with open_tree(source) as tree:
        return collect(source, tree, DocumentsConfig()).documents


def ours(base: Path, suite: Path, context: int, out: Path) -> Run:
    import pyarrow.dataset  # noqa: F401  # else reading the first table imports it, and pandas, while the clock runs
    import torch

    torch.set_num_threads(THREADS)
    model, tokenizer = open_model(base, precision="fp32")
    config = EvaluationConfig(window=context + 1, stride=context, batch_tokens=THREADS * (context + 1))
    begin = time.perf_counter()
    batches = probes_in_batches(suite)
    score_suite(model, tokenizer, batches, config, objective=ObjectiveConfig(), precision="fp32", out=out)
    seconds = time.perf_counter() - begin
    rows = pq.read_table(out / "scores.parquet", columns=["path", "nats", "num_tokens"]).to_pylist()
    nats = {int(row["path"].removesuffix(".py")): row["nats"] for row in rows}
    return Run(sum(row["num_tokens"] for row in rows), seconds, nats)


def harness(base: Path, texts: Sequence[tuple[int, str]], context: int, batch_size: int) -> Run:
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(THREADS)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peer: Any = HFLM(
        pretrained=model,
        tokenizer=AutoTokenizer.from_pretrained(base),
        batch_size=batch_size,
        max_length=context,
        device="cpu",
    )
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for _, text in texts]
    begin = time.perf_counter()
    found = peer.loglikelihood_rolling(requests, disable_tqdm=True)
    seconds = time.perf_counter() - begin
    num_tokens = sum(len(peer.tok_encode(text)) for _, text in texts)
    return Run(num_tokens, seconds, {number: -sum_of for (number, _), sum_of in zip(texts, found, strict=True)})


def evaluate(base: Path, texts: Sequence[tuple[int, str]], context: int, batch_size: int, metric: Path) -> Run:
    import torch
    from evaluate import load
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

    torch.set_num_threads(THREADS)
    # The metric was written for transformers 4, in which special tokens were also called so.
    PreTrainedTokenizerBase.special_tokens_map_extended = property(lambda self: self.special_tokens_map)
    tokenizer = AutoTokenizer.from_pretrained(base)
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for _, text in texts]
    peer = load(str(metric))
    begin = time.perf_counter()
    AutoModelForCausalLM.from_pretrained(base)
    loading = time.perf_counter() - begin
    begin = time.perf_counter()
    found = peer.compute(
        predictions=[text for _, text in texts], model_id=str(base), max_length=context, batch_size=batch_size
    )["perplexities"]
    seconds = time.perf_counter() - begin - loading
    nats = {
        number: math.log(perplexity) * length
        for (number, _), perplexity, length in zip(texts, found, lengths, strict=True)
        if length < context
    }
    return Run(sum(min(length, context - 1) for length in lengths), seconds, nats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contexts", type=int, nargs="+", default=CONTEXTS)
    parser.add_argument("--metric", type=Path)
    arguments = parser.parse_args()
    try:
        name = f"harness {version('lm_eval')}"
    except PackageNotFoundError:
        parser.exit(2, "lm-evaluation-harness is not installed: pip install lm-eval evaluate\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        documents, base = texts_and_base(arguments.tokens, folder)
        texts = [(int(document.path.removesuffix(".py")), document.text) for document in documents]
        write_suite(folder / "suite", [Probe(document, "heldout", "clean", "fresh") for document in documents])
        write_suite(folder / "more", [Probe(document, "heldout", "clean", "fresh") for document in documents * 8])
        for context in arguments.contexts:
            found: dict[str, list[tuple[Run, float]]] = {}
            sizes = [size for size in BATCH_SIZES if size * context <= MOST_POSITIONS]
            sides: dict[str, tuple[Any, ...]] = {"ours": (ours, base, folder / "suite", context, folder / "scores")}
            sides |= {f"{name}, batch {size}": (harness, base, texts, context, size) for size in sizes}
            if arguments.metric:
                side = f"evaluate {version('evaluate')}, batch {sizes[-1]}"
                sides[side] = (evaluate, base, texts, context, sizes[-1], arguments.metric)
            for _ in range(arguments.rounds):
                for side, call in sides.items():
                    found.setdefault(side, []).append(in_fresh_process(*call))
            print(f"\n{len(texts)} texts, windows of {context:,} tokens\n\n{table(found)}")
            more, peak = in_fresh_process(ours, base, folder / "more", context, folder / "scores-more")
            print(f"\nours on 8 times as many texts: {more.num_tokens:,} tokens, {peak:,.0f} MB", flush=True)


def table(found: dict[str, list[tuple[Run, float]]]) -> str:
    fastest = {side: max(runs, key=lambda run: run[0].tokens_per_s)[0] for side, runs in found.items()}
    own = fastest["ours"]
    lines = [
        "| side | tokens/s | ours is times as fast | peak MB | nats a token | largest difference of a text, relative |",
        "|---|---|---|---|---|---|",
    ]
    for side, run in fastest.items():
        apart = max(abs(nats / own.nats[number] - 1) for number, nats in run.nats.items())
        mean = math.fsum(run.nats.values()) / math.fsum(own.nats[number] for number in run.nats)
        lines.append(
            f"| {side} | {run.tokens_per_s:,.0f} | {own.tokens_per_s / run.tokens_per_s:.2f} "
            f"| {max(peak for _, peak in found[side]):,.0f} | {mean:.7f} of ours | {apart:.1e} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
