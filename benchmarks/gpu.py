"""Training on one GPU: tokens/s, MFU and peak memory against the plan, in CodeLlama-7B's shape with random weights.

    python benchmarks/gpu.py [--layers N] [--steps N] [--methods lora full qlora] [--attention auto sdpa …] [--peers]

Takes nothing from the network and at most ten minutes; without a CUDA device it says so and ends with 2. LoRA and
full fine-tuning at 4,096 tokens by `flyte_llama.training`, as its own curve tells them, the first steps left out and no
model written, with each kernel of attention and, with `--liger`, Liger's too. `--peers` adds the stock Trainer and,
where it is installed, TRL's SFTTrainer on identical rows. Prints a Markdown table.

`--device cpu --layers 2 --hidden 64 --tokens 128` runs the same code on a small shape, to try it: no peak
is known there, and what it prints as memory is the process's, which no plan is made for.
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
from flyte_llama.errors import TrainingError
from flyte_llama.objective import clm
from flyte_llama.packing import open_rows, pack, write_rows
from flyte_llama.plan import Throughput, corpus_flops, memory, read_shape, recognise
from flyte_llama.tokens import train_tokenizer
from flyte_llama.training.launch import Job, launch

ROWS_A_STEP = 4
WARM_UP_STEPS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a row")
    parser.add_argument("--steps", type=int, default=10, help="optimizer steps that are timed")
    parser.add_argument("--methods", nargs="+", default=["lora", "full"], choices=("lora", "full", "qlora"))
    parser.add_argument("--attention", nargs="+", default=["auto"], help="kernels, as `training.attention` has them")
    parser.add_argument("--liger", action="store_true", help="once more with Liger's kernels")
    parser.add_argument("--peers", action="store_true")
    arguments = parser.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device is here, so there is nothing to measure", file=sys.stderr)
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
                report(peer, config, folder, arguments, child(peer, folder, config, arguments))
    return 0


def peers(arguments: argparse.Namespace) -> list[str]:
    found = ["Trainer", "SFTTrainer"] if importlib.util.find_spec("trl") else ["Trainer"]
    return found if arguments.peers else []


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
    """Random weights in bf16, made on the device, and a tokenizer of little use."""
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
    """Documents of 32 to 4,096 tokens, lengths spread evenly in their logarithm."""
    rng, ids = random.Random(0), np.random.default_rng(0)  # noqa: S311  # no secret
    num_tokens = arguments.tokens * ROWS_A_STEP * (WARM_UP_STEPS + arguments.steps)
    pieces, tokens = [], 0
    while tokens < num_tokens:
        document = ids.integers(3, 300, round(32 * 128 ** rng.random()), dtype=np.int32)
        pieces.append(clm(document, seq_len=arguments.tokens))
        tokens += len(document)
    rows = list(pack(pieces, seq_len=arguments.tokens, pad_id=0))
    write_rows(folder, [rows], seq_len=arguments.tokens, objective="clm")


def ours(folder: Path, config: TrainingConfig, arguments: argparse.Namespace) -> None:
    """The steps after the warm-up, as the run's own curve has them; a kernel that is not to be had is told as such."""
    who = f"flyte_llama, {config.attention}{', liger' if config.liger else ''}"
    with tempfile.TemporaryDirectory(dir=folder) as name:
        job = Job(base=folder / "base", rows=folder / "rows", training=config)
        try:
            with visible(arguments):
                summary = launch(job, Path(name))
        except TrainingError as error:
            said = (str(error).strip().splitlines() or ["failed"])[-1]
            print(f"| {who} | {config.method} | {said[:200]} | - | - | - | - |", flush=True)
            return
    first, last = summary.losses[WARM_UP_STEPS - 1], summary.losses[-1]
    found = {
        "seconds": last.wall_s - first.wall_s,
        "peak_bytes": last.peak_memory_bytes or 0,
        "device": summary.device,
    }
    report(who, config, folder, arguments, found)


@contextmanager
def visible(arguments: argparse.Namespace) -> Iterator[None]:
    """One GPU, or on a CPU none, for what is launched within."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if arguments.device == "cpu" else "0"
    try:
        yield
    finally:
        os.environ.pop("CUDA_VISIBLE_DEVICES")
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def report(
    who: str, config: TrainingConfig, folder: Path, arguments: argparse.Namespace, found: dict[str, Any]
) -> None:
    """One row of the table. FLOPs are the mean row's: which rows were timed depends on the order drawn."""
    shape = read_shape(json.loads((folder / "base" / "config.json").read_text()))
    rows, _ = open_rows(folder / "rows")
    total = sum(
        (Throughput(sum(row["length"]), corpus_flops(shape, config, row["length"])) for row in rows), Throughput()
    )
    share = arguments.steps * ROWS_A_STEP / len(rows)
    timed = Throughput(round(total.num_tokens * share), total.flops.times(share), found["seconds"])
    gpu = recognise(found["device"])
    peak = gpu.peak_flops("bf16") if gpu else None
    mfu = f"{timed.mfu(peak, 1):.1%}" if peak else "no peak known"
    row = f"| {who} | {config.method} | {timed.tokens_per_s:,.0f} | {mfu} | {found['peak_bytes'] / 2**30:.2f} GiB |"
    if arguments.device == "cpu":
        print(f"{row} - | - |", flush=True)
        return
    planned = memory(shape, config, num_processes=1, processes_a_node=1)
    # What the allocator has handed out: the context and what it cannot use are not part of that.
    bytes_planned = planned.gpu_bytes - planned.gpu["CUDA context"] - planned.gpu["fragmentation"]
    ratio = found["peak_bytes"] / bytes_planned
    print(f"{row} {bytes_planned / 2**30:.2f} GiB | {ratio:.2f} |", flush=True)


def child(who: str, folder: Path, config: TrainingConfig, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own measured: seconds, peak_bytes, device."""
    out = Path(tempfile.mkdtemp(dir=folder))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    command = [*launcher, __file__, "--measure", who, str(folder), str(out), config.model_dump_json()]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    with visible(arguments):
        done = subprocess.run(  # noqa: S603  # our own file
            command,
            env=environment | {"CUDA_VISIBLE_DEVICES": os.environ["CUDA_VISIBLE_DEVICES"]},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"{who}: failed\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads((out / "measured.json").read_text())
    subprocess.run(["rm", "-r", str(out)], check=True)  # noqa: S603  # our own folder
    return found


def measure(who: str, folder: Path, out: Path, config: TrainingConfig) -> None:
    """In the child: train by a peer, and write down the seconds of the steps after the warm-up."""
    import torch

    seconds = train_by_peer(who, folder, out, config)
    on_gpu = torch.cuda.is_available()
    status = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    peak = torch.cuda.max_memory_allocated() if on_gpu else int(status[1]) * 1024 if status else 0
    device = torch.cuda.get_device_name() if on_gpu else "CPU"
    (out / "measured.json").write_text(json.dumps({"seconds": seconds, "peak_bytes": peak, "device": device}))


def train_by_peer(who: str, folder: Path, out: Path, config: TrainingConfig) -> float:
    """The usual recipe: bf16 autocast on float32 weights when all are trained, peft's adapters on bf16 ones."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments, default_data_collator

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    dtype = torch.float32 if config.method == "full" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=dtype)
    if config.method == "lora":
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear"))
        model.enable_input_require_grads()
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
    if who == "SFTTrainer":
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
