"""FLOPs of packed rows, the throughput of a run, and the GPUs' peak rates. Arithmetic on numbers; queries no device.

The product of an (m, k) and a (k, n) matrix takes 2·m·k·n FLOPs; nothing else is counted, as in Kaplan et al. (arXiv
2001.08361, section 2.1) and PaLM (arXiv 2204.02311, appendix B). Three things differ from these papers:

- attention costs the sum of length² over the documents of a row, not the square of the row's length;
- a causal document costs half of its square;
- a frozen weight has no gradient, so LoRA costs 4 FLOPs per weight and token, not 6.

Model FLOPs are the ones that the arithmetic needs. FLOPs that a GPU repeats to save memory are counted separately, in
`Flops.recomputed`, and do not enter the MFU. Two things are not counted at all: the recomputation inside flash
attention's backward pass, and the work of peft's DoRA on whole weight matrices, once per layer and pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from flyte_llama.config import ResolvedTraining, TrainingConfig
from flyte_llama.plan.shape import ModelShape

GIB = 2**30
TERA = 10**12


@dataclass(frozen=True)
class Flops:
    """FLOPs that the model's arithmetic needs, and FLOPs that are repeated to save memory."""

    model: int = 0
    recomputed: int = 0
    """By activation checkpointing, and by the output head where its logits are not kept."""

    @property
    def hardware(self) -> int:
        """All FLOPs that the GPUs execute."""
        return self.model + self.recomputed

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.model + other.model, self.recomputed + other.recomputed)

    def times(self, factor: float) -> Flops:
        return Flops(round(self.model * factor), round(self.recomputed * factor))


@dataclass(frozen=True)
class Throughput:
    """Sums over steps; each rate is one division at the end. Seconds of evaluation and saving do not belong here."""

    num_tokens: int = 0
    """Over all GPUs, without padding."""

    flops: Flops = Flops()
    seconds: float = 0.0

    def __add__(self, other: Throughput) -> Throughput:
        return Throughput(self.num_tokens + other.num_tokens, self.flops + other.flops, self.seconds + other.seconds)

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds if self.seconds else 0.0

    def mfu(self, peak_flops: float, num_gpus: int) -> float:
        """Model FLOPs utilisation: the model's FLOPs as a share of what all GPUs could do at their peak."""
        return self.flops.model / (self.seconds * peak_flops * num_gpus) if self.seconds else 0.0


@dataclass(frozen=True)
class Accelerator:
    """One type of GPU."""

    name: str
    """The name in flytekit.extras.accelerators, which FLYTE_LLAMA_GPU may give."""

    bf16_flops: float | None
    """Peak FLOP/s in bf16, dense; None if the GPU has no bf16."""

    fp32_flops: float
    """Peak FLOP/s in float32 without tensor cores: torch uses them (TF32) for float32 only when asked to."""

    memory_bytes: int
    dollars_an_hour: float
    """Rough on-demand price of one GPU."""

    device_names: str
    """Regular expression that matches the whole of `torch.cuda.get_device_name()`."""

    def peak_flops(self, precision: str) -> float | None:
        """Peak FLOP/s in `training.precision`; None if the GPU does not support it."""
        return self.bf16_flops if precision == "bf16" else self.fp32_flops


def _gpu(name: str, bf16: float | None, fp32: float, gib: float, price: float, device_names: str) -> Accelerator:
    peak = bf16 * TERA if bf16 else None
    return Accelerator(name, peak, fp32 * TERA, int(gib * GIB), price, device_names)


ACCELERATORS = {
    gpu.name: gpu
    for gpu in (
        _gpu("T4", None, 8.1, 14.5, 0.5, r"Tesla T4"),
        _gpu("A10G", 70, 35, 22.0, 1.0, r"NVIDIA A10G"),
        _gpu("L4", 121, 30.3, 22.0, 0.8, r"NVIDIA L4"),
        _gpu("L40S", 362, 91.6, 44.3, 1.9, r"NVIDIA L40S"),
        _gpu("A100", 312, 19.5, 39.3, 2.0, r"(NVIDIA )?A100-(SXM4|PCIE)-40GB"),
        _gpu("A100_80GB", 312, 19.5, 79.1, 2.5, r"(NVIDIA )?A100(-SXM4-80GB|-PCIE-80GB| 80GB PCIe)"),
        _gpu("H100", 989, 67, 79.1, 4.0, r"NVIDIA H100( 80GB HBM3)?"),
        _gpu("H200", 989, 67, 139.7, 5.0, r"NVIDIA H200"),
    )
}
"""Peak rate, memory and rough price of each GPU, by flytekit's name for it.

Rates are FLOP/s on dense matrices, for the SXM part where there are several. (Vendors also print twice as much, "with
sparsity", for matrices with zeros in half of their entries.)

| GPU | bf16, fp32 | source: NVIDIA's data sheets |
|---|---|---|
| T4 | fp16 65, fp32 8.1 TFLOP/s; has no bf16 | "NVIDIA T4 Tensor Core GPU", 2019 |
| A10G | 70, 35 | "NVIDIA A10G" for AWS G5: 140 with sparsity |
| L4 | 121, 30.3 | "NVIDIA L4 Tensor Core GPU", 2023: 242 with sparsity |
| L40S | 362, 91.6 | "NVIDIA L40S", 2023 |
| A100 | 312, 19.5 | "NVIDIA A100 Tensor Core GPU", 2020; 40 and 80 GB alike |
| H100 SXM, H200 SXM | 989, 67 | "NVIDIA H100", 2023: 1,979 with sparsity; "NVIDIA H200", 2024 |

Memory is the amount that a CUDA program can use, rounded down: some percent below the data sheet's, because of error
correction and the driver. Prices are round on-demand figures, good only for a rough cost: `--price` overrides them."""


