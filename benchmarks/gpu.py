"""Training on one GPU: tokens/s, MFU and peak memory against the plan, in CodeLlama-7B's shape with random weights.

    python benchmarks/gpu.py [--layers N] [--steps N] [--methods lora full qlora] [--attention auto sdpa …] [--peers]

Needs no network and at most ten minutes. Without a CUDA device it prints a message and exits with 2. Measures LoRA and
full fine-tuning at 4,096 tokens by `flyte_llama.training`, with each attention kernel and, with `--liger`, also with
Liger's kernels. Figures come from the logged loss curve without its first steps; no model is written. `--peers` adds
the stock Trainer and, if installed, TRL's SFTTrainer on identical rows. Prints a Markdown table.

`--device cpu --layers 2 --hidden 64 --tokens 128` runs the same code on a small shape, to try it. There, no peak FLOPs
are known, and memory is the resident memory of the process, without a planned figure.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from flyte_llama.config import TrainingConfig
from flyte_llama.encoding import open_rows, train_tokenizer
from flyte_llama.encoding.objectives import clm
from flyte_llama.encoding.packing import pack
from flyte_llama.encoding.rows import RowsWriter
from flyte_llama.errors import TrainingError
from flyte_llama.plan import Throughput, corpus_flops, recognise
from flyte_llama.plan.memory import estimate_memory
from flyte_llama.plan.shape import read_shape
from flyte_llama.training.launch import TrainingJob, launch_training

ROWS_A_STEP = 4
WARM_UP_STEPS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a row")
    parser.add_argument("--steps", type=int, default=10, help="number of timed optimizer steps")
    parser.add_argument("--methods", nargs="+", default=["lora", "full"], choices=("lora", "full", "qlora"))
    parser.add_argument(
        "--attention", nargs="+", default=["auto"], help="attention kernels, values of `training.attention`"
    )
    parser.add_argument("--liger", action="store_true", help="measure again with Liger's kernels")
    parser.add_argument("--peers", action="store_true")
    arguments = parser.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device found: run this on a machine with an NVIDIA GPU, or try --device cpu", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_base(folder / "base", arguments)
        write_random_rows(folder / "rows", arguments)
        print("| who | method | tokens/s | MFU | peak | planned peak | ratio |\n|---|---|---|---|---|---|---|")
        for method in arguments.methods:
            for attention in arguments.attention:
                for liger in (False, True)[: 1 + arguments.liger]:
                    ours(folder, training(method, arguments, attention=attention, liger=liger), arguments)
            for peer in peers(arguments) if method != "qlora" else ():
                config = training(method, arguments)
                report(peer, config, folder, arguments, run_peer(peer, folder, config, arguments))
    return 0


def peers(arguments: argparse.Namespace) -> list[str]:
    """The names of the peers to measure."""
    names = ["Trainer", "SFTTrainer"] if importlib.util.find_spec("trl") else ["Trainer"]
    return names if arguments.peers else []


def training(method: str, arguments: argparse.Namespace, **kernels: Any) -> TrainingConfig:
    return TrainingConfig(
        **kernels,
        method=method,
        seq_len=arguments.tokens,
        max_steps=WARM_UP_STEPS + arguments.steps,
        log_every_steps=1,
        global_batch_size=ROWS_A_STEP,
        micro_batch_size=1,
        learning_rate=1e-5,
        deepspeed={"zero_stage": 0 if method == "full" else 2},
        checkpoint_every_steps=0,
    )


def write_base(base: Path, arguments: argparse.Namespace) -> None:
    """Write a model with random bf16 weights, made on the device, and a minimal tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    is_small = arguments.hidden < 4096
    config = LlamaConfig(
        vocab_size=512 if is_small else 32016,
        hidden_size=arguments.hidden,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.hidden // (16 if is_small else 128),
        intermediate_size=arguments.hidden * 11008 // 4096,
        max_position_embeddings=max(16384, arguments.tokens),
        bos_token_id=1,
        eos_token_id=2,
    )
    base.mkdir()
    train_tokenizer(["def add(a, b):\n    return a + b\n"], vocab_size=300, max_positions=16384, folder=base)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(arguments.device):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(base)
    torch.set_default_dtype(default)
    if arguments.device == "cuda":
        torch.cuda.empty_cache()


def write_random_rows(folder: Path, arguments: argparse.Namespace) -> None:
    """Write packed rows of random documents of 32 to 4,096 tokens, with log-uniform lengths."""
    rng, ids = random.Random(0), np.random.default_rng(0)  # noqa: S311  # no secret
    num_tokens = arguments.tokens * ROWS_A_STEP * (WARM_UP_STEPS + arguments.steps)
    pieces, tokens = [], 0
    while tokens < num_tokens:
        document = ids.integers(3, 300, round(32 * 128 ** rng.random()), dtype=np.int32)
        pieces.append(clm(document, seq_len=arguments.tokens))
        tokens += len(document)
    with RowsWriter(folder, seq_len=arguments.tokens, objective="clm") as writer:
        writer.write_epoch(pack(pieces, seq_len=arguments.tokens, pad_id=0))


