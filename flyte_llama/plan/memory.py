"""Bytes a GPU and a node's host memory hold while a model is trained, part by part.

Sizes of weights, gradients and optimizer state are those of DeepSpeed 0.19 (runtime/zero/stage_1_and_2.py, stage3.py,
fp16/unfused_optimizer.py), n parameters trained, f frozen, W processes, s bytes a number (2 in bf16, 4 in fp32):

| stage | weights | gradients | optimizer state |
|---|---|---|---|
| 0 | s·(n+f) | s·n | fp32: 8·n; bf16: 12·n |
| 1 | s·(n+f) | s·n | 12·n/W, in fp32 too: master weights are a copy |
| 2 | s·(n+f) | s·n/W | 12·n/W |
| 3 | s·(n+f)/W and what is gathered | s·n/W | 12·n/W |

An update turns bf16 gradients into float32 ones first (stages 0 to 2: 4 bytes a parameter of the process; stage 3: of
at most `STEP_ELEMENTS`). At stage 2 a process also keeps the whole gradient of a parameter that its share cuts.
Adapters are trained weights: DeepSpeed casts them to bf16 with the rest and keeps float32 masters. QLoRA's frozen
linear layers take 0.516 bytes a weight: 4 bits, and for 64 weights an 8-bit constant, for 256 of those a float32 one
(Dettmers et al., arXiv 2305.14314, section 3).

Held against real things: gradients and state of stages 0 to 3 against the tensors of real DeepSpeed runs of one
and two processes, activations as `activations` says; both on a CPU. Buffers, what is gathered and the reserve were
read in DeepSpeed's source, not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from flyte_llama.config import TrainingConfig
from flyte_llama.deepspeed_config import BUCKET_ELEMENTS, LIVE_ELEMENTS, STEP_ELEMENTS, stage_3_bucket_elements
from flyte_llama.plan.accelerators import GIB
from flyte_llama.plan.activations import FLOAT32, activation_bytes, bytes_of, logit_bytes
from flyte_llama.plan.shape import ModelShape

NF4_BYTES = 0.5 + 1 / 64 + FLOAT32 / (64 * 256)
"""A weight in 4 bits with double quantisation."""

CONTEXT_BYTES = GIB
"""CUDA's context and the workspaces of cuBLAS and NCCL: about a GiB, by experience, not by a source."""

FRAGMENTATION = 0.05
"""Share of what is allocated that the allocator cannot use; with expandable segments a few percent, by experience."""

LIBRARIES_BYTES = 4 * GIB
"""Host memory of a process with torch, CUDA, transformers and DeepSpeed loaded, and its data."""


@dataclass(frozen=True)
class Memory:
    """Name of the part → bytes."""

    gpu: dict[str, int]
    """Of each GPU at the fullest moment; parts that are not there at that moment are 0."""

    host: dict[str, int]
    """Of each node."""

    @property
    def gpu_bytes(self) -> int:
        return sum(self.gpu.values())

    @property
    def host_bytes(self) -> int:
        return sum(self.host.values())


