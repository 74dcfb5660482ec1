"""The fastest micro-batch that fits a device, with activations kept or recomputed: `auto` → settings and the reason.

    choose_settings(shape, training, devices)         → Choice    the settings of a run on its devices
    choose_smaller(failed, shape, training, devices)  → Choice    after a GPU ran out of memory; None if there is none

Candidates are micro-batches of 1, 2, 4, … rows that divide the rows of a process, each with activations kept and
recomputed; a pinned setting is the only candidate for itself. Of those whose memory fits by the plan, with `MARGIN`,
the fastest is taken. Speed comes from two figures: the GPU computes at `SHARE_OF_PEAK` of its peak rate, and the host
takes `LAYER_S` to launch a layer's kernels, however many rows there are. The slower of the two sets the pace:

    seconds of a step = micro-batches · max(FLOPs of a micro-batch / rate, layers · LAYER_S)

A run gives the same result with any choice, but for rounding and the draw of dropout. Queries no device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flyte_llama.config import ResolvedTraining, TrainingConfig
from flyte_llama.plan.flops import ACCELERATORS, row_flops
from flyte_llama.plan.memory import Memory, estimate_memory
from flyte_llama.plan.shape import ModelShape
from flyte_llama.progress import bytes_text

MARGIN = 0.05
"""Share of a device's memory that a choice leaves free: the plan may be wrong by some percent."""

SHARE_OF_PEAK = 0.57
"""Share of its peak rate that a GPU reaches in large matrix products with all that is between them: full fine-tuning in
Code Llama 7B's shape on an H200, two rows of 4,096 at once, activations kept, Liger's kernels (2026-11-26)."""

LAYER_S = 0.010
"""Seconds that the host takes to launch the kernels of one layer, forward and backward: 0.29 s for the 30 layers of
SmolLM2-135M, whose kernels take a GPU hardly any time (H200, 2026-11-26). LoRA in Code Llama 7B's shape, one row at a
time, took 0.0102 (1.30 s for 8 rows and 16 layers, of which the GPU computed for 0.93; H200, 2026-11-27)."""

RECOMPUTED_LAYER_S = 0.015
"""The same if activations are recomputed, so that the forward pass is launched twice. LoRA in Code Llama 7B's shape
took 0.018 (568 ms for 32 layers), with kernels of its own for dropout and each document."""

WORTHWHILE = 0.03
"""Smallest gain in speed for which more memory is taken: free memory is worth more than less than that."""

SMALLER = 0.7
"""Largest share of a failed choice's activations and logits, by the plan, that the next choice may have."""

_FASTEST_PEAK = max(gpu.bf16_flops or 0.0 for gpu in ACCELERATORS.values())


@dataclass(frozen=True)
class Devices:
    """The GPUs of a run, one for each process."""

    name: str
    num_processes: int
    memory_bytes: int | None
    """Of one GPU; None if it is not known."""

    peak_flops: float | None
    """Peak FLOP/s of one GPU in the run's precision. None if it is not known: it then counts as the fastest known GPU,
    since most likely it is a newer one."""

    has_liger: bool
    """Whether Liger's kernels are installed where the run takes place."""


@dataclass(frozen=True)
class Choice:
    """The settings of a run on its devices, and why."""

    training: ResolvedTraining
    reason: str
    """One sentence for the log; empty if micro-batch and recomputation are pinned."""


@dataclass(frozen=True)
class _Candidate:
    training: ResolvedTraining
    memory: Memory
    step_s: float

    @property
    def batch_bytes(self) -> int:
        """The part of the memory that depends on micro-batch and recomputation."""
        return self.memory.gpu["activations"] + self.memory.gpu["logits"]


def choose_settings(
    shape: ModelShape | None, training: TrainingConfig, devices: Devices | None, *, model_name: str = "this model"
) -> Choice:
    """Choose what is `auto`.

    On a CPU, and where memory is not known, that is one row with recomputation, which takes the least memory.

    Args:
        shape: None if the plan does not cover the model.
        devices: None is a CPU.
        model_name: For the sentence, if there is no shape.
    """
    if devices is None:
        return _choice(training, training.resolved(), "the default on a CPU")
    least = training.resolved(liger=devices.has_liger)
    if devices.memory_bytes is None:
        return _choice(training, least, f"the memory of {devices.name} is not known, and this takes the least")
    if shape is None:
        return _choice(training, least, f"the plan does not cover {model_name}, and this takes the least memory")
    candidates = list(_candidates(shape, training, devices))
    fitting = [each for each in candidates if each.memory.gpu_bytes <= _usable_bytes(devices.memory_bytes)]
    best, what = _fastest(fitting), "the fastest that fits"
    if best is None:
        best, what = min(candidates, key=lambda each: (each.memory.gpu_bytes, each.batch_bytes)), "the least memory"
    needed, capacity = bytes_text(best.memory.gpu_bytes), bytes_text(devices.memory_bytes)
    return _choice(training, best.training, f"{what}, {needed} of {capacity} by the plan")


