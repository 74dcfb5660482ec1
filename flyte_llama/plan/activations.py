"""Bytes of activations and logits on a GPU.

Activations, the tensors that the forward pass keeps for the backward pass, follow Korthikanti et al. (arXiv 2205.05198,
section 4.1), adapted to Llama as transformers implements it: no tensor parallelism, RMSNorm, three linear layers
instead of two, grouped key-value heads, and attention that keeps no scores.

Tests compare `layer_activation_bytes`, which is exact, with the storages that autograd saves in a real forward pass on
a CPU, for full, LoRA and DoRA training, with and without dropout. With Liger's layers it was compared with peaks on a
GPU only (`benchmarks/RESULTS.md`). The working memory of the backward pass and the logits of the loss are upper bounds.
"""

from __future__ import annotations

from flyte_llama.config import ResolvedTraining
from flyte_llama.config.training import LOSS_CHUNK
from flyte_llama.plan.shape import ModelShape

FLOAT32 = 4


def activation_bytes(shape: ModelShape, training: ResolvedTraining) -> int:
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


def layer_activation_bytes(shape: ModelShape, training: ResolvedTraining, *, num_rows: int, mask_bytes: int = 1) -> int:
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
    # its weight is trained, the normalised input. Liger's keeps its input as it is, and normalises it again.
    normalised = size * hidden if is_full else 0
    token = 2 * (FLOAT32 + (size * hidden if training.liger else FLOAT32 * hidden + normalised))
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
    # SwiGLU computes silu(gate) · up and keeps gate, silu(gate) and up; Liger's computes silu(gate) again.
    token += size * (2 if training.liger else 3) * inner
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


def logit_bytes(shape: ModelShape, training: ResolvedTraining, *, chunk: int = LOSS_CHUNK) -> int:
    """Bytes of the cross entropy over `chunk` positions.

    Counts the logits and their gradient, and in float32 also the log-softmax; in bf16 a compiled loss holds none. In
    full fine-tuning the gradient of the output head is held once more.
    """
    size = bytes_per_number(training.precision)
    positions = min(chunk, training.micro_batch_size * training.seq_len)
    copies = 3 if training.precision == "fp32" else 2
    head = size * shape.num_head_weights if training.method == "full" else 0
    return positions * shape.vocab_size * size * copies + head


def bytes_per_number(precision: str) -> int:
    """Bytes of one number in `training.precision`."""
    return {"bf16": 2, "fp32": FLOAT32}[precision]


def _working_bytes(shape: ModelShape, training: ResolvedTraining) -> int:
    """Bytes of the gradients of a layer's widest activations, and of DoRA's copies of its largest weight matrix."""
    size, num_tokens = bytes_per_number(training.precision), training.micro_batch_size * training.seq_len
    gradients = size * (3 * shape.intermediate_size + 2 * shape.hidden_size) * num_tokens
    if training.method != "dora":
        return gradients
    adapted = shape.adapter_layers(training.lora.target_modules).values()
    return gradients + size * max(linear.num_inputs**2 + 3 * linear.num_weights for linear in adapted)


def _mask_bytes(training: ResolvedTraining) -> int:
    """Bytes of the attention mask, one square per row, as booleans and as numbers; fused GPU kernels need none."""
    if training.attention in ("sdpa", "eager"):
        return training.micro_batch_size * training.seq_len**2 * (1 + bytes_per_number(training.precision))
    return 0
