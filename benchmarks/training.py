"""Speed and memory of training on a CPU: ours, the padded recipe and TRL's packing in the same run.

    python benchmarks/training.py [--tokens N] [--rounds N]

All sides fine-tune all weights of a small random Llama in float32 with AdamW, on the same shuffled documents of the
installed flytekit, with four rows or chunks of at most 4,096 tokens per batch. Each side runs in a new process.

- `ours`: `fine_tune` on best-fit packed rows, as the workflow runs it, through its launcher and DeepSpeed.
- `padded`: transformers' Trainer as in common recipes: documents cut into chunks, batches padded to the longest chunk.
- `TRL`: SFTTrainer with `packing=True` (best-fit), which keeps documents apart by their position ids.
- `stock`: transformers' Trainer on our rows in our order, an unoptimised run to compare our loss curve with.

Speed counts real tokens, without padding, from the end of the first step to the end of the last. Needs `pip install
trl` in addition to the project's requirements. Linux only. Prints Markdown tables.
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

from flyte_llama.config import DocumentsConfig, ModelConfig, ObjectiveConfig, RunLength, SourceConfig, TrainingConfig
from flyte_llama.config.model import ScratchConfig
from flyte_llama.documents import read_source
from flyte_llama.encoding import DocumentTokenizer, write_epochs
from flyte_llama.encoding.pieces import KeyedText
from flyte_llama.model import pin_model, prepare_base
from flyte_llama.sources import pin
from flyte_llama.training.launch import TrainingJob, launch_training

MODEL = ModelConfig(
    name="scratch",
    scratch=ScratchConfig(
        vocab_size=8192, hidden_size=256, num_layers=4, num_heads=8, intermediate_size=688, max_positions=SEQ_LEN
    ),
)


def documents(num_tokens: int, folder: Path) -> tuple[list[str], Path]:
    """Shuffled documents of flytekit with about this many tokens, and the base model that learns them."""
    source = read_source(pin(SourceConfig(url="package:flytekit")), DocumentsConfig())
    texts = [document.text for document in source.documents]
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


def pack_rows(base: Path, texts: list[str], folder: Path) -> Path:
    """Write packed rows as the workflow's task `encode` does."""
    keyed = [KeyedText(str(index), text) for index, text in enumerate(texts)]
    one_epoch = RunLength(epochs=1.0, max_steps=0, global_batch_size=BATCH)
    write_epochs(folder, keyed, ObjectiveConfig(), DocumentTokenizer(base), seq_len=SEQ_LEN, run_length=one_epoch)
    return folder


def ours(base: Path, rows: Path, folder: Path) -> tuple[Side, float]:
    """The cost that the launched process logged, and its peak of resident memory in MB."""
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
    points = launch_training(TrainingJob(base=base, rows=rows, training=training), folder).losses
    first, last = points[0], points[-1]
    padded_tokens = len(points) * BATCH * SEQ_LEN
    seconds = last.wall_s - first.wall_s
    losses = [point.loss for point in points]
    side = Side(last.num_tokens - first.num_tokens, padded_tokens, last.num_tokens, seconds, losses)
    return side, (last.peak_memory_bytes or 0) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=150_000, help="total tokens of the documents")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    try:
        trl = version("trl")
    except PackageNotFoundError:
        parser.exit(2, "TRL is not installed: pip install trl\n")
    results: dict[str, list[tuple[Side, float]]] = {"ours": [], "padded": [], f"TRL {trl}": [], "stock": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts, base = documents(arguments.tokens, folder)
        rows = pack_rows(base, texts, folder / "rows")
        tokenizer = DocumentTokenizer(base)
        ids = [tokenizer.add_bos_eos(document).tolist() for document in tokenizer.encode(texts)]
        for round_index in range(arguments.rounds):
            results["ours"].append(ours(base, rows, folder / f"ours-{round_index}"))
            results["padded"].append(in_fresh_process(peers.train_padded, base, texts))
            results[f"TRL {trl}"].append(in_fresh_process(peers.train_trl, base, ids))
            results["stock"].append(in_fresh_process(peers.train_stock, base, rows))
    print(table(results))
    losses = [max(results[name], key=lambda run: run[0].tokens_per_s)[0].losses for name in ("ours", "stock")]
    difference = max(abs(our_loss - stock_loss) for our_loss, stock_loss in zip(*losses, strict=True))
    print(f"\nloss curves of ours and stock: {len(losses[0])} steps, at most {difference:.2e} nats apart")


def table(results: dict[str, list[tuple[Side, float]]]) -> str:
    """Each side's fastest run and largest peak, and how many times as fast ours is."""
    fastest = {name: max(runs, key=lambda run: run[0].tokens_per_s)[0] for name, runs in results.items()}
    lines = [
        "| side | real tokens/s | speed-up of ours | padding | steps | peak MB | last loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, side in fastest.items():
        lines.append(
            f"| {name} | {side.tokens_per_s:,.0f} | {fastest['ours'].tokens_per_s / side.tokens_per_s:.2f} "
            f"| {100 * side.padding:.1f} % | {len(side.losses)} | {max(peak for _, peak in results[name]):,.0f} "
            f"| {side.losses[-1]:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
