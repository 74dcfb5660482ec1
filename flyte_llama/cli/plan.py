"""The command `flyte-llama plan`: the configuration, the settings and the size of the corpus → a plan and its text."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from flyte_llama.config import ExperimentConfig, ResolvedTraining, batch_problems
from flyte_llama.encoding import TABLE
from flyte_llama.plan import (
    ACCELERATORS,
    Cluster,
    ModelShape,
    Plan,
    TokenCount,
    choose_settings,
    corpus_flops,
    known_gpu,
    make_plan,
    model_shape,
)
from flyte_llama.progress import bytes_text, say
from flyte_llama.settings import parse_bytes, read_settings
from flyte_llama.storage import verify

ASSUMED_GPU = "A100_80GB"
"""The GPU to plan for if the settings name none, or one without known figures."""


def make_plan_from_settings(
    config: ExperimentConfig,
    *,
    gpu: str | None,
    gpus: int | None,
    nodes: int | None,
    tokens: int | None,
    rows: Path | None,
    price: float | None,
) -> Plan:
    """Return the plan of a run; an argument left None comes from the environment's settings.

    A GPU without known figures is planned as `ASSUMED_GPU`, with a line on standard error.

    Raises:
        ConfigError: if a setting is invalid.
        DataError: if the rows are damaged.
        ModelError: if the model's config.json cannot be read, or its architecture cannot be planned for.
    """
    settings = read_settings()
    card = known_gpu(gpu or settings.gpu)
    if card is None:
        say(
            f"FLYTE_LLAMA_GPU = {settings.gpu}: no figures are known, so memory, time and cost are those of an "
            f"{ASSUMED_GPU}. --gpu plans for another: {', '.join(ACCELERATORS)}."
        )
    cluster = Cluster(
        gpu=card.name if card else ASSUMED_GPU,
        gpus_a_node=gpus or settings.gpu_count,
        nodes=nodes or settings.nodes,
        # The registered memory of a pod is for the registered number of GPUs; for another number it is unknown.
        host_bytes=parse_bytes(settings.gpu_memory) if gpus in (None, settings.gpu_count) else None,
        storage_bytes=parse_bytes(settings.gpu_storage),
        dollars_an_hour=price,
    )
    shape = model_shape(config.model)
    plan = make_plan(config, shape, cluster, _token_count(config, shape, cluster, tokens, rows))
    if gpus is not None or not batch_problems(config.training, cluster.num_gpus):
        return plan
    # Say where a number of GPUs that the user did not give comes from.
    origin = "come from" if os.environ.get("FLYTE_LLAMA_GPU_COUNT") else "are the default of"
    source = f" {settings.gpu_count} GPUs per node {origin} FLYTE_LLAMA_GPU_COUNT; --gpus gives another number."
    first, *others = plan.problems
    return plan.model_copy(update={"problems": [first + source, *others]})


def count_packed_rows(folder: Path, shape: ModelShape, training: ResolvedTraining) -> TokenCount:
    """Return the size of a folder of packed rows: the first epoch's rows, and their share of all tokens and FLOPs."""
    manifest = verify(folder)
    with pa.memory_map(str(folder / TABLE)) as source, pa.ipc.open_stream(source) as stream:
        table = stream.read_all().select(["length", "bidirectional"])
    pieces: dict[bool, list[int]] = {False: [], True: []}
    for lengths, both_ways in zip(table["length"].to_pylist(), table["bidirectional"].to_pylist(), strict=True):
        pieces[both_ways] += lengths
    rows_per_epoch = manifest["rows_per_epoch"]
    rows_before = manifest.get("rows_before", 0)
    share = rows_per_epoch[0] / (sum(rows_per_epoch) + rows_before)
    flops = corpus_flops(shape, training, pieces[False], bidirectional=pieces[True])
    return TokenCount(
        num_tokens=round(manifest["num_tokens"] * share),
        num_rows=rows_per_epoch[0],
        seq_len=manifest["seq_len"],
        rows_before=rows_before,
        flops=flops.times(share),
    )


