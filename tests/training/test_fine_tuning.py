"""Real runs of the real Trainer and DeepSpeed, in separate processes, on a tiny Llama."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from flyte_llama.config import EvaluationConfig, ObjectiveConfig, RunLength, TrainingConfig
from flyte_llama.encoding import DocumentTokenizer, open_rows, read_control_tokens, write_epochs
from flyte_llama.encoding.pieces import KeyedText
from flyte_llama.evaluation.scores import total_loss
from flyte_llama.evaluation.scoring import score_documents
from flyte_llama.evaluation.suite import SuiteDocument
from flyte_llama.model import load_model, pin_model, prepare_base
from flyte_llama.training import TrainingSummary
from flyte_llama.training.batches import row_order
from tests.conftest import TEXTS, TINY, document
from tests.model.bases import hub_folder, learn, prepare
from tests.training.runs import TIMEOUT_S, launch_environment, write_packed_rows
from tests.training.runs import summary as summary_of

RUN = Path(__file__).with_name("run.py")
SETTINGS: dict[str, Any] = {
    "method": "full",
    "seq_len": 64,
    "max_steps": 12,
    "learning_rate": 3e-3,
    "warmup_share": 0.0,
    "global_batch_size": 4,
    "micro_batch_size": 2,
    "precision": "fp32",
    "activation_checkpointing": False,
    "log_every_steps": 1,
}


@pytest.fixture(scope="module")
def rows(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_packed_rows(tiny_base, tmp_path_factory.mktemp("rows"), TEXTS * 13)


class Run(NamedTuple):
    """One run of a launch. `out` has a folder of its own, in which its checkpoints go too."""

    base: Path
    rows: Path
    out: Path
    settings: dict[str, Any]


def launch(runs: Iterable[Run], processes: int = 1) -> subprocess.CompletedProcess[str]:
    """Train the runs one after the other in the same processes: they take longer to start than to train."""
    described = []
    for run in runs:
        run.out.mkdir(parents=True)
        training = TrainingConfig(**{**SETTINGS, **run.settings}).model_dump(mode="json")
        described.append({"base": str(run.base), "rows": str(run.rows), "out": str(run.out), "training": training})
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*launcher, str(RUN), json.dumps(described)]
    return subprocess.run(command, capture_output=True, text=True, env=launch_environment(), timeout=TIMEOUT_S)


def train(runs: Iterable[Run], processes: int = 1) -> list[Path]:
    """Launch the runs, and return the folders of their models."""
    runs = list(runs)
    done = launch(runs, processes)
    assert done.returncode == 0, done.stderr[-3000:]
    return [run.out for run in runs]


def assert_verified(summary: TrainingSummary, artefacts: list[str]) -> None:
    """Each artefact, in a fresh process, has the same perplexity as the trained model in memory."""
    assert [verified.artefact for verified in summary.verified] == artefacts
    for verified in summary.verified:
        assert verified.loaded_perplexity == pytest.approx(verified.trained_perplexity, rel=1e-4)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder, dtype=torch.float32).state_dict()


@pytest.fixture(scope="module")
def alone(tiny_base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Models of one process: the one that all others must match, of ZeRO stage 0, and one of bf16."""
    folder = tmp_path_factory.mktemp("alone")
    kinds = [{"deepspeed": {"zero_stage": 0}}, {"precision": "bf16", "activation_checkpointing": True}]
    return train(Run(tiny_base, rows, folder / str(index) / "model", kind) for index, kind in enumerate(kinds))


@pytest.fixture(scope="module")
def reference(alone: list[Path]) -> tuple[Path, TrainingSummary]:
    """The run that all others must match."""
    return alone[0], summary_of(alone[0])


@pytest.mark.slow
def test_a_run_learns_logs_every_step_and_counts_its_tokens(
    reference: tuple[Path, TrainingSummary], tiny_base: Path, rows: Path
):
    out, summary = reference
    assert [point.step for point in summary.losses] == list(range(1, 13))
    assert summary.losses[-1].loss < summary.losses[0].loss - 0.5
    table, manifest = open_rows(rows)
    order = row_order(manifest["rows_per_epoch"], num_rows=12 * 4, seed=0)
    assert (summary.num_steps, summary.num_tokens) == (12, sum(sum(table[int(n)]["length"]) for n in order))
    assert summary.num_tokens < 12 * 4 * 64
    assert summary.num_trainable == summary.num_parameters
    probes = [SuiteDocument(document(text, path=text[:9]), "heldout", "", "unknown") for text in TEXTS]
    tokenizer = DocumentTokenizer(out)
    config = EvaluationConfig(window=256, stride=128, batch_tokens=1024)
    before, after = (
        total_loss(
            loss for loss, _ in score_documents(load_model(folder, dtype=torch.float32), probes, tokenizer, config)
        )
        for folder in (tiny_base, out)
    )
    assert after.perplexity < before.perplexity / 2
    assert sorted(path.suffix for path in out.iterdir() if path.suffix in (".bin", ".pt")) == []
    assert_verified(summary, ["model"])


