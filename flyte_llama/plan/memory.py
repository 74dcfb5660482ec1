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

An update first converts bf16 gradients to float32: 4 bytes for each parameter of the process at stages 0 to 2, and for
at most `STEP_ELEMENTS` parameters at stage 3. At stage 2, if a process's share ends inside a parameter, the process
keeps the whole gradient of that parameter too. Adapters are trained weights: DeepSpeed casts them to bf16 with the rest
and keeps float32 masters. QLoRA's frozen linear layers take 0.516 bytes per weight: 4 bits, an 8-bit constant for every
64 weights, and a float32 constant for every 256 of those constants (Dettmers et al., arXiv 2305.14314, section 3).

**Activations**, the tensors that the forward pass keeps for the backward pass, follow Korthikanti et al. (arXiv
2205.05198, section 4.1), adapted to Llama as transformers implements it: no tensor parallelism, RMSNorm, three linear
layers instead of two, grouped key-value heads, and attention that keeps no scores.

Tests compare with measurements on a CPU: gradients and state of stages 0 to 3 with the tensors of real DeepSpeed runs
of one and two processes; `layer_activation_bytes`, which is exact, with the storages that autograd saves in a real
forward pass, for full, LoRA and DoRA training, with and without dropout. The working memory of the backward pass and
the logits of the loss are upper bounds. Buffers and gathered weights follow DeepSpeed's source, and fragmentation, the
CUDA context and the libraries are estimates; none of these is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from flyte_llama.config import TrainingConfig
from flyte_llama.config.training import LOSS_CHUNK
from flyte_llama.plan.deepspeed import BUCKET_ELEMENTS, LIVE_ELEMENTS, STEP_ELEMENTS, stage_3_bucket_elements
from flyte_llama.plan.flops import GIB
from flyte_llama.plan.shape import ModelShape

FLOAT32 = 4

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
    shape: ModelShape, training: TrainingConfig, *, num_processes: int, processes_per_node: int
) -> Memory:
    """The memory for training on `num_processes` GPUs, `processes_per_node` of them on each node."""
    deepspeed = training.deepspeed
    state = state_bytes(
        num_trained(shape, training), frozen_bytes(shape, training), training, num_processes=num_processes
    )
    activations, logits = activation_bytes(shape, training), logit_bytes(shape, training)
    update = 0 if deepspeed.offload_optimizer else state.update
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


def activation_bytes(shape: ModelShape, training: TrainingConfig) -> int:
    """Peak bytes of a micro-batch's activations and their gradients, without the logits."""
    num_rows, size = training.micro_batch_size, bytes_per_number(training.precision)
    num_tokens = num_rows * training.seq_len
    layer = layer_activation_bytes(shape, training, num_rows=num_rows)
    # With checkpointing each layer keeps only its input, and the backward pass recomputes one layer at a time.
    saved = shape.num_layers * size * shape.hidden_size * num_tokens + layer
    if not training.activation_checkpointing:
        saved = shape.num_layers * layer
    last_norm = (FLOAT32 + 2 * size) * shape.hidden_size * num_tokens
    return saved + last_norm + _working_bytes(shape, training) + _mask_bytes(training)


def layer_activation_bytes(shape: ModelShape, training: TrainingConfig, *, num_rows: int, mask_bytes: int = 1) -> int:
    """Bytes that one decoder layer keeps for the backward pass over `num_rows` rows.

    Args:
        mask_bytes: Size of an entry of the dropout mask: 1 on a GPU, the size of an activation on a CPU.
    """
    size, num_tokens = bytes_per_number(training.precision), num_rows * training.seq_len
    hidden, inner, heads = shape.hidden_size, shape.intermediate_size, shape.attention_size
    is_full = training.method == "full"
    adapted = {} if is_full else shape.adapter_layers(training.lora.target_modules)
    dropout = not is_full and training.lora.dropout > 0
    # All sizes below are bytes per token. Each of the two norms keeps its input in float32, one scale per token and, if
    # its weight is trained, the normalised input.
    token = 2 * (FLOAT32 * hidden + FLOAT32 + (size * hidden if is_full else 0))
    inputs = {("q_proj", "k_proj", "v_proj"): hidden, ("gate_proj", "up_proj"): hidden, ("down_proj",): inner}
    kv = shape.num_kv_heads * shape.head_dim
    if training.attention == "eager":
        # Queries, and keys and values repeated for every head; the softmax of the scores in float32 and, in bf16, once
        # more rounded to bf16.
        token += size * 3 * heads + shape.num_heads * training.seq_len * (FLOAT32 + (size if size != FLOAT32 else 0))
        inputs[("o_proj",)] = heads
    else:
        # Queries, keys, values and the attention output, and one float32 normaliser per head.
        token += size * (2 * heads + 2 * kv) + FLOAT32 * shape.num_heads
    # SwiGLU computes silu(gate) · up and keeps gate, silu(gate) and up.
    token += size * 3 * inner
    # A linear layer keeps its input only to train its weight or its adapter. With dropout, an adapter keeps the tensor
    # that comes out of the dropout instead: it is counted below.
    for names, width in inputs.items():
        if is_full or (not dropout and any(full.split(".")[1] in names for full in adapted)):
            token += size * width
    for linear in adapted.values():
        token += size * training.lora.rank
        if dropout:
            token += (size + mask_bytes) * linear.num_inputs
        if training.method == "dora":
            token += 2 * size * linear.num_outputs
    return token * num_tokens


