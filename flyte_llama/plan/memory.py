"""Bytes that training takes in the memory of each GPU and each node, part by part.

**Weights, gradients and optimizer state** follow DeepSpeed 0.19 (runtime/zero/stage_1_and_2.py, stage3.py,
fp16/unfused_optimizer.py), for n trained and f frozen parameters, W processes, and s bytes per number (2 in bf16, 4 in
fp32):

| stage | weights | gradients | optimizer state |
|---|---|---|---|
| 0 | s·(n+f) | s·n | fp32: 8·n; bf16: 12·n |
| 1 | s·(n+f) | s·n | 12·n/W, in fp32 too: master weights are a copy |
| 2 | s·(n+f) | s·n/W | 12·n/W |
| 3 | s·(n+f)/W and gathered weights | s·n/W | 12·n/W |

An update first converts bf16 gradients to float32: 4 bytes for each parameter of the process at stages 1 and 2, for at
most `UPDATE_ELEMENTS` parameters at stage 0, and for at most `STEP_ELEMENTS` at stage 3. At stage 2, if a process's
share ends inside a parameter, the process keeps the whole gradient of that parameter too. Adapters are trained weights:
DeepSpeed casts them to bf16 with the rest and keeps float32 masters. QLoRA's frozen linear layers take 0.516 bytes per
weight: 4 bits, an 8-bit constant for every 64 weights, and a float32 constant for every 256 of those constants
(Dettmers et al., arXiv 2305.14314, section 3).

Activations and logits are in `activations`. Tests compare gradients and state of stages 0 to 3 with the tensors of real
DeepSpeed runs of one and two processes on a CPU. Buffers and gathered weights follow DeepSpeed's source, and
fragmentation, the CUDA context and the libraries are estimates; benchmarks compare their sum with the peak on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from flyte_llama.config import ResolvedTraining, TrainingConfig
from flyte_llama.plan.activations import FLOAT32, activation_bytes, bytes_per_number, logit_bytes
from flyte_llama.plan.deepspeed import (
    BUCKET_ELEMENTS,
    LIVE_ELEMENTS,
    STEP_ELEMENTS,
    UPDATE_ELEMENTS,
    stage_3_bucket_elements,
)
from flyte_llama.plan.flops import GIB
from flyte_llama.plan.shape import ModelShape

NF4_BYTES = 0.5 + 1 / 64 + FLOAT32 / (64 * 256)
"""Bytes of a weight in 4 bits with double quantisation."""

CONTEXT_BYTES = GIB
"""CUDA's context and the workspaces of cuBLAS and NCCL: about a GiB, from experience, without a source."""

FRAGMENTATION = 0.05
"""Share of allocated memory that the allocator wastes: a few percent with expandable segments, from experience."""

LIBRARIES_BYTES = 4 * GIB
"""Host memory of a process with torch, CUDA, transformers and DeepSpeed loaded, and its data."""


@dataclass(frozen=True)
class Memory:
    """The memory that a run needs, as name of the part → bytes."""

    gpu: dict[str, int]
    """On each GPU at the fullest moment; a part that is absent at that moment is 0."""

    host: dict[str, int]
    """On each node."""

    @property
    def gpu_bytes(self) -> int:
        return sum(self.gpu.values())

    @property
    def host_bytes(self) -> int:
        return sum(self.host.values())


@dataclass(frozen=True)
class State:
    """Bytes that a process keeps between steps and while it accumulates gradients."""

    weights: int
    gradients: int
    optimizer: int
    update: int
    """Float32 gradients, which exist only during an update."""


def estimate_memory(
    shape: ModelShape, training: ResolvedTraining, *, num_processes: int, processes_per_node: int
) -> Memory:
    """The memory for training on `num_processes` GPUs, `processes_per_node` of them on each node."""
    deepspeed = training.deepspeed
    state = state_bytes(
        num_trained(shape, training), frozen_bytes(shape, training), training, num_processes=num_processes
    )
    activations, logits = activation_bytes(shape, training), logit_bytes(shape, training)
    update = 0 if deepspeed.offload_optimizer else state.update
    if training.method == "full" and deepspeed.zero_stage == 0 and update:
        update = max(update, FLOAT32 * shape.num_head_weights)  # a single weight is not cut into parts
    gpu = {
        "weights": 0 if deepspeed.offload_parameters else state.weights,
        "gathered weights": _gather_bytes(shape, training),
        "gradients": 0 if deepspeed.offload_optimizer else state.gradients,
        "optimizer state": 0 if deepspeed.offload_optimizer else state.optimizer,
        "buckets": _bucket_bytes(shape, training, num_processes),
        "activations": activations,
        "logits": logits,
        # The update comes after the activations are freed, so it adds only the bytes that exceed theirs.
        "update": max(0, update - activations - logits),
    }
    gpu["fragmentation"] = int(FRAGMENTATION * sum(gpu.values()))
    gpu["CUDA context"] = CONTEXT_BYTES
    return Memory(gpu, _host_parts(shape, training, state, processes_per_node))


