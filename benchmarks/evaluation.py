"""Speed and memory of held-out perplexity on a CPU: ours, lm-evaluation-harness and `evaluate` in the same run.

    python benchmarks/evaluation.py [--tokens N] [--rounds N] [--contexts N …] [--metric FOLDER]

All sides score the same texts by a small random Llama in float32 with two threads. Its vocabulary is as large as Code
Llama's without the infill tokens. The texts are flytekit's, cut to the lengths of Python and Markdown files in
flytesnacks and flyte-conference-talks (`LENGTHS`), and shuffled. Windows of 1,024 and of 4,096 tokens (or --contexts)
share one token, as in the harness.

- `ours`: `score_suite` as in the workflow, with ranks and token nats, and room for one window per thread.
- `harness`: `loglikelihood_rolling` of lm-evaluation-harness, with several batch sizes.
- `evaluate`: the metric `perplexity` of the package `evaluate`, with its batch size of 16 if that fits. It truncates
  each text to one window, and only the tokens of that window count. The package does not include the metric's program:
  pass the folder `metrics/perplexity` of its repository as --metric, or this side is left out.

Batches of more than `MAX_POSITIONS` are left out, since both peers hold several copies of a batch's logits.

Each measurement runs in a new process; rounds alternate, and each side's fastest round counts. Needs `pip install
lm-eval evaluate` in addition to the project's requirements. Linux only. Prints Markdown tables.
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

from flyte_llama.config import DocumentsConfig, EvaluationConfig, ModelConfig, ObjectiveConfig, SourceConfig
from flyte_llama.config.model import ScratchConfig
from flyte_llama.documents import Document, read_source
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.evaluation.scoring import score_suite
from flyte_llama.evaluation.suite import SuiteDocument, read_suite_in_batches, write_suite
from flyte_llama.model import open_model, pin_model, prepare_base
from flyte_llama.sources import pin

MODEL = ModelConfig(
    name="scratch",
    scratch=ScratchConfig(
        vocab_size=32_000, hidden_size=256, num_layers=4, num_heads=8, intermediate_size=688, max_positions=4097
    ),
)
LENGTHS = (143, 259, 386, 527, 654, 814, 949, 1132, 1633, 3584)
"""Tokens per file at the quantiles 0.05, 0.15, …, 0.95, at 3.08 bytes per token; measured 2026-11-24."""

CONTEXTS = (1024, 4096)
BATCH_SIZES = (1, 4, 16)
THREADS = 2
MAX_POSITIONS = 16_384
"""Positions in a peer's batch; their logits in float32 take 2 GiB."""


class Run(NamedTuple):
    """The cost of one side on all texts, and the nats it found."""

    num_tokens: int
    seconds: float
    """Seconds of scoring, without loading the model."""

    nats: dict[int, float]
    """Text number → nats, for the texts that were scored completely."""

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds


def texts_and_base(num_tokens: int, folder: Path) -> tuple[list[Document], Path]:
    """Documents with about this many tokens in total, none sharing a prefix, and the base model that scores them."""
    documents, base = read_package("flytekit"), folder / "base"
    # flytekit alone has too few distinct words for the vocabulary.
    texts = [document.text for document in documents + read_package("transformers")]
    prepare_base(pin_model(MODEL), MODEL, texts, objective=ObjectiveConfig(), longest_input=4097, folder=base)
    tokenizer, rng = DocumentTokenizer(base), random.Random(0)  # noqa: S311  # no secret
    ids = tokenizer.encode_batch(["\n".join(document.text for document in documents)])[0]
    # cut one long text into documents with lengths drawn from LENGTHS
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


def read_package(package: str) -> list[Document]:
    return read_source(pin(SourceConfig(url=f"package:{package}")), DocumentsConfig()).documents