def logit_bytes(shape: ModelShape, training: TrainingConfig, *, chunk: int = LOSS_CHUNK) -> int:
    """Bytes of the cross entropy over `chunk` positions.

    Counts the logits, their log-softmax and its gradient in float32; in bf16 also the logits and their gradient in
    bf16. In full fine-tuning the gradient of the output head is held once more.
    """
    size = bytes_per_number(training.precision)
    positions = min(chunk, training.micro_batch_size * training.seq_len)
    rounded = 2 * size if size != FLOAT32 else 0
    head = size * shape.num_head_weights if training.method == "full" else 0
    return positions * shape.vocab_size * (3 * FLOAT32 + rounded) + head


def bytes_per_number(precision: str) -> int:
    """Bytes of one number in `training.precision`."""
    return {"bf16": 2, "fp32": FLOAT32}[precision]


def _update_bytes(share: int, training: TrainingConfig) -> int:
    if training.precision == "fp32":
        return 0
    return FLOAT32 * (min(share, STEP_ELEMENTS) if training.deepspeed.zero_stage == 3 else share)


def _share(total: int, num_processes: int) -> int:
    """The part of `total` on one process, rounded up."""
    return -(-total // num_processes)


def _working_bytes(shape: ModelShape, training: TrainingConfig) -> int:
    """Bytes of the gradients of a layer's widest activations, and of DoRA's copies of its largest weight matrix."""
    size, num_tokens = bytes_per_number(training.precision), training.micro_batch_size * training.seq_len
    gradients = size * (3 * shape.intermediate_size + 2 * shape.hidden_size) * num_tokens
    if training.method != "dora":
        return gradients
    adapted = shape.adapter_layers(training.lora.target_modules).values()
    return gradients + size * max(linear.num_inputs**2 + 3 * linear.num_weights for linear in adapted)


def _mask_bytes(training: TrainingConfig) -> int:
    """Bytes of the attention mask, one square per row, as booleans and as numbers; fused GPU kernels need none."""
    if training.attention in ("sdpa", "eager"):
        return training.micro_batch_size * training.seq_len**2 * (1 + bytes_per_number(training.precision))
    return 0


def _gather_bytes(shape: ModelShape, training: TrainingConfig) -> int:
    """Bytes of the whole weights that stage 3 gathers from all processes to compute with."""
    if training.deepspeed.zero_stage != 3:
        return 0
    _, prefetched = stage_3_bucket_elements(shape.hidden_size)
    return bytes_per_number(training.precision) * min(shape.num_parameters, LIVE_ELEMENTS + prefetched)


def _bucket_bytes(shape: ModelShape, training: TrainingConfig, num_processes: int) -> int:
    """Bytes of the buffers that reduce gradients over the processes."""
    size, stage = bytes_per_number(training.precision), training.deepspeed.zero_stage
    if stage == 3:
        return size * stage_3_bucket_elements(shape.hidden_size)[0]
    if stage:
        return size * 2 * BUCKET_ELEMENTS
    # Stage 0 flattens up to 500 million gradients at once (engine.py, buffered_allreduce_fallback).
    return size * min(500_000_000, num_trained(shape, training)) if num_processes > 1 else 0


def _host_parts(shape: ModelShape, training: TrainingConfig, state: State, processes: int) -> dict[str, int]:
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