def checkpoint_bytes(shape: ModelShape, training: TrainingConfig) -> int:
    """Bytes of one checkpoint over all processes: optimizer state with master weights, and the trained weights.

    Frozen weights are not saved.
    """
    trained, size = num_trained(shape, training), bytes_per_number(training.precision)
    return (3 * FLOAT32 + size) * trained


def num_trained(shape: ModelShape, training: TrainingConfig) -> int:
    """Number of trained parameters: all of them, or only the adapters."""
    if training.method == "full":
        return shape.num_parameters
    lora = training.lora
    return shape.num_adapter_parameters(lora.target_modules, lora.rank, dora=training.method == "dora")


def frozen_bytes(shape: ModelShape, training: TrainingConfig) -> int:
    """Bytes of the frozen base under adapters; 0 in full fine-tuning."""
    if training.method == "full":
        return 0
    size = bytes_per_number(training.precision)
    if training.method == "qlora":
        return int(NF4_BYTES * shape.num_linear_weights) + size * (shape.num_parameters - shape.num_linear_weights)
    return size * shape.num_parameters


def state_bytes(trained: int, frozen: int, training: TrainingConfig, *, num_processes: int) -> State:
    """Sizes on one process, by the table in this module's docstring.

    Args:
        trained: Number of trained parameters.
        frozen: Bytes of the frozen parameters.
    """
    stage, size = training.deepspeed.zero_stage, bytes_per_number(training.precision)
    share = _share(trained, num_processes)
    has_master = size != FLOAT32 or stage >= 1
    weights = size * trained + frozen
    return State(
        weights=_share(weights, num_processes) if stage == 3 else weights,
        gradients=size * (share if stage >= 2 else trained),
        optimizer=(3 if has_master else 2) * FLOAT32 * (share if stage >= 1 else trained),
        update=_update_bytes(trained if stage == 0 else share, training),
    )


def _update_bytes(share: int, training: TrainingConfig) -> int:
    if training.precision == "fp32":
        return 0
    at_once = {0: UPDATE_ELEMENTS, 3: STEP_ELEMENTS}.get(training.deepspeed.zero_stage, share)
    return FLOAT32 * min(share, at_once)


def _share(total: int, num_processes: int) -> int:
    """The part of `total` on one process, rounded up."""
    return -(-total // num_processes)


def _gather_bytes(shape: ModelShape, training: ResolvedTraining) -> int:
    """Bytes of the whole weights that stage 3 gathers from all processes to compute with."""
    if training.deepspeed.zero_stage != 3:
        return 0
    _, prefetched = stage_3_bucket_elements(shape.hidden_size)
    return bytes_per_number(training.precision) * min(shape.num_parameters, LIVE_ELEMENTS + prefetched)


def _bucket_bytes(shape: ModelShape, training: ResolvedTraining, num_processes: int) -> int:
    """Bytes of the buffers that reduce gradients over the processes."""
    size, stage = bytes_per_number(training.precision), training.deepspeed.zero_stage
    if stage == 3:
        return size * stage_3_bucket_elements(shape.hidden_size)[0]
    if stage:
        return size * (2 if num_processes > 1 else 1) * BUCKET_ELEMENTS
    # Stage 0 flattens up to 500 million gradients at once (engine.py, buffered_allreduce_fallback).
    return size * min(500_000_000, num_trained(shape, training)) if num_processes > 1 else 0


def _host_parts(shape: ModelShape, training: ResolvedTraining, state: State, processes: int) -> dict[str, int]:
    """Bytes in a node's host memory, by part. Loading and exporting never overlap, so only the larger one counts."""
    deepspeed, size = training.deepspeed, bytes_per_number(training.precision)
    whole = size * shape.num_parameters
    # Each process reads the whole base; only a 4-bit base goes to the GPU file by file.
    loading = 0 if training.method == "qlora" else processes * whole
    # The first process merges adapters into the base in `precision`, or gathers a fully trained model at stage 3.
    exporting = whole
    offloaded = state.optimizer + state.gradients + state.update if deepspeed.offload_optimizer else 0
    offloaded += state.weights if deepspeed.offload_parameters else 0
    return {
        "loading or exporting": max(loading, exporting),
        "offloaded": processes * offloaded,
        "libraries": processes * LIBRARIES_BYTES,
    }
