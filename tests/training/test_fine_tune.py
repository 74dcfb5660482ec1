"""Real runs of the real Trainer and DeepSpeed, in processes of their own, on a tiny Llama."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from flyte_llama.config import EvaluationConfig, TrainingConfig
from flyte_llama.evaluation import breakdown, score
from flyte_llama.model import load_model
from flyte_llama.packing import pack, write_rows
from flyte_llama.tokens import DocumentTokenizer
from flyte_llama.training import TrainingSummary
from tests.conftest import TEXTS, document

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
    folder = tmp_path_factory.mktemp("rows")
    tokenizer = DocumentTokenizer(tiny_base)
    packed = pack(tokenizer.training_ids(TEXTS * 10), seq_len=64, pad_id=tokenizer.eos_id)
    write_rows(folder, packed, seq_len=64)
    return folder


def launch(base: Path, rows: Path, out: Path, processes: int, settings: dict) -> subprocess.CompletedProcess[str]:
    training = TrainingConfig(**{**SETTINGS, **settings}).model_dump_json()
    out.mkdir(parents=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [*launcher, str(RUN), str(base), str(rows), str(out), training]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180)


def trained(base: Path, rows: Path, out: Path, processes: int = 1, **settings: Any) -> TrainingSummary:
    done = launch(base, rows, out, processes, settings)
    assert done.returncode == 0, done.stderr[-3000:]
    return TrainingSummary.model_validate_json((out / "summary.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder, dtype=torch.float32).state_dict()


@pytest.fixture(scope="module")
def reference(tiny_base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingSummary]:
    """One process, ZeRO-0: what all others must come out as."""
    out = tmp_path_factory.mktemp("reference") / "model"
    return out, trained(tiny_base, rows, out, deepspeed={"zero_stage": 0})


@pytest.mark.slow
def test_a_run_learns_logs_every_step_and_counts_its_tokens(reference: tuple[Path, TrainingSummary], tiny_base: Path):
    out, summary = reference
    assert [point.step for point in summary.losses] == list(range(1, 13))
    assert summary.losses[-1].loss < summary.losses[0].loss - 0.5
    assert (summary.num_steps, summary.num_tokens) == (12, 12 * 4 * 64)
    assert summary.num_trainable == summary.num_parameters
    documents, tokenizer = [document(text, path=text[:9]) for text in TEXTS], DocumentTokenizer(out)
    config = EvaluationConfig(window=256, stride=128, batch_tokens=1024)
    before, after = (
        breakdown(score(load_model(folder, dtype=torch.float32), documents, tokenizer, config)).overall
        for folder in (tiny_base, out)
    )
    assert after.perplexity < before.perplexity / 2
    assert sorted(path.suffix for path in out.iterdir() if path.suffix in (".bin", ".pt")) == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_two_processes_with_zero_learn_what_one_does(
    reference: tuple[Path, TrainingSummary], tiny_base: Path, rows: Path, tmp_path: Path, stage: int
):
    out, expected = reference
    summary = trained(tiny_base, rows, tmp_path / "model", processes=2, deepspeed={"zero_stage": stage})
    assert summary.num_processes == 2
    assert summary.num_parameters == expected.num_parameters
    assert [p.loss for p in summary.losses] == pytest.approx([p.loss for p in expected.losses], abs=2e-3)
    for name, weight in weights(tmp_path / "model").items():
        torch.testing.assert_close(weight, weights(out)[name], rtol=0, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "stage"), [(1, 2), (2, 3)])
def test_lora_trains_adapters_alone_and_writes_the_merged_model(
    tiny_base: Path, rows: Path, tmp_path: Path, processes: int, stage: int
):
    from peft import PeftModel

    out = tmp_path / "model"
    settings = {"method": "lora", "lora": {"rank": 4, "dropout": 0.0}, "learning_rate": 1e-2}
    summary = trained(tiny_base, rows, out, processes, deepspeed={"zero_stage": stage}, **settings)
    assert summary.num_trainable < summary.num_parameters / 5
    assert summary.losses[-1].loss < summary.losses[0].loss
    adapted = PeftModel.from_pretrained(load_model(tiny_base, dtype=torch.float32), str(out / "adapter")).eval()
    merged, base = load_model(out, dtype=torch.float32).eval(), load_model(tiny_base, dtype=torch.float32).eval()
    ids = torch.arange(2, 60)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, rtol=0, atol=1e-4)
        assert (merged(ids).logits - base(ids).logits).abs().max() > 1e-2


@pytest.mark.slow
def test_qlora_trains_adapters_on_a_base_of_4_bits_and_counts_its_parameters_whole(
    reference: tuple[Path, TrainingSummary], tiny_base: Path, rows: Path, tmp_path: Path
):
    out = tmp_path / "model"
    settings = {"method": "qlora", "lora": {"rank": 4, "dropout": 0.0}, "learning_rate": 1e-2, "precision": "bf16"}
    summary = trained(tiny_base, rows, out, activation_checkpointing=True, **settings)
    assert summary.losses[-1].loss < summary.losses[0].loss
    assert summary.num_parameters == reference[1].num_parameters + summary.num_trainable
    merged = load_model(out, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}


@pytest.mark.slow
def test_checkpointed_activations_and_bf16_train_too(tiny_base: Path, rows: Path, tmp_path: Path):
    summary = trained(tiny_base, rows, tmp_path / "model", precision="bf16", activation_checkpointing=True)
    assert summary.losses[-1].loss < summary.losses[0].loss - 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"global_batch_size": 2, "micro_batch_size": 2, "processes": 2}, "cannot be shared out over 2 processes"),
        ({"learning_rate": 1e30, "max_grad_norm": 1e30}, "the loss is"),
    ],
)
def test_a_run_that_must_not_go_on_says_why_and_writes_nothing(
    tiny_base: Path, rows: Path, tmp_path: Path, settings: dict, expected: str
):
    settings = dict(settings)
    done = launch(tiny_base, rows, tmp_path / "model", settings.pop("processes", 1), settings)
    assert done.returncode != 0
    assert expected in done.stderr
    assert not list((tmp_path / "model").iterdir())
