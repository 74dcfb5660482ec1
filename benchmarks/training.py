"""Speed and memory of training on a CPU, in one run: ours, the padded recipe, and TRL's packing.

    python benchmarks/training.py [--tokens N] [--rounds N]

One small Llama with random weights, full fine-tuning in float32 with AdamW, the same documents (the installed
flytekit's, in a shuffled order), four rows or chunks of at most 4,096 tokens at once.
Each side runs in a process of its own, in turn.

- `ours`: `fine_tune` on best-fit packed rows, as the workflow runs it, through its launcher and DeepSpeed.
- `padded`: transformers' Trainer as recipes for code do it: documents cut into chunks, batches padded to their longest.
- `TRL`: SFTTrainer with `packing=True`, best-fit, documents kept apart by their positions.
- `stock`: transformers' Trainer on our rows in our order: the unoptimised run that our loss curve is held against.

Speed is of real tokens, without padding, from the end of the first step to the end of the last. TRL is needed beside
the project's own requirements: `pip install trl`. Linux only. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import training_peers as peers
from fresh_process import in_fresh_process
from training_peers import BATCH, SEQ_LEN, SETTINGS, Side

from flyte_llama.config import (
    DocumentsConfig,
    ModelConfig,
    ObjectiveConfig,
    ScratchConfig,
    SourceConfig,
    TrainingConfig,
)
from flyte_llama.documents import collect
from flyte_llama.model import pin_model, prepare_base
from flyte_llama.objective import KeyedText
from flyte_llama.packing import write_epochs
from flyte_llama.sources import open_tree, pin
from flyte_llama.tokens import DocumentTokenizer
from flyte_llama.training.launch import Job, launch

MODEL = ModelConfig(
    name="scratch",
    scratch=ScratchConfig(
        vocab_size=8192, hidden_size=256, num_layers=4, num_heads=8, intermediate_size=688, max_positions=SEQ_LEN
    ),
)


def documents(num_tokens: int, folder: Path) -> tuple[list[str], Path]:
    """The first documents of flytekit with about that many tokens, and the base they are learned by."""
    source = pin(SourceConfig(url="package:flytekit"))
    with open_tree(source) as tree:
        texts = [document.text for document in collect(source, tree, DocumentsConfig()).documents]
    base = folder / "base"
    prepare_base(pin_model(MODEL), MODEL, texts, objective=ObjectiveConfig(), longest_input=SEQ_LEN, folder=base)
    random.Random(0).shuffle(texts)  # noqa: S311  # no secret
    taken, tokens = [], 0
    for text, ids in zip(texts, DocumentTokenizer(base).encode(texts), strict=True):
        if tokens >= num_tokens:
            break
        taken.append(text)
        tokens += len(ids)
    return taken, base


def packed(base: Path, texts: list[str], folder: Path) -> Path:
    """Rows as the workflow's `encode` writes them."""
    keyed = [KeyedText(str(number), text) for number, text in enumerate(texts)]
    sizes = {"seq_len": SEQ_LEN, "epochs": 1.0, "max_steps": 0, "global_batch_size": BATCH}
    write_epochs(folder, keyed, ObjectiveConfig(), DocumentTokenizer(base), **sizes)
    return folder


def ours(base: Path, rows: Path, folder: Path) -> tuple[Side, float]:
    """What the launched process says of itself, and its peak of resident memory in MB."""
    training = TrainingConfig.model_validate(
        {
            "method": "full",
            "seq_len": SEQ_LEN,
            "learning_rate": SETTINGS["learning_rate"],
            "warmup_share": 0.0,
            "global_batch_size": BATCH,
            "micro_batch_size": BATCH,
            "precision": "fp32",
            "activation_checkpointing": False,
            "checkpoint_every_steps": 0,
            "log_every_steps": 1,
            "deepspeed": {"zero_stage": 0},
        }
    )
    points = launch(Job(base=base, rows=rows, training=training), folder).losses
    first, last = points[0], points[-1]
    given = len(points) * BATCH * SEQ_LEN
    seconds = last.wall_s - first.wall_s
    losses = [point.loss for point in points]
    side = Side(last.num_tokens - first.num_tokens, given, last.num_tokens, seconds, losses)
    return side, (last.peak_memory_bytes or 0) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=150_000, help="of the documents")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    try:
        trl = version("trl")
    except PackageNotFoundError:
        parser.exit(2, "TRL is not installed: pip install trl\n")
    found: dict[str, list[tuple[Side, float]]] = {"ours": [], "padded": [], f"TRL {trl}": [], "stock": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts, base = documents(arguments.tokens, folder)
        rows = packed(base, texts, folder / "rows")
        tokenizer = DocumentTokenizer(base)
        ids = [tokenizer.framed(one).tolist() for one in tokenizer.encode(texts)]
        for turn in range(arguments.rounds):
            found["ours"].append(ours(base, rows, folder / f"ours-{turn}"))
            found["padded"].append(in_fresh_process(peers.padded, base, texts))
            found[f"TRL {trl}"].append(in_fresh_process(peers.trl, base, ids))
            found["stock"].append(in_fresh_process(peers.stock, base, rows))
    print(table(found))
    losses = [max(found[name], key=lambda run: run[0].tokens_per_s)[0].losses for name in ("ours", "stock")]
    apart = max(abs(one - other) for one, other in zip(*losses, strict=True))
    print(f"\nloss curves of ours and stock: {len(losses[0])} steps, at most {apart:.2e} nats apart")


def table(found: dict[str, list[tuple[Side, float]]]) -> str:
    """Each side's fastest run and its largest peak, and what of ours it is."""
    fastest = {name: max(runs, key=lambda run: run[0].tokens_per_s)[0] for name, runs in found.items()}
    lines = [
        "| side | real tokens/s | ours is times as fast | padding | steps | peak MB | last loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, side in fastest.items():
        lines.append(
            f"| {name} | {side.tokens_per_s:,.0f} | {fastest['ours'].tokens_per_s / side.tokens_per_s:.2f} "
            f"| {100 * side.padding:.1f} % | {len(side.losses)} | {max(peak for _, peak in found[name]):,.0f} "
            f"| {side.losses[-1]:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