@pytest.fixture(scope="module")
def with_zero(tiny_base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Models of two processes, of ZeRO stages 1 to 3."""
    folder = tmp_path_factory.mktemp("zero")
    settings = [{"deepspeed": {"zero_stage": stage}, "activation_checkpointing": stage == 3} for stage in (1, 2, 3)]
    return train((Run(tiny_base, rows, folder / str(n) / "model", each) for n, each in enumerate(settings)), 2)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_processes_with_zero_learn_and_write_the_same_as_one(
    reference: tuple[Path, TrainingSummary], with_zero: list[Path], stage: int
):
    (out, expected), model = reference, with_zero[stage - 1]
    summary = summary_of(model)
    assert summary.num_processes == 2
    assert summary.num_parameters == expected.num_parameters
    assert [p.loss for p in summary.losses] == pytest.approx([p.loss for p in expected.losses], abs=2e-3)
    for name, weight in weights(model).items():
        torch.testing.assert_close(weight, weights(out)[name], rtol=0, atol=2e-3)
    assert_verified(summary, ["model"])


ADAPTERS = [("lora", 1), ("dora", 2), ("lora", 3)]


@pytest.fixture(scope="module")
def with_adapters(tiny_base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    adapters = {"lora": {"rank": 4, "dropout": 0.0}, "learning_rate": 1e-2}
    settings = [{"method": method, "deepspeed": {"zero_stage": stage}, **adapters} for method, stage in ADAPTERS]
    return train((Run(tiny_base, rows, folder / str(n) / "model", each) for n, each in enumerate(settings)), 2)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(ADAPTERS)), ids=["-".join(map(str, each)) for each in ADAPTERS])
def test_only_adapters_are_trained_and_they_are_written_separately_and_merged(
    tiny_base: Path, with_adapters: list[Path], index: int
):
    from peft import PeftModel

    out = with_adapters[index]
    summary = summary_of(out)
    assert summary.num_trainable < summary.num_parameters / 5
    assert summary.losses[-1].loss < summary.losses[0].loss - 0.05
    assert_verified(summary, ["model", "adapter"])
    original = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(original, str(out / "adapter")).eval()
    merged, base = load_model(out, dtype=torch.float32).eval(), load_model(tiny_base, dtype=torch.float32).eval()
    ids = torch.arange(2, 60)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, rtol=0, atol=1e-4)
        assert (merged(ids).logits - base(ids).logits).abs().max() > 1e-2


@pytest.mark.slow
def test_an_adapter_on_embeddings_that_are_one_weight_is_trained_and_verified(
    tiny_base: Path, rows: Path, tmp_path: Path
):
    lora = {"rank": 4, "dropout": 0.0, "target_modules": ["q_proj", "embed_tokens", "lm_head"]}
    settings = {"method": "lora", "lora": lora, "learning_rate": 1e-2, "max_steps": 4}
    runs = [
        Run(tiny_base, rows, tmp_path / str(stage) / "model", {**settings, "deepspeed": {"zero_stage": stage}})
        for stage in (0, 3)
    ]
    for out in train(runs, 2):
        assert_verified(summary_of(out), ["model", "adapter"])


# Settings of peft's LoraConfig, whether embeddings are saved along, and of the run.
OF_OTHERS: dict[str, tuple[dict[str, Any], bool, dict[str, Any]]] = {
    "embeddings that share one copy": (
        {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        False,
        {"activation_checkpointing": True},
    ),
    "embeddings saved along": ({}, True, {}),
    "merged for full training": ({"target_modules": ["q_proj", "lm_head"]}, False, {"method": "full"}),
    "whole embeddings": ({"modules_to_save": ["embed_tokens", "lm_head"]}, False, {"deepspeed": {"zero_stage": 3}}),
}


@pytest.fixture(scope="module")
def of_others(tiny_base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind of adapter → the model of a run that goes on from it."""
    from peft import LoraConfig, get_peft_model

    runs = {}
    for kind, (adapter, saves_embeddings, settings) in OF_OTHERS.items():
        folder = tmp_path_factory.mktemp("theirs")
        model = hub_folder(tiny_base, folder / "hub")
        original = AutoModelForCausalLM.from_pretrained(model)
        if saves_embeddings:
            original.get_input_embeddings().weight.data[5:9] += 0.5
        adapted = get_peft_model(original, LoraConfig(**{"r": 4, "target_modules": ["q_proj"], **adapter}))
        learn(adapted, torch.arange(2, 60)[None], steps=3)
        adapted.save_pretrained(folder / "theirs", save_embedding_layers=saves_embeddings)
        base = prepare(model, folder / "base", adapter=folder / "theirs")
        common = {"method": "lora", "learning_rate": 1e-3, "max_steps": 4, "lora": {"rank": 4, "dropout": 0.0}}
        runs[kind] = Run(base, rows, folder / "run/model", common | settings)
    return dict(zip(runs, train(runs.values(), 2), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", OF_OTHERS)
def test_an_adapter_of_another_trainer_goes_on_and_is_verified(of_others: dict[str, Path], kind: str):
    is_full = OF_OTHERS[kind][2].get("method") == "full"
    assert_verified(summary_of(of_others[kind]), ["model"] if is_full else ["model", "adapter"])


@pytest.mark.slow
def test_embedding_rows_of_added_tokens_are_the_same_in_all_processes(tiny_base: Path, rows: Path, tmp_path: Path):
    objective = ObjectiveConfig(kind="causal_masked", max_spans=3)
    settings = {"learning_rate": 1e-9, "max_steps": 1, "deepspeed": {"zero_stage": 3}}
    runs = []
    for spare_rows in (0, 40):
        folder = tmp_path / str(spare_rows)
        model = hub_folder(tiny_base, folder / "mine", tied=False, spare_rows=spare_rows)
        base = prepare(model, folder / "base", objective=objective)
        runs.append(Run(base, rows, folder / "run/model", settings))
    for run, out in zip(runs, train(runs, 2), strict=True):
        assert_verified(summary_of(out), ["model"])
        written, expected = weights(out), weights(run.base)
        record = read_control_tokens(run.base)
        assert record is not None
        assert written["lm_head.weight"][record.added_ids].std() > 0
        for name, weight in expected.items():
            torch.testing.assert_close(written[name], weight, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_new_rows_learn_at_a_rate_of_their_own(tiny_base: Path, tmp_path: Path):
    objective = ObjectiveConfig(kind="fim", rate=1.0, new_token_lr_scale=7.0)
    model = hub_folder(tiny_base, tmp_path / "mine", spare_rows=40)
    base, tokenizer = prepare(model, tmp_path / "base", objective=objective), DocumentTokenizer(tmp_path / "base")
    texts = [KeyedText(str(index), text[:40]) for index, text in enumerate(TEXTS * 5)]
    one_step = RunLength(epochs=1.0, max_steps=1, global_batch_size=4)
    write_epochs(tmp_path / "rows", texts, objective, tokenizer, seq_len=64, run_length=one_step)
    settings = {"method": "lora", "learning_rate": 1e-3, "max_steps": 1}
    kinds = [
        settings | {"precision": precision, "deepspeed": {"zero_stage": stage}}
        for stage, precision in ((0, "fp32"), (0, "bf16"), (2, "fp32"))
    ]
    runs = [Run(base, tmp_path / "rows", tmp_path / str(n) / "model", kind) for n, kind in enumerate(kinds)]

    # The first step of Adam moves each weight that has a gradient by the learning rate.
    record = read_control_tokens(base)
    assert record is not None
    started = load_model(base, dtype=torch.float32).get_input_embeddings().weight[record.added_ids]
    for out in train(runs):
        saved = load_file(out / "adapter" / "adapter_model.safetensors")
        (learned,) = [tensor for name, tensor in saved.items() if "token_adapter" in name]
        assert (learned.float() - started).abs().amax().item() == pytest.approx(7e-3, rel=0.05)
        outputs = [tensor for name, tensor in saved.items() if "lora_B" in name]
        assert max(tensor.abs().amax().item() for tensor in outputs) == pytest.approx(1e-3, rel=0.05)


@pytest.mark.slow
def test_qlora_trains_adapters_on_a_base_of_4_bits_and_counts_its_parameters_whole(rows: Path, tmp_path: Path):
    # bitsandbytes packs weights in blocks of 64 columns.
    wide = TINY.model_copy(update={"scratch": TINY.scratch.model_copy(update={"hidden_size": 64})})
    base, out = tmp_path / "base", tmp_path / "run/model"
    prepare_base(pin_model(wide), wide, TEXTS * 20, longest_input=256, folder=base)
    settings = {"method": "qlora", "lora": {"rank": 4, "dropout": 0.0}, "learning_rate": 1e-2, "precision": "bf16"}
    train([Run(base, rows, out, settings | {"activation_checkpointing": True})])
    summary = summary_of(out)
    assert summary.losses[-1].loss < summary.losses[0].loss
    whole = sum(parameter.numel() for parameter in load_model(base, dtype=torch.float32).parameters())
    assert summary.num_parameters == whole + summary.num_trainable
    merged = load_model(out, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}
    assert [verified.artefact for verified in summary.verified] == ["model", "adapter"]


@pytest.mark.slow
def test_checkpointed_activations_and_bf16_train_too(alone: list[Path]):
    summary = summary_of(alone[1])
    assert summary.losses[-1].loss < summary.losses[0].loss - 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"global_batch_size": 2, "micro_batch_size": 2, "processes": 2}, "cannot be split evenly over 2 processes"),
        ({"learning_rate": 10, "weight_decay": 100}, "the loss is"),
    ],
)
def test_a_run_that_cannot_continue_reports_why_and_writes_nothing(
    tiny_base: Path, rows: Path, tmp_path: Path, settings: dict, expected: str
):
    settings = dict(settings)
    processes = settings.pop("processes", 1)
    done = launch([Run(tiny_base, rows, tmp_path / "model", settings)], processes)
    assert done.returncode != 0
    assert expected in done.stderr
    assert not list((tmp_path / "model").iterdir())
