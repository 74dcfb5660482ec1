"""Evaluation on one GPU, in CodeLlama-7B's shape with random weights: scoring and writing, ours and the usual programs.

    python benchmarks/gpu_evaluation.py [--layers N] [--documents N]

Documents have the lengths of held-out documents (`evaluation.LENGTHS`). Scoring compares `score_tokens` in bf16, in
windows of 4,096 tokens that share one token, with lm-evaluation-harness's `loglikelihood_rolling` if it is installed.
Writing compares greedy generation of 64 tokens after the first half of each document with transformers' `generate`, and
counts equal texts: in bf16 they may differ, since the shape of a batch decides some close calls. Finally, a small
model's float32 nats on the GPU are compared with those on the CPU. Without a CUDA device the program prints a message
and exits with 2; `--device cpu --layers 2 --hidden 64` runs the same code to try it. Prints Markdown tables.
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
from gpu_inputs import write_base

from flyte_llama.config import EvaluationConfig
from flyte_llama.inference.generation import generate
from flyte_llama.inference.nats import score_tokens
from flyte_llama.model import load_model, open_model, torch_dtype

CONTEXT = 4096
NEW_TOKENS = 64
BATCH = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=CONTEXT, help="minimum number of positions of the model")
    parser.add_argument("--documents", type=int, default=400)
    arguments = parser.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device found: run this on a machine with an NVIDIA GPU, or try --device cpu", file=sys.stderr)
        return 2
    ids, rng = np.random.default_rng(0), random.Random(0)  # noqa: S311  # no secret
    documents = [ids.integers(3, 300, rng.choice(LENGTHS) + 1, dtype=np.int32) for _ in range(arguments.documents)]
    with tempfile.TemporaryDirectory() as name:
        # score and write with the large model
        folder = Path(name)
        write_base(folder / "base", arguments)
        model, _ = open_model(folder / "base", precision="bf16")
        print(f"{len(documents)} documents, {sum(map(len, documents)):,} tokens\n")
        print("| side | tokens/s | speed-up of ours | peak | nats, relative |\n|---|---|---|---|---|", flush=True)
        scoring(model, documents, folder / "base")
        print("\n| side | tokens/s | speed-up of ours | peak | equal texts |\n|---|---|---|---|---|", flush=True)
        writing(model, [document[: len(document) // 2] for document in documents])
        del model

        # compare a small model's nats on the GPU and the CPU
        small = argparse.Namespace(**{**vars(arguments), "layers": 4, "hidden": 256})
        write_base(folder / "small", small)
        on_gpu, on_cpu = (float32_nats(folder / "small", device, documents) for device in (arguments.device, "cpu"))
        difference = max(abs(gpu_nats / cpu_nats - 1) for gpu_nats, cpu_nats in zip(on_gpu, on_cpu, strict=True))
        print(
            f"\nfloat32, a small model, {arguments.device} against CPU: relative difference per document at most "
            f"{difference:.1e}"
        )
    return 0


def measure(work: Callable[[], Any]) -> tuple[Any, float, str]:
    """The result, the seconds, and the peak memory of tensors on the GPU."""
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
    """Print rows of the table, with several batch sizes, to show that only the time depends on them."""
    tokens = sum(len(document) - 1 for document in documents)
    sides: dict[str, Callable[[], list[float]]] = {}
    for batch_tokens in (CONTEXT + 1, 4 * (CONTEXT + 1), 16 * (CONTEXT + 1)):
        config = EvaluationConfig(window=CONTEXT + 1, stride=CONTEXT, batch_tokens=batch_tokens)
        sides[f"ours, {batch_tokens:,} tokens a batch"] = lambda config=config: [
            scored.sum_of_nats for scored in score_tokens(model, documents, config)
        ]
    if importlib.util.find_spec("lm_eval"):
        sides |= {f"harness, batch {size}": harness(model, documents, base, size) for size in (1, 4, BATCH)}
    # The first call warms up the GPU and is not timed.
    sides[next(iter(sides))]()
    results = {side: measure(work) for side, work in sides.items()}
    reference = next(iter(results.values()))[0]
    fastest = min(seconds for side, (_, seconds, _) in results.items() if side.startswith("ours"))
    for side, (nats, seconds, peak) in results.items():
        difference = max(abs(document / expected - 1) for document, expected in zip(nats, reference, strict=True))
        mean = math.fsum(nats) / math.fsum(reference) - 1
        print(
            f"| {side} | {tokens / seconds:,.0f} | {seconds / fastest:.2f} | {peak} "
            f"| {mean:+.1e}, a document at most {difference:.1e} |",
            flush=True,
        )


def harness(model: Any, documents: list[np.ndarray], base: Path, batch_size: int) -> Callable[[], list[float]]:
    """lm-evaluation-harness, given token ids: random ids would not survive decoding and encoding again."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    peer: Any = HFLM(
        pretrained=model, tokenizer=AutoTokenizer.from_pretrained(base), batch_size=batch_size, max_length=CONTEXT
    )
    peer.tok_encode = lambda text, **_: documents[int(text)][1:].tolist()
    # The first id of a document is only context. The harness uses a fixed prefix token, so give both sides that one.
    starts = {int(document[0]) for document in documents}
    requests = [Instance("loglikelihood_rolling", {}, (str(index),), 0) for index in range(len(documents))]
    if starts != {peer.prefix_token_id}:
        for document in documents:
            document[0] = peer.prefix_token_id
    return lambda: [-nats for nats in peer.loglikelihood_rolling(requests, disable_tqdm=True)]