def choose_smaller(
    failed: Sequence[ResolvedTraining], shape: ModelShape, training: TrainingConfig, devices: Devices
) -> Choice | None:
    """Choose again after a GPU ran out of memory with each of `failed`; None if no candidate is small enough.

    The next choice is the fastest whose activations and logits take at most `SMALLER` of the smallest that failed.
    """
    smallest = min((_candidate(shape, each, devices) for each in failed), key=lambda each: each.batch_bytes)
    limit = SMALLER * smallest.batch_bytes
    best = _fastest([each for each in _candidates(shape, training, devices) if each.batch_bytes <= limit])
    if best is None:
        return None
    return _choice(training, best.training, f"the GPU ran out of memory with {describe_pair(smallest.training)}")


def fits(shape: ModelShape, training: ResolvedTraining, devices: Devices) -> bool:
    """Whether settings chosen on other devices fit these by the plan, with `MARGIN`; True if that is not known."""
    if devices.memory_bytes is None:
        return True
    return _candidate(shape, training, devices).memory.gpu_bytes <= _usable_bytes(devices.memory_bytes)


def describe_pair(training: ResolvedTraining) -> str:
    """Name the micro-batch and whether activations are kept, for a sentence."""
    activations = "recomputed" if training.activation_checkpointing else "kept"
    return f"micro-batch {training.micro_batch_size}, activations {activations}"


def chooses_pair(training: TrainingConfig) -> bool:
    """Whether the micro-batch or recomputation is left to the run."""
    return "auto" in (training.micro_batch_size, training.activation_checkpointing)


def _candidates(shape: ModelShape, training: TrainingConfig, devices: Devices) -> Iterator[_Candidate]:
    """Yield the candidates; a pinned setting is the same in all of them."""
    rows, rest = divmod(training.global_batch_size, devices.num_processes)
    # If the batch cannot be split, one row is left; elsewhere the run is refused for it.
    sizes = [2**power for power in range(rows.bit_length()) if rows % 2**power == 0 and not rest] or [1]
    for size in sizes if training.micro_batch_size == "auto" else sizes[:1]:
        for is_recomputed in (True, False) if training.activation_checkpointing == "auto" else (True,):
            resolved = training.resolved(
                micro_batch_size=size, activation_checkpointing=is_recomputed, liger=devices.has_liger
            )
            yield _candidate(shape, resolved, devices)


def _candidate(shape: ModelShape, training: ResolvedTraining, devices: Devices) -> _Candidate:
    num_processes, size = devices.num_processes, training.micro_batch_size
    memory = estimate_memory(shape, training, num_processes=num_processes, processes_per_node=num_processes)
    # A row of one document, whose attention costs most. Nearly all logits are computed again in the backward pass.
    labels = training.seq_len - 1
    row = row_flops(shape, [training.seq_len], training=training, num_labels=labels, recomputed_labels=labels)
    device_s = size * row.hardware / (SHARE_OF_PEAK * (devices.peak_flops or _FASTEST_PEAK))
    host_s = shape.num_layers * (RECOMPUTED_LAYER_S if training.activation_checkpointing else LAYER_S)
    num_micro_batches = training.global_batch_size / (num_processes * size)
    return _Candidate(training, memory, num_micro_batches * max(host_s, device_s))


def _fastest(candidates: list[_Candidate]) -> _Candidate | None:
    """The candidate with the least memory of those that are at most `WORTHWHILE` slower than the fastest."""
    if not candidates:
        return None
    limit_s = (1 + WORTHWHILE) * min(each.step_s for each in candidates)
    return min(
        (each for each in candidates if each.step_s <= limit_s), key=lambda each: (each.memory.gpu_bytes, each.step_s)
    )


def _usable_bytes(memory_bytes: int) -> int:
    return int(memory_bytes * (1 - MARGIN))


def _choice(training: TrainingConfig, chosen: ResolvedTraining, why: str) -> Choice:
    return Choice(chosen, f"chose {describe_pair(chosen)}: {why}" if chooses_pair(training) else "")
