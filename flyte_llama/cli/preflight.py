"""The command `flyte-llama plan`: settings and what is known of the corpus → a plan, and its text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from flyte_llama.config import ExperimentConfig, TrainingConfig
from flyte_llama.errors import ConfigError
from flyte_llama.manifest import verify
from flyte_llama.packing import TABLE
from flyte_llama.plan import ACCELERATORS, Cluster, Corpus, ModelShape, Plan, corpus_flops, make_plan, model_shape
from flyte_llama.plan.accelerators import GIB
from flyte_llama.settings import read_settings

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def planned(
    config: ExperimentConfig,
    *,
    gpu: str | None,
    gpus: int | None,
    nodes: int | None,
    tokens: int | None,
    rows: Path | None,
    price: float | None,
) -> Plan:
    """The plan; what is not given comes from the environment's settings.

    Raises:
        ConfigError: if the settings name a GPU whose figures are not known, or an amount that is none.
        DataError: if the rows are damaged.
        ModelError: if the model's config.json cannot be had, or is of a kind that cannot be planned for.
    """
    settings = read_settings()
    name = gpu or settings.gpu
    if name not in ACCELERATORS:
        raise ConfigError(f"FLYTE_LLAMA_GPU = {name}: has no figures here. Use one of {', '.join(ACCELERATORS)}.")
    cluster = Cluster(
        gpu=name,
        gpus_a_node=gpus or settings.gpu_count,
        nodes=nodes or settings.nodes,
        # Where another number of GPUs is asked about than pods are registered with, the pod's memory says nothing.
        host_bytes=_amount("GPU_MEMORY", settings.gpu_memory) if gpus in (None, settings.gpu_count) else None,
        storage_bytes=_amount("GPU_STORAGE", settings.gpu_storage),
        dollars_an_hour=price,
    )
    shape = model_shape(config.model)
    return make_plan(config, shape, cluster, _corpus(config, shape, tokens, rows))


def _amount(name: str, text: str) -> int:
    """Bytes of a quantity as Kubernetes writes it."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(\w*)", text)
    if not found or found[2] not in UNITS:
        raise ConfigError(f"FLYTE_LLAMA_{name} = {text!r}: is no amount of bytes. Write it as 400Gi.")
    return int(float(found[1]) * UNITS[found[2]])


def _corpus(config: ExperimentConfig, shape: ModelShape, tokens: int | None, rows: Path | None) -> Corpus | None:
    seq_len = config.training.seq_len
    if tokens is not None:
        return Corpus(num_tokens=tokens, num_rows=-(-tokens // seq_len), seq_len=seq_len)
    return read_corpus(rows, shape, config.training) if rows is not None else None


def read_corpus(folder: Path, shape: ModelShape, training: TrainingConfig) -> Corpus:
    """What the packed rows of a folder hold: an epoch's rows, and the average epoch's tokens and FLOPs."""
    import pyarrow as pa

    manifest = verify(folder)
    with pa.memory_map(str(folder / TABLE)) as source, pa.ipc.open_stream(source) as stream:
        table = stream.read_all().select(["length", "bidirectional"])
    pieces: dict[bool, list[int]] = {False: [], True: []}
    for lengths, both_ways in zip(table["length"].to_pylist(), table["bidirectional"].to_pylist(), strict=True):
        pieces[both_ways] += lengths
    rows_per_epoch = manifest["rows_per_epoch"]
    share = rows_per_epoch[0] / sum(rows_per_epoch)
    flops = corpus_flops(shape, training, pieces[False], bidirectional=pieces[True])
    return Corpus(
        num_tokens=round(manifest["num_tokens"] * share),
        num_rows=rows_per_epoch[0],
        seq_len=manifest["seq_len"],
        flops=flops.times(share),
    )


def rendered(plan: Plan, config: ExperimentConfig) -> str:
    """The plan as aligned text, problems last."""
    training, num_gpus = config.training, plan.gpus_a_node * plan.nodes
    share = plan.num_trainable / plan.num_parameters
    lines = [
        f"parameters  {plan.num_parameters:,}; {plan.num_trainable:,} trained ({share:.2%}), method {training.method}",
        f"on          {num_gpus} x {plan.gpu}, {plan.nodes} node{'s' if plan.nodes > 1 else ''}; "
        f"ZeRO-{training.deepspeed.zero_stage}, {training.precision}, {training.micro_batch_size} x "
        f"{training.seq_len:,} tokens at once a GPU",
        "",
        *_table("memory of a GPU", plan.gpu_bytes, plan.gpu_capacity_bytes),
        "",
        *_table("memory of a node", plan.host_bytes, plan.host_capacity_bytes),
        "",
        *_work(plan),
        f"disk        {_gib(plan.disk_bytes)}{_of(plan.storage_bytes)}: base, {training.keep_checkpoints} checkpoints "
        f"and one being written of {_gib(plan.checkpoint_bytes)} each, the fine-tuned model",
        "",
    ]
    if plan.fits:
        return "\n".join([*lines, "fits"])
    count = f"{len(plan.problems)} problem{'s' if len(plan.problems) > 1 else ''}:"
    return "\n  - ".join(["\n".join([*lines, count]), *plan.problems])


def _table(title: str, parts: dict[str, int], capacity: int | None) -> Iterable[str]:
    yield title
    for name, amount in parts.items():
        if amount:
            yield f"  {name:<22}{_gib(amount):>12}"
    yield f"  {'at most':<22}{_gib(sum(parts.values())):>12}{_of(capacity)}"


def _of(capacity: int | None) -> str:
    return f" of {_gib(capacity)}" if capacity is not None else ""


def _work(plan: Plan) -> Iterable[str]:
    if plan.tokens_are_known:
        yield f"tokens      {plan.num_tokens:,} in {plan.num_steps:,} steps"
    else:
        yield f"tokens      not known before encoding: per {plan.num_tokens:,} (say --tokens or --rows)"
    yield f"arithmetic  {_flop(plan.model_flops)} of the model, {_flop(plan.recomputed_flops)} again to save memory"
    if plan.hours is None or plan.dollars is None:
        return
    low, high = plan.mfu
    fast, slow = plan.hours
    unit, scale = ("h", 1) if slow >= 1 else ("min", 60) if slow * 60 >= 1 else ("s", 3600)
    yield f"time        {fast * scale:,.1f} to {slow * scale:,.1f} {unit} at an assumed MFU of {high:.0%} to {low:.0%}"
    price = f"{plan.dollars_an_hour:,.2f} a GPU hour (--price)"
    yield f"cost        {plan.dollars[0]:,.2f} to {plan.dollars[1]:,.2f} dollars at {price}"


def _flop(amount: int) -> str:
    """In the largest unit of which it is at least one."""
    for name, unit in (("EFLOP", 10**18), ("PFLOP", 10**15), ("TFLOP", 10**12)):
        if amount >= unit:
            return f"{amount / unit:,.1f} {name}"
    return f"{amount / 10**9:,.1f} GFLOP"


def _gib(amount: int) -> str:
    return f"{amount / GIB:,.2f} GiB" if amount >= GIB / 10 else f"{amount / 2**20:,.1f} MiB"
