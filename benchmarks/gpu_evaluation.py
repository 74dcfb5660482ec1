"""Measuring on one GPU, in CodeLlama-7B's shape with random weights: scoring and writing, beside the usual programs.

    python benchmarks/gpu_evaluation.py [--layers N] [--documents N]

Documents have the lengths of held-out ones (`evaluation.LENGTHS`). `scoring` is `score_tokens` in windows of 4,096 that
share one token, in bf16, against lm-evaluation-harness's `loglikelihood_rolling` where it is installed, both in batches
that fill the GPU alike; `writing` is 64 tokens behind each of the documents' first halves, greedily, against
transformers' own `generate`. Texts that both sides wrote alike are counted: in bf16 a batch's shape tips some balances.
Last, a small model's float32 nats on the GPU are held against the CPU's. Without a CUDA device it says so and ends with
2; `--device cpu --layers 2 --hidden 64` runs the same code to try it. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from evaluation import LENGTHS
from gpu import write_base

from flyte_llama.config import EvaluationConfig
from flyte_llama.evaluation import score_tokens
from flyte_llama.generation import generate
from flyte_llama.model import load_model, open_model, torch_dtype

CONTEXT = 4096
NEW_TOKENS = 64
BATCH = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=CONTEXT, help="positions of the model at least")
    parser.add_argument("--documents", type=int, default=400)
    arguments = parser.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device is here, so there is nothing to measure", file=sys.stderr)
        return 2
    ids, rng = np.random.default_rng(0), random.Random(0)  # noqa: S311  # no secret
    documents = [ids.integers(3, 300, rng.choice(LENGTHS) + 1, dtype=np.int32) for _ in range(arguments.documents)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_base(folder / "base", arguments)
        model, _ = open_model(folder / "base", precision="bf16")
        print(f"{len(documents)} documents, {sum(map(len, documents)):,} tokens\n")
        print("| side | tokens/s | ours is times as fast | peak | nats, relative |\n|---|---|---|---|---|", flush=True)
        scoring(model, documents, folder / "base")
        print(
            "\n| side | tokens/s | ours is times as fast | peak | the same texts |\n|---|---|---|---|---|", flush=True
        )
        writing(model, [document[: len(document) // 2] for document in documents])
        del model
        small = argparse.Namespace(**{**vars(arguments), "layers": 4, "hidden": 256})
        write_base(folder / "small", small)
        on_gpu, on_cpu = (in_float32(folder / "small", device, documents) for device in (arguments.device, "cpu"))
        apart = max(abs(one / other - 1) for one, other in zip(on_gpu, on_cpu, strict=True))
        print(
            f"\nfloat32, a small model, {arguments.device} against CPU: at most {apart:.1e} relative apart a document"
        )
    return 0


def measured(work: Callable[[], Any]) -> tuple[Any, float, str]:
    """The result, seconds, and the most memory that tensors took on the GPU."""
    import torch

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    result = work()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    return result, seconds, f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if on_gpu else "not measured"


def scoring(model: Any, documents: list[np.ndarray], base: Path) -> None:
    """Rows of the table; several sizes of batch, to see that they change nothing but time."""
    tokens = sum(len(document) - 1 for document in documents)
    sides: dict[str, Callable[[], list[float]]] = {}
    for batch_tokens in (CONTEXT + 1, 4 * (CONTEXT + 1), 16 * (CONTEXT + 1)):
        config = EvaluationConfig(window=CONTEXT + 1, stride=CONTEXT, batch_tokens=batch_tokens)
        sides[f"ours, {batch_tokens:,} tokens a batch"] = lambda config=config: [
            scored.sum_of_nats for scored in score_tokens(model, documents, config)
        ]
    if importlib.util.find_spec("lm_eval"):
        sides |= {f"harness, batch {size}": harness(model, documents, base, size) for size in (1, 4, BATCH)}
    sides[next(iter(sides))]()
    found = {side: measured(work) for side, work in sides.items()}
    reference = next(iter(found.values()))[0]
    fastest = min(seconds for side, (_, seconds, _) in found.items() if side.startswith("ours"))
    for side, (nats, seconds, peak) in found.items():
        apart = max(abs(one / other - 1) for one, other in zip(nats, reference, strict=True))
        mean = math.fsum(nats) / math.fsum(reference) - 1
        print(
            f"| {side} | {tokens / seconds:,.0f} | {seconds / fastest:.2f} | {peak} "
            f"| {mean:+.1e}, a document at most {apart:.1e} |",
            flush=True,
        )


def harness(model: Any, documents: list[np.ndarray], base: Path, batch_size: int) -> Callable[[], list[float]]:
    """lm-evaluation-harness, given the ids instead of texts: its tokenizer would make others of them."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    peer: Any = HFLM(
        pretrained=model, tokenizer=AutoTokenizer.from_pretrained(base), batch_size=batch_size, max_length=CONTEXT
    )
    peer.tok_encode = lambda text, **_: documents[int(text)][1:].tolist()
    # Of the documents the first id only starts them; the harness starts each with one of its own.
    starts = {int(document[0]) for document in documents}
    requests = [Instance("loglikelihood_rolling", {}, (str(number),), 0) for number in range(len(documents))]
    if starts != {peer.prefix_token_id}:
        for document in documents:
            document[0] = peer.prefix_token_id
    return lambda: [-nats for nats in peer.loglikelihood_rolling(requests, disable_tqdm=True)]


def writing(model: Any, prompts: list[np.ndarray]) -> None:
    """Rows of the table; both sides in batches of prompts of like length, nothing ends a row early."""
    import torch

    longest = max(map(len, prompts)) + NEW_TOKENS

    def ours() -> list[list[int]]:
        found = generate(
            model,
            prompts,
            max_new_tokens=NEW_TOKENS,
            stop_ids=(),
            batch_tokens=BATCH * longest,
            what="writing",
        )
        return [each.ids for each in found]

    def peer() -> list[list[int]]:
        found: dict[int, list[int]] = {}
        order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
        for begin in range(0, len(order), BATCH):
            batch = order[begin : begin + BATCH]
            width = len(prompts[batch[0]])
            ids = torch.zeros(len(batch), width, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, number in enumerate(batch):
                ids[row, width - len(prompts[number]) :] = torch.from_numpy(prompts[number].astype(np.int64))
                mask[row, width - len(prompts[number]) :] = 1
            written = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=0,
            )
            found |= {number: written[row, width:].tolist() for row, number in enumerate(batch)}
        return [found[number] for number in range(len(prompts))]

    own = measured(ours)
    with torch.inference_mode():
        usual = measured(peer)
    same = sum(one == other for one, other in zip(own[0], usual[0], strict=True))
    tokens = NEW_TOKENS * len(prompts)
    for side, (_, seconds, peak) in {"ours": own, f"generate, batch {BATCH}": usual}.items():
        ratio = seconds / own[1]
        print(f"| {side} | {tokens / seconds:,.0f} | {ratio:.2f} | {peak} | {same} of {len(prompts)} |", flush=True)


def in_float32(base: Path, device: str, documents: list[np.ndarray]) -> list[float]:
    model: Any = load_model(base, dtype=torch_dtype("fp32"))
    config = EvaluationConfig(window=1024, stride=512, batch_tokens=8192)
    return [scored.sum_of_nats for scored in score_tokens(model.to(device), documents, config)]


if __name__ == "__main__":
    sys.exit(main())
