"""The table of GPUs."""

from __future__ import annotations

import pytest
from flytekit.extras import accelerators

from flyte_llama.plan import ACCELERATORS, recognise


def test_every_name_is_one_of_flytekits():
    assert all(hasattr(accelerators, name) for name in ACCELERATORS)


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("A100-PCIE-40GB", "A100"),
        ("NVIDIA A100-SXM4-80GB", "A100_80GB"),
        ("NVIDIA A100 80GB PCIe", "A100_80GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
    ],
)
def test_a_device_is_recognised_by_torchs_name_for_it(device: str, name: str):
    found = recognise(device)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("device", ["NVIDIA GH200 480GB", "NVIDIA H100 PCIe", "NVIDIA H200 NVL", "NVIDIA L40", "CPU"])
def test_a_device_of_another_rate_is_not_taken_for_one_that_is_known(device: str):
    assert recognise(device) is None


def test_bf16_is_a_rate_of_its_own_that_a_t4_does_not_have():
    assert ACCELERATORS["T4"].peak_flops("bf16") is None
    assert ACCELERATORS["H200"].peak_flops("bf16") == 989e12
    assert ACCELERATORS["A100"].peak_flops("fp32") == 19.5e12
