"""The plan as a whole, and the command that prints it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from flyte_llama.cli import main
from flyte_llama.config import ExperimentConfig, ResolvedTraining
from flyte_llama.encoding.objectives import clm
from flyte_llama.encoding.packing import pack
from flyte_llama.encoding.pieces import Piece
from flyte_llama.encoding.rows import RowsWriter
from flyte_llama.errors import TrainingError
from flyte_llama.plan import Cluster, Plan, TokenCount, known_gpu, make_plan, model_shape, refuse_if_too_large
from flyte_llama.plan.flops import row_flops
from flyte_llama.plan.shape import read_shape
from tests.conftest import CODE_LLAMA_7B, write_rows

ONE_H200 = Cluster(gpu="H200", gpus_a_node=1)


def experiment(**training: Any) -> dict[str, Any]:
    return {
        "corpus": {"train": [{"url": "package:flytekit"}], "heldout": [{"url": "package:click"}]},
        "model": {"name": "/models/7b"},
        "training": {"global_batch_size": 8, **training},
    }


def plan_7b(cluster: Cluster = ONE_H200, corpus: TokenCount | None = None, **training: Any) -> Plan:
    config = ExperimentConfig.model_validate(experiment(**training))
    return make_plan(config, read_shape(CODE_LLAMA_7B), cluster, corpus)


def test_full_fine_tuning_of_code_llama_7b_fits_one_h200_but_not_one_h100():
    assert plan_7b(method="full").fits
    (problem,) = plan_7b(Cluster(gpu="H100", gpus_a_node=1), method="full").problems
    assert problem.startswith("memory of a GPU: ")
    assert "Fits with method: lora." in problem


@pytest.mark.parametrize(
    ("cluster", "training", "fix"),
    [
        (Cluster(gpu="A100", gpus_a_node=4), {"method": "full", "zero_stage": 2}, "Fits with zero_stage: 3."),
        (Cluster(gpu="L4", gpus_a_node=1), {"micro_batch_size": 4}, "Fits with micro_batch_size: 1."),
        (
            Cluster(gpu="L4", gpus_a_node=1),
            {"activation_checkpointing": False},
            "Fits with activation_checkpointing: true.",
        ),
        (Cluster(gpu="A10G", gpus_a_node=1), {"seq_len": 16384}, "Fits with method: qlora, zero_stage: 2."),
    ],
)
def test_a_plan_that_does_not_fit_says_what_would(cluster: Cluster, training: dict, fix: str):
    zero = {"zero_stage": training.pop("zero_stage", 2)}
    (problem,) = plan_7b(cluster, deepspeed=zero, **training).problems
    assert fix in problem


def test_a_single_gpu_may_have_room_only_without_shards():
    config = ExperimentConfig.model_validate(experiment(method="full", deepspeed={"zero_stage": 2}))
    shape = read_shape(CODE_LLAMA_7B | {"num_hidden_layers": 20})
    (problem,) = make_plan(config, shape, Cluster(gpu="H100", gpus_a_node=1)).problems
    assert "Fits with zero_stage: 0." in problem


def test_a_promised_fix_does_fit():
    fixed = plan_7b(Cluster(gpu="A100_80GB", gpus_a_node=8), method="full", deepspeed={"zero_stage": 3})
    assert fixed.fits
    assert sum(fixed.gpu_bytes.values()) <= fixed.gpu_capacity_bytes


def test_every_problem_is_named_at_once():
    cluster = Cluster(gpu="T4", gpus_a_node=3, host_bytes=2**30, storage_bytes=2**30)
    corpus = TokenCount(num_tokens=100, num_rows=1, seq_len=128)
    problems = plan_7b(cluster, corpus, method="full", seq_len=20_000).problems
    starts = (
        "training.global_batch_size = 8: cannot be split evenly over 3",
        "training.seq_len = 20000: exceeds the 16384 positions",
        "training.precision = 'bf16': T4 does not support it",
        "training.seq_len = 20000: the rows have 128 tokens",
        "memory of a GPU",
        "memory of a node",
        "disk of a node",
    )
    assert len(problems) == len(starts)
    assert all(problem.startswith(start) for problem, start in zip(problems, starts, strict=True))


def test_time_and_cost_follow_from_flops_peak_and_price():
    corpus = TokenCount(num_tokens=8 * 4096, num_rows=8, seq_len=4096)
    plan = plan_7b(Cluster(gpu="H200", gpus_a_node=2, dollars_an_hour=10.0), corpus, epochs=3)
    training = ResolvedTraining()
    flops = 24 * row_flops(read_shape(CODE_LLAMA_7B), [4096], training=training, num_labels=4095).model
    assert (plan.num_steps, plan.num_tokens, plan.model_flops) == (3, 24 * 4096, flops)
    assert plan.hours is not None
    assert plan.hours[1] == pytest.approx(flops / (2 * 989e12 * 0.30) / 3600)
    assert plan.dollars == pytest.approx([hours * 20 for hours in plan.hours])


def test_without_a_corpus_the_tokens_come_from_max_steps_or_are_marked_as_unknown():
    known, unknown = plan_7b(max_steps=10), plan_7b()
    assert (known.tokens_are_known, known.num_steps, known.num_tokens) == (True, 10, 10 * 8 * 4096)
    assert (unknown.tokens_are_known, unknown.num_steps, unknown.num_tokens) == (False, None, 1_000_000)


def test_training_refuses_what_cannot_fit_before_it_loads_anything():
    shape = read_shape(CODE_LLAMA_7B)
    full = ResolvedTraining(method="full")
    refuse_if_too_large(shape, full, device_bytes=140 * 2**30, num_processes=1)
    with pytest.raises(TrainingError, match=r"needs \d+\.\d GiB, has 80\.0 GiB\. Fits with"):
        refuse_if_too_large(shape, full, device_bytes=80 * 2**30, num_processes=1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`flyte-llama plan` on a base with the shape of Code Llama 7B."""
    monkeypatch.setenv("FLYTE_LLAMA_GPU", "H200")
    monkeypatch.setenv("FLYTE_LLAMA_GPU_COUNT", "2")
    base = tmp_path / "7b"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(CODE_LLAMA_7B))

    def run(*options: str, **training: Any) -> Result:
        file = tmp_path / "experiment.yaml"
        file.write_text(yaml.safe_dump(experiment(**training) | {"model": {"name": str(base)}}))
        return CliRunner().invoke(main, ["plan", "--config", str(file), *options])

    return run


