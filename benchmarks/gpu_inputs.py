"""The inputs of the benchmarks on a GPU: models with random weights, and packed rows of random documents."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from flyte_llama.config import ResolvedTraining
from flyte_llama.encoding import open_rows, train_tokenizer
from flyte_llama.encoding.objectives import clm
from flyte_llama.encoding.packing import pack
from flyte_llama.encoding.rows import RowsWriter
from flyte_llama.errors import TrainingError
from flyte_llama.plan import ModelShape, Throughput, corpus_flops
from flyte_llama.plan.shape import read_shape

NUM_ROWS = 96
"""Packed rows on disk: as many as a 7B run reads. A run that needs more reads them again."""


def write_inputs(folder: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Write both models and the rows, and return the name of the device.

    Raises:
        TrainingError: if there is no CUDA device.
    """
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("no CUDA device found: run this on a machine with an NVIDIA GPU, or try --device cpu")
    write_base(folder / "base", arguments)
    write_small(folder / "small", arguments)
    write_random_rows(folder / "rows", arguments)
    return {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"}


def write_base(base: Path, arguments: argparse.Namespace) -> None:
    """Write a model in Code Llama's shape, with so many layers of such a width, and random bf16 weights."""
    is_small = arguments.hidden < 4096
    shape = {
        "vocab_size": 512 if is_small else 32016,
        "hidden_size": arguments.hidden,
        "num_hidden_layers": arguments.layers,
        "num_attention_heads": arguments.hidden // (16 if is_small else 128),
        "intermediate_size": arguments.hidden * 11008 // 4096,
        "max_position_embeddings": max(16384, arguments.tokens),
    }
    write_random_model(base, shape, device=arguments.device)


def write_small(base: Path, arguments: argparse.Namespace) -> None:
    """Write a model in SmolLM2-135M's shape; on a CPU only with as many layers as asked for, and a small vocabulary."""
    shape = {
        "vocab_size": 49152 if arguments.device == "cuda" else 512,
        "hidden_size": 576,
        "num_hidden_layers": min(30, arguments.layers),
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "max_position_embeddings": max(8192, arguments.tokens),
        "tie_word_embeddings": True,
    }
    write_random_model(base, shape, device=arguments.device)


def write_random_model(base: Path, shape: dict[str, Any], *, device: str) -> None:
    """Write a Llama with random bf16 weights, made on the device, and a minimal tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    base.mkdir()
    train_tokenizer(["def add(a, b):\n    return a + b\n"], vocab_size=300, max_positions=8192, folder=base)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**shape, bos_token_id=1, eos_token_id=2)).save_pretrained(base)
    torch.set_default_dtype(default)
    if device == "cuda":
        torch.cuda.empty_cache()


def write_random_rows(folder: Path, arguments: argparse.Namespace) -> None:
    """Write packed rows of random documents of 32 to 4,096 tokens, with log-uniform lengths."""
    rng, ids = random.Random(0), np.random.default_rng(0)  # noqa: S311  # no secret
    pieces, tokens = [], 0
    while tokens < arguments.tokens * NUM_ROWS:
        piece = ids.integers(3, 300, round(32 * 128 ** rng.random()), dtype=np.int32)
        pieces.append(clm(piece, seq_len=arguments.tokens))
        tokens += len(piece)
    with RowsWriter(folder, seq_len=arguments.tokens, objective="clm") as writer:
        writer.write_epoch(pack(pieces, seq_len=arguments.tokens, pad_id=0))


def model_shape(base: Path) -> ModelShape:
    """The shape of a model folder."""
    return read_shape(json.loads((base / "config.json").read_text(encoding="utf-8")))


def mean_row(shape: ModelShape, folder: Path, config: ResolvedTraining) -> Throughput:
    """The tokens and FLOPs of an average row."""
    rows, _ = open_rows(folder / "rows")
    total = sum((Throughput(sum(row), corpus_flops(shape, config, row)) for row in rows["length"]), Throughput())
    return Throughput(round(total.num_tokens / len(rows)), total.flops.times(1 / len(rows)))
