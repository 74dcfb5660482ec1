"""`flyte-llama evaluate` measures any model as the workflow does, without Flyte."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flyte_llama.cli import main
from flyte_llama.config import EvaluationConfig
from flyte_llama.documents import write_documents
from flyte_llama.evaluation.scoring import score_documents
from flyte_llama.evaluation.suite import SuiteDocument
from flyte_llama.flyte_eval import read_items
from flyte_llama.flyte_eval.sandbox import confinement_problem
from flyte_llama.model import open_model
from flyte_llama.report import EvaluationReport
from tests.conftest import TEXTS, MakeRepo, document
from tests.model.bases import hub_folder

CONFIG = """
corpus:
  train: [{url: %s, accept_unknown_licence: true}]
  heldout: [{url: %s, accept_unknown_licence: true}]
evaluation:
  {window: 128, stride: 64, batch_tokens: 512, shards: 2, general: [{url: "package:click"}], probe_bytes: 20000,
   flyte_eval: {source: none}}
training: {precision: fp32}
"""


@pytest.fixture(autouse=True)
def _own_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_LLAMA_OUTPUT", str(tmp_path / "output"))


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


@pytest.fixture
def config_file(tmp_path: Path, make_repo: MakeRepo) -> Path:
    sides = [
        make_repo(side, {f"{side}{n}.py": f"# {side} {n}\n{text}" for n, text in enumerate(TEXTS)}) for side in "ab"
    ]
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG % tuple(sides))
    return file


@pytest.fixture
def model(tiny_base: Path, tmp_path: Path) -> Path:
    return hub_folder(tiny_base, tmp_path / "mine")


def test_any_folder_is_measured_on_the_configurations_sources(config_file: Path, model: Path, tmp_path: Path):
    config_file.write_text(config_file.read_text().replace("{source: none}", "{source: heldout}"))
    result = evaluate("--model", model, "--config", config_file, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    report = EvaluationReport.model_validate(json.loads((tmp_path / "out/report.json").read_text()))
    assert [model.name for model in report.models] == ["evaluated"]
    assert report.corpus is not None
    assert report.corpus.heldout.documents.files == report.overall.num_documents
    assert report.general is not None
    assert report.general.overall.num_bytes <= 20_000
    assert f"{report.overall.figures[0].bits_per_byte:.3f}" in result.output
    assert (tmp_path / "out/report.html").read_text().startswith("<!doctype html>")
    assert "| overall |" in (tmp_path / "out/report.md").read_text()


def test_the_figures_are_the_same_as_from_the_scorer_alone(config_file: Path, model: Path, tmp_path: Path):
    documents = [document(text, path=f"{n}.py") for n, text in enumerate(TEXTS)]
    write_documents(tmp_path / "heldout", documents)
    options = ("--config", config_file, "--heldout", tmp_path / "heldout", "--output", tmp_path / "out")
    result = evaluate("--model", model, "--base", model, *options)
    assert result.exit_code == 0, result.output
    report = EvaluationReport.model_validate(json.loads((tmp_path / "out/report.json").read_text()))
    opened, tokenizer = open_model(model, precision="fp32")
    suite = [SuiteDocument(document, "heldout", "", "unknown") for document in documents]
    config = EvaluationConfig(window=128, stride=64, batch_tokens=512)
    nats = sum(score.nats for score, _ in score_documents(opened, suite, tokenizer, config))
    num_bytes = sum(document.num_bytes for document in documents)
    assert report.overall.figures[-1].bits_per_byte == pytest.approx(nats / num_bytes / math.log(2), rel=1e-6)
    assert report.change is not None
    assert report.change.difference == 0
    assert not report.is_better


def test_a_second_call_writes_over_the_first_but_over_nothing_else(config_file: Path, model: Path, tmp_path: Path):
    write_documents(tmp_path / "heldout", [document(TEXTS[1])])
    options = (
        "--model",
        model,
        "--config",
        config_file,
        "--heldout",
        tmp_path / "heldout",
        "--output",
        tmp_path / "out",
    )
    assert evaluate(*options).exit_code == evaluate(*options).exit_code == 0
    (tmp_path / "mine.txt").write_text("mine")
    result = evaluate(*options[:-1], tmp_path)
    assert result.exit_code == 2
    assert "is not empty, and no evaluation wrote it" in result.output
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_code_without_flyte_has_no_items_and_the_report_says_why(config_file: Path, model: Path, tmp_path: Path):
    config_file.write_text(config_file.read_text().replace("{source: none}", "{source: heldout}"))
    write_documents(tmp_path / "heldout", [document(TEXTS[0])])
    options = ("--config", config_file, "--heldout", tmp_path / "heldout", "--output", tmp_path / "out")
    result = evaluate("--model", model, "--base", model, *options)
    assert result.exit_code == 0, result.output
    reason = "no Python file of the held-out code imports flytekit."
    assert f"FlyteEval was not measured: {reason}" in result.stdout
    for name in ("report.html", "report.md", "report.json"):
        assert reason in (tmp_path / "out" / name).read_text()


@pytest.mark.slow
@pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
def test_a_second_call_does_not_mine_again(config_file: Path, model: Path, tmp_path: Path):
    config_file.write_text(config_file.read_text().replace("{source: none}", "{source: heldout, tasks: 1}"))
    write_documents(tmp_path / "heldout", [document(TEXTS[1].replace("2 * n", "2 * n + 1"))])
    options = ("--config", config_file, "--heldout", tmp_path / "heldout")
    first, second = (evaluate("--model", model, *options, "--output", tmp_path / name) for name in ("a", "b"))
    assert (first.exit_code, second.exit_code) == (0, 0), second.output
    assert "running originals" in first.output
    assert "running originals" not in second.output
    assert read_items(tmp_path / "a/items") == read_items(tmp_path / "b/items")
    assert len(read_items(tmp_path / "a/items")[0]) == 1


def test_the_results_of_an_earlier_call_stay_until_everything_is_measured(
    config_file: Path, model: Path, tmp_path: Path
):
    write_documents(tmp_path / "heldout", [document(TEXTS[1])])
    options = ("--config", config_file, "--heldout", tmp_path / "heldout", "--output", tmp_path / "out")
    assert evaluate("--model", model, *options).exit_code == 0
    (tmp_path / "out/notes.txt").write_text("mine")
    for wrong in ("nowhere/at-all", f"{model}@main", ""):
        result = evaluate("--model", wrong, *options)
        assert result.exit_code == 2, result.output
    assert (tmp_path / "out/report.html").is_file()
    assert (tmp_path / "out/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("option", ["--model", "--base", "--heldout"])
def test_an_input_inside_the_output_folder_is_refused_and_not_deleted(
    config_file: Path, model: Path, tmp_path: Path, option: str
):
    write_documents(tmp_path / "heldout", [document(TEXTS[1])])
    options = {
        "--model": model,
        "--config": config_file,
        "--heldout": tmp_path / "heldout",
        "--output": tmp_path / "out",
    }
    assert evaluate(*(text for pair in options.items() for text in pair)).exit_code == 0
    inside = shutil.copytree(options.get(option, model), tmp_path / "out/inside")
    result = evaluate(*(text for pair in (options | {option: inside}).items() for text in pair))
    assert result.exit_code == 2
    assert "which is replaced. Move it" in result.output
    assert (tmp_path / "out/report.html").is_file()


def test_an_output_that_is_a_file_is_one_message(config_file: Path, model: Path):
    result = evaluate("--model", model, "--config", config_file, "--output", config_file)
    assert (result.exit_code, "is a file. Give a folder" in result.output) == (2, True)


def test_the_published_model_is_measured_too(config_file: Path, model: Path, tmp_path: Path):
    text = config_file.read_text().replace("  {window", f"  {{published: {model}, window")
    config_file.write_text(text)
    write_documents(tmp_path / "heldout", [document(TEXTS[1])])
    options = ("--config", config_file, "--heldout", tmp_path / "heldout", "--output", tmp_path / "out")
    result = evaluate("--model", model, "--base", model, *options)
    assert result.exit_code == 0, result.output
    report = EvaluationReport.model_validate(json.loads((tmp_path / "out/report.json").read_text()))
    assert [model.name for model in report.models] == ["base", "published", "evaluated"]
    assert report.beats_published is False


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_model_is_one_message_with_its_fix(config_file: Path, model: Path, tmp_path: Path, name: str):
    truncate(model / name)
    write_documents(tmp_path / "heldout", [document(TEXTS[1])])
    options = ("--config", config_file, "--heldout", tmp_path / "heldout", "--output", tmp_path / "out")
    result = evaluate("--model", model, "--base", model, *options)
    assert result.exit_code == 2, result.output
    assert "again" in result.output
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_is_one_message_and_nothing_is_read(config_file: Path, tmp_path: Path):
    result = evaluate("--model", tmp_path / "gone", "--config", config_file, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "gone" in result.output
    assert not (tmp_path / "out").exists()


def test_a_train_folder_without_a_heldout_folder_is_refused(config_file: Path, tmp_path: Path):
    result = evaluate("--model", "x", "--config", config_file, "--train", tmp_path, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "--train needs --heldout" in result.output