def test_the_command_plans_for_the_settings_unless_an_option_overrides_them(run: Any):
    for options, expected in (((), ("H200", 2, 1)), (("--gpu", "L4", "--gpus", "4", "--nodes", "2"), ("L4", 4, 2))):
        plan = Plan.model_validate_json(run("--json", *options).stdout)
        assert (plan.gpu, plan.gpus_a_node, plan.nodes) == expected


def test_the_command_prints_the_plan_and_exits_with_0_if_it_fits(run: Any):
    done = run("--tokens", "1000000")
    assert done.exit_code == 0
    assert "parameters  6,738,546,688; 39,976,960 trained (0.59%), method lora" in done.stdout
    assert "tokens      1,012,245 in 31 steps" in done.stdout
    assert done.stdout.endswith("\nfits\n")


def test_the_command_says_what_it_chose_for_auto_and_why(run: Any):
    done = run("--gpu", "L4", "--gpus", "1")
    assert "1 x 4,096 tokens at once per GPU, activations recomputed, Liger kernels\n" in done.stdout
    assert "auto        chose micro-batch 1, activations recomputed: the fastest that fits, " in done.stdout
    plan = Plan.model_validate_json(run("--json", "--gpu", "H200").stdout)
    assert (plan.activation_checkpointing, plan.liger) == (False, True)
    assert plan.micro_batch_size > 1
    pinned = run(micro_batch_size=2, activation_checkpointing=True, liger=False)
    assert "2 x 4,096 tokens at once per GPU, activations recomputed\n" in pinned.stdout
    assert "auto " not in pinned.stdout


def test_the_command_prints_the_problems_and_exits_with_2_if_it_does_not_fit(run: Any):
    done = run("--gpu", "A10G", "--gpus", "1", method="full")
    assert done.exit_code == 2
    assert "1 problem:\n  - memory of a GPU: " in done.stdout


