"""`flyte-llama evaluate`: the workflow's figures for anybody's model, without Flyte."""

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
from flyte_llama.evaluation import Probe, score
from flyte_llama.model import open_model
from flyte_llama.report import EvaluationReport
from tests.conftest import TEXTS, MakeRepo, document
from tests.model.bases import hub_folder

CONFIG = """
corpus:
  train: [{url: %s, accept_unknown_licence: true}]
  heldout: [{url: %s, accept_unknown_licence: true}]
evaluation:
  {window: 128, stride: 64, batch_tokens: 512, shards: 2, general: [{url: "package:click"}], probe_bytes: 20000}
training: {precision: fp32}
"""


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
    done = evaluate("--model", model, "--config", config_file, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    report = EvaluationReport.model_validate(json.loads((tmp_path / "out/report.json").read_text()))
    assert [found.name for found in report.models] == ["evaluated"]
    assert report.corpus is not None
    assert report.corpus.heldout.documents.files == report.overall.num_documents
    assert report.general is not None
    assert report.general.overall.num_bytes <= 20_000
    assert f"{report.overall.figures[0].bits_per_byte:.3f}" in done.output
    assert (tmp_path / "out/report.html").read_text().startswith("<!doctype html>")
    assert "| overall |" in (tmp_path / "out/report.md").read_text()


def test_the_figures_are_those_of_the_scorer_alone(config_file: Path, model: Path, tmp_path: Path):
    documents = [document(text, path=f"{n}.py") for n, text in enumerate(TEXTS)]
    write_documents(tmp_path / "heldout", documents)
    how = ("--config", config_file, "--heldout", tmp_path / "heldout", "--output", tmp_path / "out")
    done = evaluate("--model", model, "--base", model, *how)
    assert done.exit_code == 0, done.output
    report = EvaluationReport.model_validate(json.loads((tmp_path / "out/report.json").read_text()))
    opened, tokenizer = open_model(model, precision="fp32")
    probes = [Probe(document, "heldout", "", "unknown") for document in documents]
    config = EvaluationConfig(window=128, stride=64, batch_tokens=512)
    nats = sum(loss.nats for loss, _ in score(opened, probes, tokenizer, config))
    num_bytes = sum(document.num_bytes for document in documents)
    assert report.overall.figures[-1].bits_per_byte == pytest.approx(nats / num_bytes / math.log(2), rel=1e-6)
    assert report.change is not None
    assert report.change.difference == 0
    assert not report.is_better


def test_a_second_call_writes_over_the_first_but_over_nothing_else(config_file: Path, model: Path, tmp_path: Path):
    write_documents(tmp_path / "heldout", [document(TEXTS[1])])
    how = ("--model", model, "--config", config_file, "--heldout", tmp_path / "heldout", "--output", tmp_path / "out")
    assert evaluate(*how).exit_code == evaluate(*how).exit_code == 0
    (tmp_path / "mine.txt").write_text("mine")
    done = evaluate(*how[:-1], tmp_path)
    assert done.exit_code == 2
    assert "is not empty, and no evaluation wrote it" in done.output
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_what_an_earlier_call_wrote_stays_until_all_is_measured(config_file: Path, model: Path, tmp_path: Path):
    write_documents(tmp_path / "heldout", [document(TEXTS[1])])
    how = ("--config", config_file, "--heldout", tmp_path / "heldout", "--output", tmp_path / "out")
    assert evaluate("--model", model, *how).exit_code == 0
    (tmp_path / "out/notes.txt").write_text("mine")
    for wrong in ("nowhere/at-all", f"{model}@main", ""):
        done = evaluate("--model", wrong, *how)
        assert done.exit_code == 2, done.output
    assert (tmp_path / "out/report.html").is_file()
    assert (tmp_path / "out/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("option", ["--model", "--base", "--heldout"])
def test_what_lies_in_the_output_folder_is_not_read_and_not_deleted(
    config_file: Path, model: Path, tmp_path: Path, option: str
):
    write_documents(tmp_path / "heldout", [document(TEXTS[1])])
    how = {"--model": model, "--config": config_file, "--heldout": tmp_path / "heldout", "--output": tmp_path / "out"}
    assert evaluate(*(text for pair in how.items() for text in pair)).exit_code == 0
    inside = shutil.copytree(how.get(option, model), tmp_path / "out/inside")
    done = evaluate(*(text for pair in (how | {option: inside}).items() for text in pair))
    assert done.exit_code == 2
    assert "which is written anew. Move it" in done.output
    assert (tmp_path / "out/report.html").is_file()


def test_an_output_that_is_a_file_is_one_message(config_file: Path, model: Path):
    done = evaluate("--model", model, "--config", config_file, "--output", config_file)
    assert (done.exit_code, "is a file. Give a folder" in done.output) == (2, True)


def test_the_published_model_is_measured_too(config_file: Path, model: Path, tmp_path: Path):
    text = config_file.read_text().replace("  {window", f"  {{published: {model}, window")
    config_file.write_text(text)
    write_documents(tmp_path / "heldout", [document(TEXTS[1])])
    how = ("--config", config_file, "--heldout", tmp_path / "heldout", "--output", tmp_path / "out")
    done = evaluate("--model", model, "--base", model, *how)
    assert done.exit_code == 0, done.output
    report = EvaluationReport.model_validate(json.loads((tmp_path / "out/report.json").read_text()))
    assert [found.name for found in report.models] == ["base", "published", "evaluated"]
    assert report.beats_published is False


def damaged(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_model_is_one_message_with_its_fix(config_file: Path, model: Path, tmp_path: Path, name: str):
    damaged(model / name)
    write_documents(tmp_path / "heldout", [document(TEXTS[1])])
    how = ("--config", config_file, "--heldout", tmp_path / "heldout", "--output", tmp_path / "out")
    done = evaluate("--model", model, "--base", model, *how)
    assert done.exit_code == 2, done.output
    assert "anew" in done.output
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_is_one_message_and_nothing_is_read(config_file: Path, tmp_path: Path):
    done = evaluate("--model", tmp_path / "gone", "--config", config_file, "--output", tmp_path / "out")
    assert done.exit_code == 2
    assert "gone" in done.output
    assert not (tmp_path / "out").exists()


def test_a_train_folder_without_a_heldout_folder_is_refused(config_file: Path, tmp_path: Path):
    done = evaluate("--model", "x", "--config", config_file, "--train", tmp_path, "--output", tmp_path / "out")
    assert done.exit_code == 2
    assert "--train belongs to --heldout" in done.output
