"""Bytes of activations: what the forward pass keeps for the backward pass, and the logits of the loss.

After Korthikanti et al. (arXiv 2205.05198, section 4.1), for Llama as transformers writes it: no tensor parallelism,
RMSNorm, three linear layers instead of two, grouped key-value heads, and attention that keeps no scores.

`kept_by_layer` is exact: a test sums the storages that autograd saves in a real forward pass, in both precisions, full,
LoRA and DoRA, with and without dropout. What the backward pass needs beside it (`working`), and the loss, are bounds.
"""

from __future__ import annotations

from flyte_llama.config import TrainingConfig
from flyte_llama.model.loss import LOSS_CHUNK
from flyte_llama.plan.shape import ModelShape

FLOAT32 = 4


def bytes_of(precision: str) -> int:
    """A number of `training.precision`."""
    return {"bf16": 2, "fp32": FLOAT32}[precision]


def kept_by_layer(shape: ModelShape, training: TrainingConfig, *, num_rows: int, mask_bytes: int = 1) -> int:
    """Bytes that one decoder layer keeps for the backward pass of `num_rows` rows.

    Args:
        mask_bytes: Of an entry of dropout's mask: 1 on a GPU, on a CPU as much as an activation.
    """
    size, num_tokens = bytes_of(training.precision), num_rows * training.seq_len
    hidden, inner, heads = shape.hidden_size, shape.intermediate_size, shape.attention_size
    is_full = training.method == "full"
    adapted = {} if is_full else shape.adapted(training.lora.target_modules)
    dropout = not is_full and training.lora.dropout > 0
    # A norm: its input in float32, one number a token, and for the gradient of its weight what it was multiplied by.
    token = 2 * (FLOAT32 * hidden + FLOAT32 + (size * hidden if is_full else 0))
    inputs = {("q_proj", "k_proj", "v_proj"): hidden, ("gate_proj", "up_proj"): hidden, ("down_proj",): inner}
    kv = shape.num_kv_heads * shape.head_dim
    if training.attention == "eager":
        # Queries, and keys and values repeated for every head; the scores' softmax in float32, and rounded.
        token += size * 3 * heads + shape.num_heads * training.seq_len * (FLOAT32 + (size if size != FLOAT32 else 0))
        inputs[("o_proj",)] = heads
    else:
        # Queries, keys, values, and what attention makes of them, with one number a head.
        token += size * (2 * heads + 2 * kv) + FLOAT32 * shape.num_heads
    # SwiGLU: both halves and the gate's activation, for two products of activations.
    token += size * 3 * inner
    # The input of a linear layer is kept if it has a weight to train; a frozen one needs none, and behind dropout it is
    # another tensor, counted below.
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


def activation_bytes(shape: ModelShape, training: TrainingConfig) -> int:
    """The most that a micro-batch's activations and their gradients take, logits left out."""
    rows, size = training.micro_batch_size, bytes_of(training.precision)
    num_tokens = rows * training.seq_len
    layer = kept_by_layer(shape, training, num_rows=rows)
    # With checkpointing a layer keeps its input alone, and the backward pass makes one layer's activations anew.
    kept = shape.num_layers * size * shape.hidden_size * num_tokens + layer
    if not training.activation_checkpointing:
        kept = shape.num_layers * layer
    last_norm = (FLOAT32 + 2 * size) * shape.hidden_size * num_tokens
    return kept + last_norm + _working(shape, training) + _masks(training)


def _working(shape: ModelShape, training: TrainingConfig) -> int:
    """Gradients of a layer's widest activations, and DoRA's copies of the largest weight matrix."""
    size, num_tokens = bytes_of(training.precision), training.micro_batch_size * training.seq_len
    gradients = size * (3 * shape.intermediate_size + 2 * shape.hidden_size) * num_tokens
    if training.method != "dora":
        return gradients
    adapted = shape.adapted(training.lora.target_modules).values()
    return gradients + size * max(linear.num_inputs**2 + 3 * linear.num_weights for linear in adapted)


def _masks(training: TrainingConfig) -> int:
    """Which token sees which, one square a row, as booleans and as numbers; the kernels of a GPU need none."""
    if training.attention in ("sdpa", "eager"):
        return training.micro_batch_size * training.seq_len**2 * (1 + bytes_of(training.precision))
    return 0


def logit_bytes(shape: ModelShape, training: TrainingConfig, *, chunk: int = LOSS_CHUNK) -> int:
    """Cross entropy on `chunk` positions: logits, their logarithmic softmax and its gradient in float32; in bf16 the
    logits and their gradient in that too. With all weights trained, the gradient of the output head once more.
    """
    size = bytes_of(training.precision)
    positions = min(chunk, training.micro_batch_size * training.seq_len)
    rounded = 2 * size if size != FLOAT32 else 0
    head = size * shape.num_head if training.method == "full" else 0
    return positions * shape.vocab_size * (3 * FLOAT32 + rounded) + head