def test_the_command_counts_the_rows_it_is_given(run: Any, tmp_path: Path):
    pieces = [clm(np.arange(length, dtype=np.int32), seq_len=128) for length in (40, 100, 60)]
    rows = list(pack(pieces, seq_len=128, pad_id=0))
    shape, training = read_shape(CODE_LLAMA_7B), ResolvedTraining(seq_len=128)
    flops = row_flops(shape, [40, 100, 60], training=training, num_labels=197).model
    # Reading two stored epochs once takes as much as reading one stored epoch twice.
    for name, epochs in (("one", [rows]), ("two", [rows, rows])):
        write_rows(tmp_path / name, epochs, seq_len=128)
        done = run("--json", "--rows", str(tmp_path / name), seq_len=128, global_batch_size=2, epochs=2)
        plan = Plan.model_validate_json(done.stdout)
        assert (plan.num_tokens, plan.num_steps, plan.model_flops) == (400, 2, 2 * flops)
    # Rows that are read before the first epoch take steps of their own.
    with RowsWriter(tmp_path / "before", seq_len=128) as writer:
        writer.write_epoch(rows)
        writer.write_rows_before(rows)
    done = run("--json", "--rows", str(tmp_path / "before"), seq_len=128, global_batch_size=2, epochs=2)
    plan = Plan.model_validate_json(done.stdout)
    assert (plan.num_tokens, plan.num_steps, plan.model_flops) == (600, 3, 3 * flops)


def test_bidirectional_rows_take_twice_the_attention(run: Any, tmp_path: Path):
    ids = np.arange(100, dtype=np.int32)
    for name, both_ways in (("causal", False), ("both", True)):
        rows = list(pack([[Piece(ids, ids, bidirectional=both_ways)]], seq_len=128, pad_id=0))
        write_rows(tmp_path / name, [rows], seq_len=128)
    plans = [
        Plan.model_validate_json(run("--json", "--rows", str(tmp_path / name), seq_len=128, global_batch_size=2).stdout)
        for name in ("causal", "both")
    ]
    # 2 rows, 3 passes, and in each pass 2 · layers · size · length² more.
    assert plans[1].model_flops - plans[0].model_flops == 2 * 3 * 2 * 32 * 4096 * 100**2


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("L4", "L4"),
        ("nvidia-l4", "L4"),
        ("nvidia-h100-80gb", "H100"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("nvidia-tesla-a100", "A100"),
        ("NVIDIA-A100-SXM4-80GB", "A100_80GB"),
        ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", None),
        ("nvidia-b200", None),
        ("none", None),
    ],
)
def test_a_node_label_that_names_a_known_gpu_has_its_figures(name: str, known: str | None):
    gpu = known_gpu(name)
    assert (gpu and gpu.name) == known


def test_the_command_names_the_setting_that_is_wrong(run: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYTE_LLAMA_GPU", "K80")
    unknown = run("--json")
    assert "FLYTE_LLAMA_GPU = K80: no figures are known, so memory, time and cost are those of an A100_80GB." in (
        unknown.stderr
    )
    assert Plan.model_validate_json(unknown.stdout).gpu == "A100_80GB"
    monkeypatch.setenv("FLYTE_LLAMA_GPU", "H200")
    monkeypatch.setenv("FLYTE_LLAMA_GPU_STORAGE", "much")
    assert "FLYTE_LLAMA_GPU_STORAGE = 'much': is not an amount of bytes" in run().stderr
    assert run("--tokens", "5", "--rows", "rows").exit_code == 2


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_fit_the_gpus_they_are_registered_for(path: Path):
    config = ExperimentConfig.model_validate(yaml.safe_load(path.read_text()))
    sizes = {"13b": (5120, 40, 40, 13824), "34b": (8192, 48, 64, 22016), "135m": (576, 30, 9, 1536)}
    matching = [size for name, size in sizes.items() if name in path.stem]
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    sizes_of_model = dict(zip(names, matching[0], strict=True)) if matching else {}
    smollm2 = {"vocab_size": 49_152, "num_key_value_heads": 3, "tie_word_embeddings": True}
    shape = read_shape(CODE_LLAMA_7B | sizes_of_model | (smollm2 if "135m" in path.stem else {}))
    num_gpus = 8 if "code_llama" in path.stem else 1
    cluster = Cluster(gpu="A100_80GB", gpus_a_node=num_gpus, host_bytes=800 * 2**30, storage_bytes=400 * 2**30)
    assert make_plan(config, model_shape(config.model) if config.model.is_scratch else shape, cluster).problems == []


def test_the_checkpoint_of_the_best_step_takes_disk_too():
    newest = plan_7b(keep_checkpoints=2)
    best_too = plan_7b(keep_checkpoints=2, keep_best=True, validation_share=0.02)
    assert best_too.disk_bytes - newest.disk_bytes == newest.checkpoint_bytes
