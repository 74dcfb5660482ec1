"""FLOPs of packed rows, and the throughput of a run. Pure arithmetic on lengths.

A product of an (m, k) by a (k, n) matrix is 2·m·k·n FLOPs; nothing else is counted, as in Kaplan et al. (arXiv
2001.08361, section 2.1) and PaLM (arXiv 2204.02311, appendix B), of which this differs in three ways: attention goes
by Σ length² of the documents in a row, not by the row's length squared; of a causal document half the square; and a
frozen weight has no gradient, so LoRA costs 4 FLOPs a weight and token, not 6.

Model FLOPs are what the arithmetic needs. Those that a GPU does again to save memory are counted apart, in
`Flops.recomputed`, and are no part of an MFU. Not counted at all: flash attention's own recomputation in the backward
pass, and what peft's DoRA does on whole weight matrices, once a layer and pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flyte_llama.config import TrainingConfig
from flyte_llama.plan.shape import ModelShape


@dataclass(frozen=True)
class Flops:
    model: int = 0
    recomputed: int = 0
    """Of activation checkpointing and of the output head, if its logits are not kept."""

    @property
    def hardware(self) -> int:
        return self.model + self.recomputed

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.model + other.model, self.recomputed + other.recomputed)

    def times(self, number: float) -> Flops:
        return Flops(round(self.model * number), round(self.recomputed * number))


def row_flops(
    shape: ModelShape,
    lengths: Iterable[int],
    *,
    training: TrainingConfig,
    bidirectional: Iterable[int] = (),
    num_labels: int | None = None,
    recomputed_labels: int = 0,
) -> Flops:
    """FLOPs of one row's forward and backward pass.

    Args:
        lengths: Tokens of each causal piece; padding is none.
        bidirectional: Tokens of each piece whose tokens all see each other.
        num_labels: Positions at which the output head is applied; None is all.
        recomputed_labels: Those of them whose logits the backward pass computes again.
    """
    causal, both = list(lengths), list(bidirectional)
    num_tokens = sum(causal) + sum(both)
    labels = num_tokens if num_labels is None else num_labels
    # Forward, all layers: queries by keys, and weights by values, 2 FLOPs each; half of the pairs in a causal piece.
    pairs = sum(length * length for length in causal) + 2 * sum(length * length for length in both)
    attention = 2 * shape.num_layers * shape.attention_size * pairs
    linear, head = 2 * shape.num_linear * num_tokens, 2 * shape.num_head * labels
    adapters = 2 * num_adapter_weights(shape, training) * num_tokens
    # The backward pass: gradients of inputs cost as much as the forward pass, those of trained weights as much again.
    weight_gradients = linear + head if training.method == "full" else 0
    model = 2 * (linear + head) + weight_gradients + 3 * adapters + 3 * attention
    recomputed = 2 * shape.num_head * recomputed_labels
    if training.activation_checkpointing:
        recomputed += linear + adapters + attention - 2 * _last_product(shape, training) * num_tokens
    return Flops(model, recomputed)


def num_adapter_weights(shape: ModelShape, training: TrainingConfig) -> int:
    """Weights of A and B over all layers, DoRA's norms left out: they multiply no matrix."""
    if training.method == "full":
        return 0
    return shape.num_adapter(training.lora.target_modules, training.lora.rank)


def _last_product(shape: ModelShape, training: TrainingConfig) -> int:
    """Weights, over all layers, that recomputation leaves out.

    torch's checkpointing stops when it has all that the backward pass asks for, and nothing asks for what a layer's
    last product gave: `down_proj`, or where that has an adapter, which runs after it, the adapter's B.
    """
    down = shape.linears["mlp.down_proj"]
    if training.method == "full":
        return shape.num_layers * down.num_weights
    if "mlp.down_proj" in shape.adapted(training.lora.target_modules):
        return shape.num_layers * down.num_outputs * training.lora.rank
    return shape.num_layers * down.num_weights


@dataclass(frozen=True)
class Throughput:
    """Sums over steps; every figure is one division at the end. Seconds of evaluation and saving do not belong here."""

    num_tokens: int = 0
    """Over all GPUs, padding left out."""

    flops: Flops = Flops()
    seconds: float = 0.0

    def __add__(self, other: Throughput) -> Throughput:
        return Throughput(self.num_tokens + other.num_tokens, self.flops + other.flops, self.seconds + other.seconds)

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds if self.seconds else 0.0

    def mfu(self, peak_flops: float, num_gpus: int) -> float:
        """Model FLOPs utilisation: the share of all GPUs' peak that the model's own arithmetic took."""
        return self.flops.model / (self.seconds * peak_flops * num_gpus) if self.seconds else 0.0