@dataclass(frozen=True)
class State:
    """What a process keeps between steps and while gradients add up, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    update: int
    """Float32 gradients, for the length of an update."""


def num_trained(shape: ModelShape, training: TrainingConfig) -> int:
    if training.method == "full":
        return shape.num_parameters
    lora = training.lora
    return shape.num_adapter(lora.target_modules, lora.rank, dora=training.method == "dora")


def frozen_bytes(shape: ModelShape, training: TrainingConfig) -> int:
    """Of the base under adapters."""
    if training.method == "full":
        return 0
    size = bytes_of(training.precision)
    if training.method == "qlora":
        return int(NF4_BYTES * shape.num_linear) + size * (shape.num_parameters - shape.num_linear)
    return size * shape.num_parameters


def state_bytes(trained: int, frozen: int, training: TrainingConfig, *, num_processes: int) -> State:
    """The table above.

    Args:
        trained: Parameters trained.
        frozen: Bytes of the others.
    """
    stage, size = training.deepspeed.zero_stage, bytes_of(training.precision)
    own = _share(trained, num_processes)
    has_master = size != FLOAT32 or stage >= 1
    weights = size * trained + frozen
    return State(
        weights=_share(weights, num_processes) if stage == 3 else weights,
        gradients=size * (own if stage >= 2 else trained),
        optimizer=(3 if has_master else 2) * FLOAT32 * (own if stage >= 1 else trained),
        update=_update(trained if stage == 0 else own, training),
    )


def _update(own: int, training: TrainingConfig) -> int:
    if training.precision == "fp32":
        return 0
    return FLOAT32 * (min(own, STEP_ELEMENTS) if training.deepspeed.zero_stage == 3 else own)


def memory(shape: ModelShape, training: TrainingConfig, *, num_processes: int, processes_a_node: int) -> Memory:
    """Of training on `num_processes` GPUs."""
    chosen = training.deepspeed
    state = state_bytes(
        num_trained(shape, training), frozen_bytes(shape, training), training, num_processes=num_processes
    )
    activations, logits = activation_bytes(shape, training), logit_bytes(shape, training)
    update = 0 if chosen.offload_optimizer else state.update
    gpu = {
        "weights": 0 if chosen.offload_parameters else state.weights,
        "gathered weights": _gathered(shape, training),
        "gradients": 0 if chosen.offload_optimizer else state.gradients,
        "optimizer state": 0 if chosen.offload_optimizer else state.optimizer,
        "buckets": _buckets(shape, training, num_processes),
        "activations": activations,
        "logits": logits,
        # Activations are gone when the update comes: only what it needs beyond their room is added.
        "update": max(0, update - activations - logits),
    }
    gpu["fragmentation"] = int(FRAGMENTATION * sum(gpu.values()))
    gpu["CUDA context"] = CONTEXT_BYTES
    return Memory(gpu, _host(shape, training, state, processes_a_node))


def _gathered(shape: ModelShape, training: TrainingConfig) -> int:
    """Whole weights that stage 3 has collected from all processes to compute with."""
    if training.deepspeed.zero_stage != 3:
        return 0
    _, prefetched = stage_3_bucket_elements(shape.hidden_size)
    return bytes_of(training.precision) * min(shape.num_parameters, LIVE_ELEMENTS + prefetched)


def _buckets(shape: ModelShape, training: TrainingConfig, num_processes: int) -> int:
    """Buffers through which gradients are reduced."""
    size, stage = bytes_of(training.precision), training.deepspeed.zero_stage
    if stage == 3:
        return size * stage_3_bucket_elements(shape.hidden_size)[0]
    if stage:
        return size * 2 * BUCKET_ELEMENTS
    # Stage 0 flattens gradients, at most 500 million at once (engine.py, buffered_allreduce_fallback).
    return size * min(500_000_000, num_trained(shape, training)) if num_processes > 1 else 0


def _host(shape: ModelShape, training: TrainingConfig, state: State, processes: int) -> dict[str, int]:
    """Host memory of a node. Loading, training and exporting follow each other: the largest of the first and last is
    counted beside what is offloaded.
    """
    chosen, size = training.deepspeed, bytes_of(training.precision)
    whole = size * shape.num_parameters
    # Each process reads the whole base, but for one in 4 bits, which goes to the GPU file by file.
    loading = 0 if training.method == "qlora" else processes * whole
    # The first process merges adapters into the base in `precision`; at stage 3 it collects a fully trained model.
    exporting = whole
    offloaded = state.optimizer + state.gradients + state.update if chosen.offload_optimizer else 0
    offloaded += state.weights if chosen.offload_parameters else 0
    return {
        "loading or exporting": max(loading, exporting),
        "offloaded": processes * offloaded,
        "libraries": processes * LIBRARIES_BYTES,
    }


def checkpoint_bytes(shape: ModelShape, training: TrainingConfig) -> int:
    """One checkpoint of all processes: optimizer state with master weights, and the trained weights as DeepSpeed's
    module. Frozen weights are left out.
    """
    trained, size = num_trained(shape, training), bytes_of(training.precision)
    return (3 * FLOAT32 + size) * trained


def _share(amount: int, num_processes: int) -> int:
    return -(-amount // num_processes)
