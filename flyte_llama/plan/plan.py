"""The plan of a training run: parameters, memory, steps, FLOPs, time, cost, disk, and every problem with what mends it.

Comes in: a configuration, the model's shape, the GPUs, and what is known of the corpus. Asks nothing of a device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from flyte_llama.config import ExperimentConfig, TrainingConfig
from flyte_llama.errors import OutOfMemoryError
from flyte_llama.model.loss import LOSS_CHUNK
from flyte_llama.packing import num_steps
from flyte_llama.plan.accelerators import ACCELERATORS, GIB
from flyte_llama.plan.flops import Flops, row_flops
from flyte_llama.plan.memory import Memory, checkpoint_bytes, memory, num_trained
from flyte_llama.plan.problems import batch_problems, device_problems, gpu_problems, length_problems
from flyte_llama.plan.shape import ModelShape

ASSUMED_MFU = (0.30, 0.46)
"""From torchtitan's Llama 3.1 8B without compilation to llm-foundry's MPT 7B, both on eight H100 in bf16. Offloading,
several nodes on a slow network and models of a few layers fall below."""

PER_TOKENS = 1_000_000
"""What a plan is made for where the corpus is not known."""


@dataclass(frozen=True)
class Cluster:
    """The GPUs of a run; one process each."""

    gpu: str
    """Of `ACCELERATORS`."""

    gpus_a_node: int
    nodes: int = 1
    host_bytes: int | None = None
    """Memory of a node; None is not checked."""

    storage_bytes: int | None = None
    """Disk of a node; None is not checked."""

    dollars_an_hour: float | None = None
    """Of one GPU; None takes the table's rough price."""

    @property
    def num_gpus(self) -> int:
        return self.gpus_a_node * self.nodes


@dataclass(frozen=True)
class Corpus:
    """One epoch of train rows, on average over those that are stored."""

    num_tokens: int
    """Padding left out."""

    num_rows: int
    seq_len: int
    flops: Flops | None = None
    """Of all rows; None where they are not known, then a row is taken for one document."""


class Plan(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    num_parameters: int
    """Of the base."""

    num_trainable: int
    gpu: str
    gpus_a_node: int
    nodes: int
    gpu_capacity_bytes: int
    gpu_bytes: dict[str, int]
    """Part → bytes on each GPU at the fullest moment."""

    host_bytes: dict[str, int]
    """Part → bytes in each node's memory."""

    host_capacity_bytes: int | None
    """None is not checked; so is `storage_bytes`."""

    tokens_are_known: bool
    """Whether tokens, FLOPs, hours and dollars are the run's; else they are those of 1,000,000 tokens."""

    num_tokens: int
    """Over all epochs, padding left out."""

    num_steps: int | None
    """None where the tokens are not known."""

    model_flops: int
    recomputed_flops: int
    mfu: tuple[float, float]
    """Assumed, lowest and highest."""

    hours: tuple[float, float] | None
    """At the highest and the lowest MFU; None where the GPU cannot compute in the precision."""

    dollars: tuple[float, float] | None
    dollars_an_hour: float
    """Of one GPU."""

    checkpoint_bytes: int
    disk_bytes: int
    """Base, checkpoints and the fine-tuned model."""

    storage_bytes: int | None

    problems: list[str]

    @property
    def fits(self) -> bool:
        return not self.problems


def make_plan(config: ExperimentConfig, shape: ModelShape, cluster: Cluster, corpus: Corpus | None = None) -> Plan:
    """The plan, with every problem in it; none is raised.

    Without a corpus, the tokens are those of `max_steps` full batches, or not known.

    Raises:
        ModelError: if an adapter's target is no layer of the model.
    """
    training, gpu = config.training, ACCELERATORS[cluster.gpu]
    needed = memory(shape, training, num_processes=cluster.num_gpus, processes_a_node=cluster.gpus_a_node)
    steps, num_tokens, flops = _work(shape, training, corpus)
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
        problems=_problems(config, shape, cluster, needed, disk, corpus),
    )


