"""The plan of a training run: parameters, memory, steps, FLOPs, time, cost, disk, and every problem with its fix.

Made from a configuration, the model's shape, the GPUs and, if it is known, the size of the corpus. Queries no device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flyte_llama.config import (
    ExperimentConfig,
    Frozen,
    ResolvedTraining,
    TrainingConfig,
    batch_problems,
    positions_problems,
)
from flyte_llama.config.training import LOSS_CHUNK
from flyte_llama.plan.choice import Devices, choose_settings
from flyte_llama.plan.flops import ACCELERATORS, GIB, Flops, row_flops
from flyte_llama.plan.memory import Memory, checkpoint_bytes, estimate_memory, num_trained
from flyte_llama.plan.problems import device_problems, gpu_problems
from flyte_llama.plan.shape import ModelShape
from flyte_llama.progress import bytes_text

ASSUMED_MFU = (0.30, 0.46)
"""Lowest and highest: torchtitan's Llama 3.1 8B without compilation, and llm-foundry's MPT 7B, both on eight H100 in
bf16. Offloading, a slow network between nodes, and models of a few layers fall below this range."""

PER_TOKENS = 1_000_000
"""Number of tokens to plan for if the corpus is not known."""


@dataclass(frozen=True)
class Cluster:
    """The GPUs of a run; one process each."""

    gpu: str
    """A key of `ACCELERATORS`."""

    gpus_a_node: int
    nodes: int = 1
    host_bytes: int | None = None
    """Memory of a node; None skips the check."""

    storage_bytes: int | None = None
    """Disk of a node; None skips the check."""

    dollars_an_hour: float | None = None
    """Price of one GPU; None takes the rough price in `ACCELERATORS`."""

    @property
    def num_gpus(self) -> int:
        return self.gpus_a_node * self.nodes

    def devices(self, training: TrainingConfig) -> Devices:
        """The GPUs, for the choice of what is `auto`. The container image has Liger."""
        gpu = ACCELERATORS[self.gpu]
        return Devices(gpu.name, self.num_gpus, gpu.memory_bytes, gpu.peak_flops(training.precision), has_liger=True)


@dataclass(frozen=True)
class TokenCount:
    """One epoch of training rows; if several are stored, their average."""

    num_tokens: int
    """Without padding."""

    num_rows: int
    seq_len: int
    rows_before: int = 0
    """Rows that the run reads before the first epoch, planned as if they were as full as the others."""

    flops: Flops | None = None
    """FLOPs of all rows. If None, the tokens are planned as full rows of one document each."""


class Plan(Frozen):
    """What a run needs, what the cluster has, and every problem."""

    num_parameters: int
    """Parameters of the base."""

    num_trainable: int
    gpu: str
    gpus_a_node: int
    nodes: int
    micro_batch_size: int
    activation_checkpointing: bool
    liger: bool
    choice: str
    """Why these micro-batch and recomputation; empty if they are pinned."""

    gpu_capacity_bytes: int
    gpu_bytes: dict[str, int]
    """Name of the part → bytes on each GPU at the fullest moment."""

    host_bytes: dict[str, int]
    """Name of the part → bytes in each node's memory."""

    host_capacity_bytes: int | None
    """None if it is not checked."""

    tokens_are_known: bool
    """Whether tokens, FLOPs, hours and dollars are for the run; if not, they are for 1,000,000 tokens."""

    num_tokens: int
    """Over all epochs, without padding."""

    num_steps: int | None
    """None if the tokens are not known."""

    model_flops: int
    recomputed_flops: int
    mfu: tuple[float, float]
    """The assumed MFU, lowest and highest."""

    hours: tuple[float, float] | None
    """At the highest and the lowest MFU; None if the GPU does not support the precision."""

    dollars: tuple[float, float] | None
    dollars_an_hour: float
    """Price of one GPU."""

    checkpoint_bytes: int
    disk_bytes: int
    """Base, checkpoints and the fine-tuned model."""

    storage_bytes: int | None
    """Disk of a node; None if it is not checked."""

    problems: list[str]

    @property
    def fits(self) -> bool:
        return not self.problems


def make_plan(config: ExperimentConfig, shape: ModelShape, cluster: Cluster, corpus: TokenCount | None = None) -> Plan:
    """Plan a run, and list its problems in the plan instead of raising them.

    Without a corpus the plan is for `max_steps` full batches, or for `PER_TOKENS` tokens if `max_steps` is 0.

    Raises:
        ModelError: if an adapter's target is not a layer of the model.
    """
    gpu, choice = ACCELERATORS[cluster.gpu], choose_settings(shape, config.training, cluster.devices(config.training))
    training = choice.training
    needed = estimate_memory(shape, training, num_processes=cluster.num_gpus, processes_per_node=cluster.gpus_a_node)
    steps, num_tokens, flops = _run_size(shape, training, corpus)
    # Time and cost, from the highest to the lowest assumed MFU.
    peak = gpu.peak_flops(training.precision)
    price = gpu.dollars_an_hour if cluster.dollars_an_hour is None else cluster.dollars_an_hour
    hours = dollars = None
    if peak is not None:
        low, high = ASSUMED_MFU
        slow, fast = (flops.model / (peak * cluster.num_gpus * mfu) / 3600 for mfu in (low, high))
        hours, dollars = (fast, slow), (fast * price * cluster.num_gpus, slow * price * cluster.num_gpus)
    disk = disk_bytes(shape, training, is_scratch=config.model.is_scratch)
    return Plan(
        num_parameters=shape.num_parameters,
        num_trainable=num_trained(shape, training),
        gpu=gpu.name,
        gpus_a_node=cluster.gpus_a_node,
        nodes=cluster.nodes,
        micro_batch_size=training.micro_batch_size,
        activation_checkpointing=training.activation_checkpointing,
        liger=training.liger,
        choice=choice.reason,
        gpu_capacity_bytes=gpu.memory_bytes,
        gpu_bytes=needed.gpu,
        host_bytes=needed.host,
        host_capacity_bytes=cluster.host_bytes,
        tokens_are_known=steps is not None,
        num_tokens=num_tokens,
        num_steps=steps,
        model_flops=flops.model,
        recomputed_flops=flops.recomputed,
        mfu=ASSUMED_MFU,
        hours=hours,
        dollars=dollars,
        dollars_an_hour=price,
        checkpoint_bytes=checkpoint_bytes(shape, training),
        disk_bytes=disk,
        storage_bytes=cluster.storage_bytes,
        problems=_problems(config, training, shape, cluster, needed, disk, corpus),
    )


