"""What each GPU can do at most, by the name that flytekit gives it.

Rates are those of dense matrices (vendors print twice that, for matrices half of whose entries are zero), in FLOP/s,
of the SXM part where there are several:

| GPU | bf16, fp32 | source: NVIDIA's data sheets |
|---|---|---|
| T4 | fp16 65, fp32 8.1 TFLOP/s; has no bf16 | "NVIDIA T4 Tensor Core GPU", 2019 |
| A10G | 70, 35 | "NVIDIA A10G" for AWS G5: 140 with sparsity |
| L4 | 121, 30.3 | "NVIDIA L4 Tensor Core GPU", 2023: 242 with sparsity |
| L40S | 362, 91.6 | "NVIDIA L40S", 2023 |
| A100 | 312, 19.5 | "NVIDIA A100 Tensor Core GPU", 2020; 40 and 80 GB alike |
| H100 SXM, H200 SXM | 989, 67 | "NVIDIA H100", 2023: 1,979 with sparsity; "NVIDIA H200", 2024 |

Memory is what a CUDA program finds, some percent below the data sheet's (error correction, the driver's own), rounded
down. Prices are round figures of on-demand clouds, for a rough cost alone: `--price` overrides them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GIB = 2**30
TERA = 10**12


@dataclass(frozen=True)
class Accelerator:
    name: str
    """As in flytekit.extras.accelerators and FLYTE_LLAMA_GPU."""

    bf16_flops: float | None
    """Peak FLOP/s in bf16, dense; None where there is no bf16."""

    fp32_flops: float
    """Peak FLOP/s in float32, without tensor cores: torch uses them (TF32) for float32 only when asked to."""

    memory_bytes: int
    dollars_an_hour: float
    """Rough price of one GPU on demand."""

    device_names: str
    """Regular expression of what `torch.cuda.get_device_name()` says, whole."""

    def peak_flops(self, precision: str) -> float | None:
        """Of `training.precision`; None where the GPU does not have it."""
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


def recognise(device_name: str) -> Accelerator | None:
    """The GPU of that name (torch's), or None: a peak that is not known would make an MFU that is not true.

    An H100 PCIe or NVL is not an H100 here: they reach other rates.
    """
    return next((gpu for gpu in ACCELERATORS.values() if re.fullmatch(gpu.device_names, device_name)), None)