def plan_text(plan: Plan, config: ExperimentConfig) -> str:
    """Return the plan as aligned text, with its problems at the end."""
    training, num_gpus = config.training, plan.gpus_a_node * plan.nodes
    share = plan.num_trainable / plan.num_parameters
    lines = [
        f"parameters  {plan.num_parameters:,}; {plan.num_trainable:,} trained ({share:.2%}), method {training.method}",
        f"on          {num_gpus} x {plan.gpu}, {plan.nodes} node{'s' if plan.nodes > 1 else ''}; "
        f"ZeRO-{training.deepspeed.zero_stage}, {training.precision}, {plan.micro_batch_size} x "
        f"{training.seq_len:,} tokens at once per GPU, activations "
        f"{'recomputed' if plan.activation_checkpointing else 'kept'}{', Liger kernels' if plan.liger else ''}",
        *([f"auto        {plan.choice}"] if plan.choice else []),
        "",
        *_memory_lines("memory of a GPU", plan.gpu_bytes, plan.gpu_capacity_bytes),
        "",
        *_memory_lines("memory of a node", plan.host_bytes, plan.host_capacity_bytes),
        "",
        *_run_lines(plan),
        f"disk        {bytes_text(plan.disk_bytes)}{_capacity_text(plan.storage_bytes)}: base, "
        f"{training.num_kept} checkpoints and one being written of {bytes_text(plan.checkpoint_bytes)} each, "
        "the fine-tuned model",
        "",
    ]
    if plan.fits:
        return "\n".join([*lines, "fits"])
    count = f"{len(plan.problems)} problem{'s' if len(plan.problems) > 1 else ''}:"
    return "\n  - ".join(["\n".join([*lines, count]), *plan.problems])


def _token_count(
    config: ExperimentConfig, shape: ModelShape, cluster: Cluster, tokens: int | None, rows: Path | None
) -> TokenCount | None:
    seq_len = config.training.seq_len
    if tokens is not None:
        return TokenCount(num_tokens=tokens, num_rows=-(-tokens // seq_len), seq_len=seq_len)
    if rows is None:
        return None
    choice = choose_settings(shape, config.training, cluster.devices(config.training))
    return count_packed_rows(rows, shape, choice.training)


def _memory_lines(title: str, parts: dict[str, int], capacity: int | None) -> Iterable[str]:
    yield title
    for name, num_bytes in parts.items():
        if num_bytes:
            yield f"  {name:<22}{bytes_text(num_bytes):>12}"
    yield f"  {'at most':<22}{bytes_text(sum(parts.values())):>12}{_capacity_text(capacity)}"


def _capacity_text(capacity: int | None) -> str:
    return f" of {bytes_text(capacity)}" if capacity is not None else ""


def _run_lines(plan: Plan) -> Iterable[str]:
    if plan.tokens_are_known:
        yield f"tokens      {plan.num_tokens:,} in {plan.num_steps:,} steps"
    else:
        yield f"tokens      not known before encoding: per {plan.num_tokens:,} (give --tokens or --rows)"
    yield (
        f"arithmetic  {_flop_text(plan.model_flops)} of the model, {_flop_text(plan.recomputed_flops)} recomputed to "
        "save memory"
    )
    if plan.hours is None or plan.dollars is None:
        return
    low, high = plan.mfu
    fast, slow = plan.hours
    unit, scale = ("h", 1) if slow >= 1 else ("min", 60) if slow * 60 >= 1 else ("s", 3600)
    yield f"time        {fast * scale:,.1f} to {slow * scale:,.1f} {unit} at an assumed MFU of {high:.0%} to {low:.0%}"
    price = f"{plan.dollars_an_hour:,.2f} per GPU hour (--price)"
    yield f"cost        {plan.dollars[0]:,.2f} to {plan.dollars[1]:,.2f} dollars at {price}"


def _flop_text(flops: int) -> str:
    """The number in the largest unit that it reaches."""
    for name, unit in (("EFLOP", 10**18), ("PFLOP", 10**15), ("TFLOP", 10**12)):
        if flops >= unit:
            return f"{flops / unit:,.1f} {name}"
    return f"{flops / 10**9:,.1f} GFLOP"