def corpus_flops(
    shape: ModelShape, training: ResolvedTraining, lengths: Sequence[int], *, bidirectional: Sequence[int] = ()
) -> Flops:
    """FLOPs of sequences that train on every token but their first.

    The loss is computed in parts of `LOSS_CHUNK` positions. The backward pass computes the logits of every part again,
    except for the last part of a micro-batch.

    Args:
        lengths: Tokens of each causal sequence.
        bidirectional: Tokens of each sequence that attends in both directions. All tokens but the first count as
            targets here too, which is an upper bound.
    """
    num_labels = sum(lengths) + sum(bidirectional) - len(lengths) - len(bidirectional)
    num_parts = math.ceil(training.micro_batch_size * (training.seq_len - 1) / LOSS_CHUNK)
    num_recomputed = num_labels * (num_parts - 1) // num_parts
    return row_flops(
        shape,
        lengths,
        training=training,
        bidirectional=bidirectional,
        num_labels=num_labels,
        recomputed_labels=num_recomputed,
    )


def disk_bytes(shape: ModelShape, training: TrainingConfig, *, is_scratch: bool) -> int:
    """Bytes of disk on a node: the base in bf16, the kept checkpoints, one more being written, and the exported model.

    With several nodes each stores only its share of the checkpoints; this counts all of them.
    """
    whole = 2 * shape.num_parameters
    exported = whole if training.precision == "bf16" else 2 * whole
    if training.method != "full":
        exported += 4 * num_trained(shape, training)
    checkpoints = (training.num_kept + 1) * checkpoint_bytes(shape, training)
    return (0 if is_scratch else whole) + checkpoints + exported


def _run_size(
    shape: ModelShape, training: ResolvedTraining, corpus: TokenCount | None
) -> tuple[int | None, int, Flops]:
    """Steps, tokens and FLOPs of the run; if its length is not known: None, and the figures for `PER_TOKENS` tokens."""
    batch = training.global_batch_size
    if corpus is None:
        rows = training.max_steps * batch or PER_TOKENS / training.seq_len
        return (
            training.max_steps or None,
            round(rows * training.seq_len),
            corpus_flops(shape, training, [training.seq_len]).times(rows),
        )
    steps = training.run_length.num_steps(corpus.num_rows, rows_before=corpus.rows_before)
    num_epochs = steps * batch / corpus.num_rows
    flops = corpus.flops or corpus_flops(shape, training, _full_rows(corpus))
    return steps, round(corpus.num_tokens * num_epochs), flops.times(num_epochs)


def _full_rows(corpus: TokenCount) -> list[int]:
    """Lengths of the rows that hold the corpus if all but the last are full."""
    full, rest = divmod(corpus.num_tokens, corpus.seq_len)
    return [corpus.seq_len] * full + [rest] * bool(rest)


def _problems(
    config: ExperimentConfig,
    training: ResolvedTraining,
    shape: ModelShape,
    cluster: Cluster,
    needed: Memory,
    disk: int,
    corpus: TokenCount | None,
) -> list[str]:
    gpu = ACCELERATORS[cluster.gpu]
    lengths = {"training.seq_len": training.seq_len, "evaluation.window": config.evaluation.window}
    problems = batch_problems(config.training, cluster.num_gpus)
    problems += positions_problems(
        lengths, shape.max_positions, limit=f"the {shape.max_positions} positions of the model"
    )
    problems += device_problems(training, gpu)
    if corpus and corpus.seq_len != training.seq_len:
        problems.append(
            f"training.seq_len = {training.seq_len}: the rows have {corpus.seq_len} tokens. Encode them again."
        )
    problems += gpu_problems(needed, shape, training, gpu.memory_bytes, cluster.num_gpus, cluster.gpus_a_node)
    if cluster.host_bytes is not None and needed.host_bytes > cluster.host_bytes:
        problems.append(
            f"memory of a node: needs {bytes_text(needed.host_bytes)}, has {bytes_text(cluster.host_bytes)}. "
            f"Set FLYTE_LLAMA_GPU_MEMORY to at least {math.ceil(needed.host_bytes / GIB)}Gi."
        )
    if cluster.storage_bytes is not None and disk > cluster.storage_bytes:
        problems.append(
            f"disk of a node: needs {bytes_text(disk)}, has {bytes_text(cluster.storage_bytes)}. Set "
            f"FLYTE_LLAMA_GPU_STORAGE to at least {math.ceil(disk / GIB)}Gi, or keep fewer checkpoints "
            "(training.keep_checkpoints)."
        )
    return problems