def writing(model: Any, prompts: list[np.ndarray]) -> None:
    """Print rows of the table. Both sides batch prompts of similar length, and no prompt ends early."""
    import torch

    longest = max(map(len, prompts)) + NEW_TOKENS

    def ours() -> list[list[int]]:
        generated = generate(
            model,
            prompts,
            max_new_tokens=NEW_TOKENS,
            stop_ids=(),
            batch_tokens=BATCH * longest,
            what="writing",
        )
        return [output.ids for output in generated]

    def peer() -> list[list[int]]:
        by_index: dict[int, list[int]] = {}
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        for begin in range(0, len(order), BATCH):
            batch = order[begin : begin + BATCH]
            # pad on the left, to the longest prompt of the batch
            width = len(prompts[batch[0]])
            ids = torch.zeros(len(batch), width, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, index in enumerate(batch):
                ids[row, width - len(prompts[index]) :] = torch.from_numpy(prompts[index].astype(np.int64))
                mask[row, width - len(prompts[index]) :] = 1
            written = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=0,
            )
            by_index |= {index: written[row, width:].tolist() for row, index in enumerate(batch)}
        return [by_index[index] for index in range(len(prompts))]

    our_run = measure(ours)
    with torch.inference_mode():
        peer_run = measure(peer)
    num_equal = sum(our_ids == peer_ids for our_ids, peer_ids in zip(our_run[0], peer_run[0], strict=True))
    tokens = NEW_TOKENS * len(prompts)
    for side, (_, seconds, peak) in {"ours": our_run, f"generate, batch {BATCH}": peer_run}.items():
        ratio = seconds / our_run[1]
        print(
            f"| {side} | {tokens / seconds:,.0f} | {ratio:.2f} | {peak} | {num_equal} of {len(prompts)} |", flush=True
        )


def float32_nats(base: Path, device: str, documents: list[np.ndarray]) -> list[float]:
    """The nats of each document, scored in float32 on a device."""
    model: Any = load_model(base, dtype=torch_dtype("fp32"))
    config = EvaluationConfig(window=1024, stride=512, batch_tokens=8192)
    return [scored.sum_of_nats for scored in score_tokens(model.to(device), documents, config)]


if __name__ == "__main__":
    sys.exit(main())