def ours(base: Path, suite: Path, context: int, out: Path) -> Run:
    import pyarrow.dataset  # noqa: F401  # import it, and pandas, before the clock starts
    import torch

    torch.set_num_threads(THREADS)
    model, tokenizer = open_model(base, precision="fp32")
    config = EvaluationConfig(window=context + 1, stride=context, batch_tokens=THREADS * (context + 1))
    begin = time.perf_counter()
    batches = read_suite_in_batches(suite)
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
    log_likelihoods = peer.loglikelihood_rolling(requests, disable_tqdm=True)
    seconds = time.perf_counter() - begin
    num_tokens = sum(len(peer.tok_encode(text)) for _, text in texts)
    return Run(num_tokens, seconds, {index: -nats for (index, _), nats in zip(texts, log_likelihoods, strict=True)})


def evaluate(base: Path, texts: Sequence[tuple[int, str]], context: int, batch_size: int, metric: Path) -> Run:
    import torch
    from evaluate import load
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

    torch.set_num_threads(THREADS)
    # The metric was written for transformers 4 and reads this property, which transformers 5 lacks.
    PreTrainedTokenizerBase.special_tokens_map_extended = property(lambda self: self.special_tokens_map)
    tokenizer = AutoTokenizer.from_pretrained(base)
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for _, text in texts]
    peer = load(str(metric))
    # The metric loads the model itself: measure a load, and subtract it from the total.
    begin = time.perf_counter()
    AutoModelForCausalLM.from_pretrained(base)
    loading = time.perf_counter() - begin
    begin = time.perf_counter()
    perplexities = peer.compute(
        predictions=[text for _, text in texts], model_id=str(base), max_length=context, batch_size=batch_size
    )["perplexities"]
    seconds = time.perf_counter() - begin - loading
    nats = {
        index: math.log(perplexity) * length
        for (index, _), perplexity, length in zip(texts, perplexities, lengths, strict=True)
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
        write_suite(folder / "suite", [SuiteDocument(document, "heldout", "clean", "fresh") for document in documents])
        write_suite(
            folder / "more", [SuiteDocument(document, "heldout", "clean", "fresh") for document in documents * 8]
        )
        for context in arguments.contexts:
            # every side with each batch size that fits, in alternating rounds
            results: dict[str, list[tuple[Run, float]]] = {}
            sizes = [size for size in BATCH_SIZES if size * context <= MAX_POSITIONS]
            sides: dict[str, tuple[Any, ...]] = {"ours": (ours, base, folder / "suite", context, folder / "scores")}
            sides |= {f"{name}, batch {size}": (harness, base, texts, context, size) for size in sizes}
            if arguments.metric:
                side = f"evaluate {version('evaluate')}, batch {sizes[-1]}"
                sides[side] = (evaluate, base, texts, context, sizes[-1], arguments.metric)
            for _ in range(arguments.rounds):
                for side, call in sides.items():
                    results.setdefault(side, []).append(in_fresh_process(*call))
            print(f"\n{len(texts)} texts, windows of {context:,} tokens\n\n{table(results)}")

            # our memory should hardly grow with the number of texts
            more, peak = in_fresh_process(ours, base, folder / "more", context, folder / "scores-more")
            print(f"\nours on 8 times as many texts: {more.num_tokens:,} tokens, {peak:,.0f} MB", flush=True)


def table(results: dict[str, list[tuple[Run, float]]]) -> str:
    """Each side's fastest run and largest peak, and the difference of its nats from ours."""
    fastest = {side: max(runs, key=lambda run: run[0].tokens_per_s)[0] for side, runs in results.items()}
    our_run = fastest["ours"]
    lines = [
        "| side | tokens/s | speed-up of ours | peak MB | nats / our nats | largest relative difference of a text |",
        "|---|---|---|---|---|---|",
    ]
    for side, run in fastest.items():
        difference = max(abs(nats / our_run.nats[index] - 1) for index, nats in run.nats.items())
        ratio = math.fsum(run.nats.values()) / math.fsum(our_run.nats[index] for index in run.nats)
        lines.append(
            f"| {side} | {run.tokens_per_s:,.0f} | {our_run.tokens_per_s / run.tokens_per_s:.2f} "
            f"| {max(peak for _, peak in results[side]):,.0f} | {ratio:.7f} | {difference:.1e} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