def _work(shape: ModelShape, training: TrainingConfig, corpus: Corpus | None) -> tuple[int | None, int, Flops]:
    """Steps, tokens and FLOPs of the run; without steps, of `PER_TOKENS`."""
    batch = training.global_batch_size
    if corpus is None:
        rows = training.max_steps * batch or PER_TOKENS / training.seq_len
        return (
            training.max_steps or None,
            round(rows * training.seq_len),
            corpus_flops(shape, training, [training.seq_len]).times(rows),
        )
    steps = num_steps(corpus.num_rows, epochs=training.epochs, max_steps=training.max_steps, global_batch_size=batch)
    share = steps * batch / corpus.num_rows
    flops = corpus.flops or corpus_flops(shape, training, _full_rows(corpus))
    return steps, round(corpus.num_tokens * share), flops.times(share)


def corpus_flops(
    shape: ModelShape, training: TrainingConfig, lengths: Sequence[int], *, bidirectional: Sequence[int] = ()
) -> Flops:
    """Of pieces whose tokens are learned, but for each one's first. Every part of the loss but a micro-batch's last is
    computed twice.

    Args:
        lengths: Tokens of each causal piece.
        bidirectional: Tokens of each piece that sees both ways, taken for learned whole: an upper bound.
    """
    num_labels = sum(lengths) + sum(bidirectional) - len(lengths) - len(bidirectional)
    num_parts = math.ceil(training.micro_batch_size * (training.seq_len - 1) / LOSS_CHUNK)
    again = num_labels * (num_parts - 1) // num_parts
    return row_flops(
        shape,
        lengths,
        training=training,
        bidirectional=bidirectional,
        num_labels=num_labels,
        recomputed_labels=again,
    )


def _full_rows(corpus: Corpus) -> list[int]:
    full, rest = divmod(corpus.num_tokens, corpus.seq_len)
    return [corpus.seq_len] * full + [rest] * bool(rest)


def disk_bytes(shape: ModelShape, training: TrainingConfig, *, is_scratch: bool) -> int:
    """Bytes of disk on a node: the base in bf16, the kept checkpoints and one being written, the model written.

    On several nodes each holds its share of the checkpoints; this is what all of them would be.
    """
    whole = 2 * shape.num_parameters
    written = whole if training.precision == "bf16" else 2 * whole
    if training.method != "full":
        written += 4 * num_trained(shape, training)
    checkpoints = (training.keep_checkpoints + 1) * checkpoint_bytes(shape, training)
    return (0 if is_scratch else whole) + checkpoints + written


def _problems(
    config: ExperimentConfig,
    shape: ModelShape,
    cluster: Cluster,
    needed: Memory,
    disk: int,
    corpus: Corpus | None,
) -> list[str]:
    training, gpu = config.training, ACCELERATORS[cluster.gpu]
    problems = batch_problems(training, cluster.num_gpus) + length_problems(config, shape)
    problems += device_problems(training, gpu)
    if corpus and corpus.seq_len != training.seq_len:
        problems.append(
            f"training.seq_len = {training.seq_len}: the rows are of {corpus.seq_len} tokens. Encode them anew."
        )
    problems += gpu_problems(needed, shape, training, gpu.memory_bytes, cluster.num_gpus, cluster.gpus_a_node)
    if cluster.host_bytes is not None and needed.host_bytes > cluster.host_bytes:
        problems.append(
            f"memory of a node: {needed.host_bytes / GIB:.0f} GiB are needed, {cluster.host_bytes / GIB:.0f} there. "
            f"Set FLYTE_LLAMA_GPU_MEMORY to at least {math.ceil(needed.host_bytes / GIB)}Gi."
        )
    if cluster.storage_bytes is not None and disk > cluster.storage_bytes:
        problems.append(
            f"disk of a node: {disk / GIB:.0f} GiB are needed, {cluster.storage_bytes / GIB:.0f} there. Set "
            f"FLYTE_LLAMA_GPU_STORAGE to at least {math.ceil(disk / GIB)}Gi, or keep fewer checkpoints "
            "(training.keep_checkpoints)."
        )
    return problems


def refuse_if_too_large(
    shape: ModelShape,
    training: TrainingConfig,
    *,
    device_bytes: int,
    num_processes: int,
    processes_a_node: int | None = None,
) -> None:
    """For a training process, before it loads anything.

    Args:
        device_bytes: Memory of its GPU, whole.
        processes_a_node: None is all of them.

    Raises:
        OutOfMemoryError: saying what is needed, what is there, and what would fit.
    """
    a_node = processes_a_node or num_processes
    needed = memory(shape, training, num_processes=num_processes, processes_a_node=a_node)
    for problem in gpu_problems(needed, shape, training, device_bytes, num_processes, a_node):
        raise OutOfMemoryError(problem)