def ours(folder: Path, config: TrainingConfig, arguments: argparse.Namespace) -> None:
    """Measure our training after the warm-up, from its logged curve. A kernel that fails gives a row with the error."""
    side = f"flyte_llama, {config.attention}{', liger' if config.liger else ''}"
    with tempfile.TemporaryDirectory(dir=folder) as name:
        job = TrainingJob(base=folder / "base", rows=folder / "rows", training=config)
        try:
            with visible_devices(arguments):
                summary = launch_training(job, Path(name))
        except TrainingError as error:
            message = (str(error).strip().splitlines() or ["failed"])[-1]
            print(f"| {side} | {config.method} | {message[:200]} | - | - | - | - |", flush=True)
            return
    first, last = summary.losses[WARM_UP_STEPS - 1], summary.losses[-1]
    measured = {
        "seconds": last.wall_s - first.wall_s,
        "peak_bytes": last.peak_memory_bytes or 0,
        "device": summary.device,
    }
    report(side, config, folder, arguments, measured)


@contextmanager
def visible_devices(arguments: argparse.Namespace) -> Iterator[None]:
    """Let programs started inside this context see one GPU, or none with `--device cpu`."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if arguments.device == "cpu" else "0"
    try:
        yield
    finally:
        os.environ.pop("CUDA_VISIBLE_DEVICES")
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def report(
    side: str, config: TrainingConfig, folder: Path, arguments: argparse.Namespace, measured: dict[str, Any]
) -> None:
    """Print one row of the table.

    FLOPs are estimated from the mean of all rows, since the random order decides which of them were timed.
    """
    shape = read_shape(json.loads((folder / "base" / "config.json").read_text()))
    rows, _ = open_rows(folder / "rows")
    total = sum(
        (Throughput(sum(row["length"]), corpus_flops(shape, config, row["length"])) for row in rows), Throughput()
    )
    share = arguments.steps * ROWS_A_STEP / len(rows)
    timed = Throughput(round(total.num_tokens * share), total.flops.times(share), measured["seconds"])
    gpu = recognise(measured["device"])
    peak = gpu.peak_flops("bf16") if gpu else None
    mfu = f"{timed.mfu(peak, 1):.1%}" if peak else "no peak known"
    row = f"| {side} | {config.method} | {timed.tokens_per_s:,.0f} | {mfu} | {measured['peak_bytes'] / 2**30:.2f} GiB |"
    if arguments.device == "cpu":
        print(f"{row} - | - |", flush=True)
        return
    planned = estimate_memory(shape, config, num_processes=1, processes_per_node=1)
    # The measured peak is memory that torch allocated, so leave out the planned CUDA context and fragmentation.
    bytes_planned = planned.gpu_bytes - planned.gpu["CUDA context"] - planned.gpu["fragmentation"]
    ratio = measured["peak_bytes"] / bytes_planned
    print(f"{row} {bytes_planned / 2**30:.2f} GiB | {ratio:.2f} |", flush=True)


def run_peer(side: str, folder: Path, config: TrainingConfig, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure a peer in a new process: its seconds, peak_bytes and device."""
    out = Path(tempfile.mkdtemp(dir=folder))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    command = [*launcher, __file__, "--measure", side, str(folder), str(out), config.model_dump_json()]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    with visible_devices(arguments):
        done = subprocess.run(  # noqa: S603  # arguments made by this program
            command,
            env=environment | {"CUDA_VISIBLE_DEVICES": os.environ["CUDA_VISIBLE_DEVICES"]},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"{side}: failed\n{done.stderr[-4000:]}")
    measured: dict[str, Any] = json.loads((out / "measured.json").read_text())
    subprocess.run(["rm", "-r", str(out)], check=True)  # noqa: S603  # a folder made by this program
    return measured


def measure(side: str, folder: Path, out: Path, config: TrainingConfig) -> None:
    """In the new process: train by a peer, and write the seconds after the warm-up and the peak memory to a file."""
    import torch

    seconds = train_by_peer(side, folder, out, config)
    on_gpu = torch.cuda.is_available()
    status = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    peak = torch.cuda.max_memory_allocated() if on_gpu else int(status[1]) * 1024 if status else 0
    device = torch.cuda.get_device_name() if on_gpu else "CPU"
    (out / "measured.json").write_text(json.dumps({"seconds": seconds, "peak_bytes": peak, "device": device}))


def train_by_peer(side: str, folder: Path, out: Path, config: TrainingConfig) -> float:
    """Train by the usual recipe, and return the seconds after the warm-up.

    Full fine-tuning uses bf16 autocast on float32 weights; LoRA uses peft's adapters on bf16 weights.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments, default_data_collator

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    # the model
    dtype = torch.float32 if config.method == "full" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=dtype)
    if config.method == "lora":
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear"))
        model.enable_input_require_grads()

    # the same rows and settings for each trainer
    rows = open_rows(folder / "rows")[0].select_columns(["input_ids"])
    options: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": config.max_steps,
        "per_device_train_batch_size": config.micro_batch_size,
        "gradient_accumulation_steps": ROWS_A_STEP,
        "gradient_checkpointing": True,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }

    trainer: Any
    if side == "SFTTrainer":
        from trl import SFTConfig, SFTTrainer

        arguments = SFTConfig(**options, max_length=config.seq_len)
        trainer = SFTTrainer(model=model, args=arguments, train_dataset=rows, callbacks=[Clock()])
    else:
        rows = rows.map(lambda row: {"labels": row["input_ids"]})
        arguments = TrainingArguments(**options)
        collator = default_data_collator
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator, callbacks=[Clock()])
    trainer.train()
    return ends[-1] - ends[WARM_UP_STEPS - 1]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), TrainingConfig.model_validate_json(sys.argv[5]))
    else:
        sys.exit(main())