def row_flops(
    shape: ModelShape,
    lengths: Iterable[int],
    *,
    training: ResolvedTraining,
    bidirectional: Iterable[int] = (),
    num_labels: int | None = None,
    recomputed_labels: int = 0,
) -> Flops:
    """FLOPs of one row's forward and backward pass.

    Args:
        lengths: Tokens of each causal sequence, without padding.
        bidirectional: Tokens of each sequence where all tokens see each other.
        num_labels: Number of positions at which the output head is applied; None means all.
        recomputed_labels: How many of these have their logits computed again in the backward pass.
    """
    causal, both_ways = list(lengths), list(bidirectional)
    num_tokens = sum(causal) + sum(both_ways)
    labels = num_tokens if num_labels is None else num_labels
    # Forward pass. Attention multiplies queries by keys and scores by values, 2 FLOPs each for every pair of tokens; a
    # causal sequence has half of the pairs, which cancels one factor of 2.
    pairs = sum(length * length for length in causal) + 2 * sum(length * length for length in both_ways)
    attention = 2 * shape.num_layers * shape.attention_size * pairs
    linear, head = 2 * shape.num_linear_weights * num_tokens, 2 * shape.num_head_weights * labels
    adapters = 2 * num_adapter_weights(shape, training) * num_tokens
    # Backward pass: gradients of inputs cost as much as the forward pass, gradients of trained weights as much again.
    weight_gradients = linear + head if training.method == "full" else 0
    model = 2 * (linear + head) + weight_gradients + 3 * adapters + 3 * attention
    recomputed = 2 * shape.num_head_weights * recomputed_labels
    if training.activation_checkpointing:
        recomputed += linear + adapters + attention - 2 * _last_product_weights(shape, training) * num_tokens
    return Flops(model, recomputed)


def num_adapter_weights(shape: ModelShape, training: TrainingConfig) -> int:
    """Weights of the adapters' A and B over all layers. DoRA's magnitudes are left out: they multiply no matrix."""
    if training.method == "full":
        return 0
    return shape.num_adapter_parameters(training.lora.target_modules, training.lora.rank)


def known_gpu(name: str) -> Accelerator | None:
    """The GPU of a name in FLYTE_LLAMA_GPU: a key of `ACCELERATORS`, or a node label's value that holds such a name.

    nvidia-h100-80gb and NVIDIA-H100-80GB-HBM3 are an H100. None for any other card, and for a part of a card (MIG).
    """
    if name in ACCELERATORS:
        return ACCELERATORS[name]
    words = re.split(r"[^a-z0-9]+", name.lower())
    key = next((word.upper() for word in words if word.upper() in ACCELERATORS), None)
    if key is None or "mig" in words:
        return None
    return ACCELERATORS["A100_80GB" if key == "A100" and "80gb" in words else key]


def recognise(device_name: str) -> Accelerator | None:
    """The GPU that torch calls `device_name`, or None if it is unknown: a guessed peak would give a wrong MFU.

    An H100 PCIe or NVL is unknown, because it does not reach the rate of the H100 SXM.
    """
    return next((gpu for gpu in ACCELERATORS.values() if re.fullmatch(gpu.device_names, device_name)), None)


def _last_product_weights(shape: ModelShape, training: TrainingConfig) -> int:
    """Weights, over all layers, that recomputation does not multiply again.

    torch's checkpointing stops once it has every tensor that the backward pass needs, and the result of a layer's last
    product is never needed. The last product is `down_proj`, or the B of its adapter, which runs after it. A fused
    adapter (`model.adapted_linear`) runs as one and is repeated whole.
    """
    down = shape.linears["mlp.down_proj"]
    if training.method == "full":
        return shape.num_layers * down.num_weights
    if "mlp.down_proj" in shape.adapter_layers(training.lora.target_modules):
        if training.method != "dora" and not training.lora.dropout and training.deepspeed.zero_stage < 3:
            return 0
        return shape.num_layers * down.num_outputs * training.lora.rank
    return shape.num_layers * down.num_weights
